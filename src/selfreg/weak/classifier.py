"""The classifier stage: trained on image-level tags; a checkpoint per epoch lets an interrupted stage continue."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress, TextColumn
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from selfreg.config import Config, TrainingConfig
from selfreg.data import SeededSampler, TrainingSet
from selfreg.files import whole_file, write_json
from selfreg.networks import preprocessing
from selfreg.terminal import PlainConsole
from selfreg.training.optimiser import make_optimizer, poly_schedule
from selfreg.weak.classifier_network import build_classifier, class_maps, show_exits, tag_loss
from selfreg.weak.stages import Stage, restored
from selfreg.weak.tagged import ForegroundTags, TaggedImages

InputStatistics = tuple[Sequence[float], Sequence[float]]


def input_statistics(config: Config) -> InputStatistics:
    """Return mean and standard deviation of the classifier's input: configured, or those of its pretrained weights."""
    own = preprocessing(
        f"timm:{config.classifier.backbone}",
        pretrained=config.classifier.pretrained,
        **config.classifier.options,
    )
    return config.data.mean or own.mean, config.data.std or own.std


def train_classifier(config: Config, tagged: TaggedImages, stage: Stage, device: torch.device) -> None:
    """Train the classifier into its stage; an interrupted stage continues from its last epoch, bit for bit.

    Raises:
        ValueError: For a backbone, weights or taps that do not fit, fewer images than one batch, or a loss that is not
            finite.
    """
    if stage.done:
        return
    options = config.classifier
    classifier = build_classifier(options, len(tagged.foreground), config.seed).to(device)
    loader, sampler = _loader(config, tagged)
    optimizer, schedule = _optimizer(config, classifier, steps=len(loader) * options.epochs)
    first, history = _resume(stage, classifier, optimizer, schedule)
    with Progress(
        *Progress.get_default_columns(),
        TextColumn("{task.fields[loss]}"),
        console=PlainConsole(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task(stage.name, total=len(loader) * options.epochs, completed=len(loader) * first, loss="")
        for epoch in range(first, options.epochs):
            sampler.set_epoch(epoch)
            classifier.train()
            losses = []
            for step, batch in enumerate(loader):
                # dropout depends on the seed and the step only, so that a resumed stage draws the same
                torch.manual_seed(config.seed * 1_000_003 + epoch * len(loader) + step)
                loss = tag_loss(class_maps(classifier, batch["image"].to(device)), batch["tags"].to(device))
                if not torch.isfinite(loss):
                    raise ValueError(
                        f"the classifier's loss is not finite in epoch {epoch}: lower classifier.learning_rate"
                    )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                losses.append(float(loss.detach()))
                progress.update(task, advance=1, loss=f"epoch {epoch + 1}, loss {losses[-1]:.3f}")
            history.append(sum(losses) / len(losses))
            _save(stage, epoch, classifier, optimizer, schedule, history)
    write_json(stage.path("loss.json"), history)
    stage.finish()


def load_classifier(config: Config, tagged: TaggedImages, stage: Stage, device: torch.device) -> nn.Module:
    """Load the trained classifier of a stage, in eval mode with its exits running."""
    classifier = build_classifier(config.classifier, len(tagged.foreground), config.seed, pretrained=False)
    restored(_checkpoint(stage), lambda state: classifier.load_state_dict(state["classifier"]))
    return show_exits(classifier.to(device))


def _loader(config: Config, tagged: TaggedImages) -> tuple[DataLoader[dict[str, Any]], SeededSampler]:
    options = config.classifier
    mean, std = input_statistics(config)
    crops = TrainingSet(
        ForegroundTags(tagged),
        options.crop_size,
        scale=options.scale,
        colour=options.colour,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        with_tags=True,
    )
    batch_size, workers = options.batch_size, config.training.workers
    sampler = SeededSampler(len(tagged), config.seed, batch_size=batch_size)
    loader = DataLoader(
        crops, batch_size=batch_size, sampler=sampler, num_workers=workers, persistent_workers=workers > 0
    )
    return loader, sampler


def _optimizer(config: Config, classifier: nn.Module, steps: int) -> tuple[torch.optim.Optimizer, LambdaLR]:
    options = config.classifier
    training = TrainingConfig(
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        head_learning_rate_factor=options.head_learning_rate_factor,
        weight_decay=options.weight_decay,
    )
    optimizer = make_optimizer(classifier, training)
    return optimizer, LambdaLR(optimizer, poly_schedule(steps, training.poly_power, 0))


def _save(
    stage: Stage,
    epoch: int,
    classifier: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: LambdaLR,
    history: list[float],
) -> None:
    state = {
        "epochs": epoch + 1,
        "classifier": classifier.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "history": history,
    }
    with whole_file(_checkpoint(stage)) as temporary:
        torch.save(state, temporary)


def _resume(
    stage: Stage, classifier: nn.Module, optimizer: torch.optim.Optimizer, schedule: LambdaLR
) -> tuple[int, list[float]]:
    """Restore the state of the stage; return the number of finished epochs and their losses."""
    if not _checkpoint(stage).exists():
        return 0, []

    def restore(state: dict[str, Any]) -> tuple[int, list[float]]:
        classifier.load_state_dict(state["classifier"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        return int(state["epochs"]), [float(loss) for loss in state["history"]]

    return restored(_checkpoint(stage), restore)


def _checkpoint(stage: Stage) -> Path:
    return stage.path("classifier.pt")
