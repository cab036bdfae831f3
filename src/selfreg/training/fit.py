"""One training run, from a configuration to a folder with weights."""

import logging
import math
import platform
import time
import warnings
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from selfreg.config import Config
from selfreg.data import Source, in_class_order
from selfreg.data.source import HasFiles, item_name
from selfreg.messages import one_line, raised_in
from selfreg.opening import build_from_config, input_statistics, open_split, open_training_split
from selfreg.run import Run, RunInfo
from selfreg.training.checkpoints import Checkpoints
from selfreg.training.loaders import training_loader, validation_loader
from selfreg.training.processes import check_strategy, ending_together, share_batch_norm
from selfreg.training.survey import balanced_weights, survey
from selfreg.training.task import SegmentationTask

# keys that say where a run computes, not what: they may change between start and resumption
_PLACE_KEYS = ("threads", "workers", "accelerator", "devices", "num_nodes", "strategy")
# sections that `selfreg pseudo` reads and training does not
_PSEUDO_SECTIONS = ("classifier", "cam", "refinement", "pseudo")


def _quiet_lightning() -> None:
    """Leave out Lightning's remarks on hardware and its own products; warnings about the training stay."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in (
        ".*LeafSpec.*",
        ".*does not have many workers.*",
        ".*Precision .* is not supported.*",
        ".*litlogger.*",
        # validation is summed over the processes before it is logged
        ".*sync_dist=True.*",
        ".*`training_step` returned `None`.*",
    ):
        warnings.filterwarnings("ignore", message)


def train(config: Config, folder: Path, *, resume: bool = False, progress_bar: bool = True) -> Run:
    """Train what `config` says into `folder`; with `resume`, go on from the last finished epoch.

    A run that has ended already is given back as it is. Where several processes train (`training.devices`,
    `training.num_nodes`), every one of them calls this; the first one checks the data and writes, the others compute.
    Raises ValueError, before anything is written, for data, tap names, a network or a folder that do not fit, and
    ConnectionError where another process has failed.
    """
    _quiet_lightning()
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    trainer = _make_trainer(config, Run(folder), progress_bar)
    first = trainer.is_global_zero
    started = Run.open(folder) if Run.exists(folder) else None
    # the others may find what the first one has just written
    if started is not None and (first or resume):
        if not resume:
            raise ValueError(f"{folder}: holds a run already; go on with --resume, or choose another --out")
        refuse_other_config(started, config)
        if started.summary() is not None:
            return started
    with ExitStack() as held:
        if started is not None and first:
            held.enter_context(started.lock())
        train_source, val_source = _open_splits(config)
        info = started.info() if started is not None else describe(config, train_source)
        # the data of a resumed run may name its classes in another order
        owner = f"{folder}: the run"
        train_source = in_class_order(train_source, info.class_names, owner)
        val_source = in_class_order(val_source, info.class_names, owner)
        checkpoint = started.state_to_resume() if started is not None else None
        task, loaders = _prepare(config, info, train_source, val_source, trainer)
        if started is None and first:
            # nothing is written before all of this has gone well
            held.enter_context(Run(folder).lock())
        run = started or (Run.create(folder, config, info) if first else Run(folder))
        trainer.log_every_n_steps = min(10, len(loaders[0]))  # type: ignore[attr-defined]
        clock = time.perf_counter()
        with ending_together(trainer):
            _fit(trainer, task, loaders, checkpoint)
        if first:
            run.write_summary(_summary(trainer, task, time.perf_counter() - clock, resumed=checkpoint is not None))
    return run


def _fit(trainer: L.Trainer, task: SegmentationTask, loaders: tuple[Any, Any], checkpoint: Path | None) -> None:
    try:
        trainer.fit(task, *loaders, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        # Lightning's own answer to a signal
        raise KeyboardInterrupt from None
    except RuntimeError as error:
        if not raised_in(error, "torch.utils.data.dataloader", "torch.utils.data._utils.signal_handling"):
            raise
        raise ChildProcessError(
            f"a loading process died ({one_line(error)}), most often for want of memory; set "
            "training.workers lower and go on with --resume"
        ) from None


def _open_splits(config: Config) -> tuple[Source, Source]:
    train_source = open_training_split(config)
    val_source = open_split(config, config.data.val_split)
    owner = f"{config.data.val_split}: the split {config.data.train_split}"
    return train_source, in_class_order(val_source, train_source.labels.class_names, owner)


def describe(config: Config, source: Source) -> RunInfo:
    """What a run keeps of its data and its input."""
    mean, std = input_statistics(config)
    packages = {
        name: version(name) for name in ("selfreg", "torch", "lightning", "timm", "segmentation-models-pytorch")
    }
    palette = tuple((int(red), int(green), int(blue)) for red, green, blue in source.labels.palette)
    return RunInfo(tuple(source.labels.class_names), palette, mean, std, packages)


def _prepare(
    config: Config, info: RunInfo, train_source: Source, val_source: Source, trainer: L.Trainer
) -> tuple[SegmentationTask, tuple[Any, Any]]:
    place = {"rank": trainer.global_rank, "world_size": trainer.world_size}
    loader = training_loader(config, train_source, info, **place)
    validation = validation_loader(config, val_source, info, **place)
    network = build_from_config(config, info.num_classes)
    total_steps = len(loader) * config.training.epochs
    task = SegmentationTask(config, network, info.num_classes, total_steps=total_steps)
    task.image_name = partial(item_name, train_source)
    if config.training.sync_batch_norm and trainer.world_size > 1 and trainer.strategy.root_device.type == "cuda":
        task.model = share_batch_norm(task.model)
    # the data are read last, since that takes longest
    if trainer.is_global_zero:
        balanced = config.training.class_weights == "balanced"
        if balanced or isinstance(train_source, HasFiles):
            pixels = survey(train_source, "checking training data")
            task.set_class_weights(balanced_weights(pixels) if balanced else None)
        if isinstance(val_source, HasFiles):
            survey(val_source, "checking validation data")
    return task, (loader, validation)


def refuse_other_config(run: Run, config: Config) -> None:
    """Raise ValueError where a run was started with another configuration than this, but for where it computes."""
    stored, given = run.config().model_dump(mode="json"), config.model_dump(mode="json")
    for section in stored:
        if section in _PSEUDO_SECTIONS:
            continue
        old, new = stored[section], given[section]
        if not isinstance(old, dict):
            old, new = {"": old}, {"": new}
        for key in old:
            if old[key] != new[key] and key not in _PLACE_KEYS:
                name = f"{section}.{key}".rstrip(".")
                raise ValueError(
                    f"{run.folder}: started with {name} = {old[key]!r}, now {new[key]!r}; resume with the "
                    "configuration of the run, or train into another --out"
                )


def _make_trainer(config: Config, run: Run, progress_bar: bool) -> L.Trainer:
    try:
        trainer = _trainer(config, run, progress_bar)
    except MisconfigurationException as error:
        raise ValueError(f"training.accelerator, devices, num_nodes, strategy: {one_line(error)}") from None
    check_strategy(trainer, config.training.strategy)
    return trainer


def _trainer(config: Config, run: Run, progress_bar: bool) -> L.Trainer:
    training = config.training
    callbacks: list[Callback] = [Checkpoints(run), LearningRateMonitor("epoch")]
    if progress_bar:
        callbacks.append(RichProgressBar(leave=True))
    # a resumed run logs beside the interrupted one, which the CSV logger would otherwise delete
    attempt = run.next_attempt
    logs = str(run.log_folder)
    return L.Trainer(
        accelerator=training.accelerator,
        devices=training.devices,
        num_nodes=training.num_nodes,
        strategy=training.strategy,
        precision=_precision(training.precision, training.accelerator),
        max_epochs=training.epochs,
        gradient_clip_val=training.gradient_clip,
        check_val_every_n_epoch=training.validate_every,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=[CSVLogger(logs, name="", version=attempt), TensorBoardLogger(logs, name="", version=attempt)],
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
        # Lightning looks for states of its own in there, by default in the folder where one happens to be
        default_root_dir=run.folder,
    )


def _precision(name: str, accelerator: str) -> Any:
    if name != "auto":
        return "32-true" if name == "32" else name
    if accelerator == "cpu" or not torch.cuda.is_available():
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


def _summary(trainer: L.Trainer, task: SegmentationTask, seconds: float, *, resumed: bool) -> dict[str, Any]:
    checkpoints = next(callback for callback in trainer.callbacks if isinstance(callback, Checkpoints))  # type: ignore[attr-defined]
    miou = checkpoints.miou
    return {
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "seconds": round(seconds, 1),
        "resumed": resumed,
        "best_miou": checkpoints.best_miou,
        "best_epoch": checkpoints.best_epoch,
        "last_miou": miou if miou is not None and math.isfinite(miou) else None,
        "skipped_batches": task.skipped_batches,
        "parameters": sum(parameter.numel() for parameter in task.network.parameters()),
        "device": str(trainer.strategy.root_device),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }
