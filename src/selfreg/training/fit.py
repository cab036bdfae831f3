"""One training run, from a configuration to a folder with weights."""

import math
import platform
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch

from selfreg.config import Config
from selfreg.data.source import item_name
from selfreg.messages import one_line, raised_in
from selfreg.run import Run
from selfreg.training.checkpoints import Checkpoints
from selfreg.training.compiling import explaining_failures
from selfreg.training.optimiser import poly_schedule
from selfreg.training.preparation import Preparation, prepare
from selfreg.training.processes import ending_together, share_batch_norm
from selfreg.training.progress import Announce, announce_on_stdout
from selfreg.training.resuming import longer_config, read_place, refuse_other_config, restoring, state_of
from selfreg.training.task import SegmentationTask
from selfreg.training.trainer import make_trainer, quiet_lightning


def train(
    config: Config,
    folder: Path,
    *,
    resume: bool = False,
    extra_epochs: int | None = None,
    allow_code: bool = False,
    progress_bar: bool = True,
    announce: Announce = announce_on_stdout,
) -> Run:
    """Train a network into a folder of its own.

    A finished run is returned unchanged. With several processes (`training.devices`, `training.num_nodes`), each of
    them calls this function; the first one checks the data and writes the files.

    Args:
        config: Configuration of the run.
        folder: Folder of the run.
        resume: Continue from the last finished epoch if the folder contains a run.
        extra_epochs: Extend the finished run in the folder by this number of epochs (see `longer_config`).
        allow_code: Allow `data.augmentation` to import its code.
        progress_bar: Show a progress bar for the batches of an epoch.
        announce: Called with each line of output: a summary of the run, then one line per epoch.

    Raises:
        ValueError: Data, taps, network or folder cannot be used; raised before anything is written.
        ConnectionError: Another process failed.
    """
    quiet_lightning()
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    trainer = make_trainer(config, Run(folder), announce, progress_bar=progress_bar)
    first, extended = trainer.is_global_zero, extra_epochs is not None
    if extra_epochs is not None:
        config, resume = longer_config(Run.open(folder), config, extra_epochs, first=first), True
    tell: Announce = announce if first else _silent
    started = Run.open(folder) if Run.exists(folder) else None
    # the others may find what the first one has just written
    if started is not None and (first or resume):
        if not resume:
            raise ValueError(f"{folder}: holds a run already; continue it with --resume, or choose another --out")
        if not extended:
            refuse_other_config(started, config)
            if started.summary() is not None:
                return started
    with ExitStack() as held:
        if started is not None and first:
            held.enter_context(started.lock())
        prepared = prepare(
            config,
            announce=tell,
            allow_code=allow_code,
            started=started,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        task = _task(config, prepared, trainer)
        if started is None and first:
            # nothing is written before all of this has gone well
            held.enter_context(Run(folder).lock())
        run = started or (Run.create(folder, config, prepared.info) if first else Run(folder))
        checkpoint = state_of(started, extended=extended) if started is not None else None
        tell(_overview(config, prepared))
        if checkpoint is not None:
            tell(_continuation(checkpoint, config, task.total_steps))
        if extended and first:
            run.extend(config)
        clock = time.perf_counter()
        with ending_together(trainer):
            _fit(trainer, task, prepared, checkpoint)
        if first:
            seconds = time.perf_counter() - clock
            run.write_summary(_summary(trainer, task, prepared, seconds, resumed=checkpoint is not None))
    return run


def _silent(line: str) -> None:
    """Ignore a line of output."""


def _task(config: Config, prepared: Preparation, trainer: L.Trainer) -> SegmentationTask:
    task = SegmentationTask(config, prepared.network, prepared.info.num_classes, total_steps=prepared.total_steps)
    task.image_name = partial(item_name, prepared.train_source)
    task.set_class_weights(prepared.class_weights)
    if config.training.sync_batch_norm and trainer.world_size > 1 and trainer.strategy.root_device.type == "cuda":
        task.model = share_batch_norm(task.model)
    return task


def _overview(config: Config, prepared: Preparation) -> str:
    """Describe the run in one line."""
    network = config.network
    if network.from_run is not None:
        weights = f"weights of {network.from_run}"
    elif network.pretrained is False:
        weights = "random weights (network.pretrained: false)"
    else:
        weights = f"pretrained weights (network.pretrained: {str(network.pretrained).lower()})"
    epochs = f"{prepared.epochs} epoch{'s' if prepared.epochs != 1 else ''}"
    return (
        f"{network.name}, {weights}, arm {config.method.arm}: {prepared.info.num_classes} classes, "
        f"{len(prepared.train_source)} images, {prepared.total_steps} steps in {epochs}"
    )


def _continuation(checkpoint: Path, config: Config, total_steps: int) -> str:
    """Describe where a resumed run continues, and with which learning rate."""
    epoch, step = read_place(checkpoint, total_steps)
    training = config.training
    factor = poly_schedule(total_steps, training.poly_power, training.linear_warm_up_steps)(step)
    return (
        f"going on after epoch {epoch}, step {step} of {total_steps}; the learning rate there is "
        f"{factor * training.learning_rate:.3g}, by the schedule of {total_steps} steps"
    )


def _fit(trainer: L.Trainer, task: SegmentationTask, prepared: Preparation, checkpoint: Path | None) -> None:
    trainer.fit_loop.max_epochs = prepared.epochs
    trainer.log_every_n_steps = min(10, prepared.steps_per_epoch)  # type: ignore[attr-defined]
    try:
        with explaining_failures(task.config.training.compile), restoring(checkpoint):
            trainer.fit(task, prepared.loader, prepared.validation, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:
        # Lightning's own answer to a signal
        raise KeyboardInterrupt from None
    except RuntimeError as error:
        if not raised_in(error, "torch.utils.data.dataloader", "torch.utils.data._utils.signal_handling"):
            raise
        raise ChildProcessError(
            f"a loading process died ({one_line(error)}), most often because memory ran out; set "
            "training.workers lower and continue with --resume"
        ) from None


def _summary(
    trainer: L.Trainer, task: SegmentationTask, prepared: Preparation, seconds: float, *, resumed: bool
) -> dict[str, Any]:
    checkpoints = next(callback for callback in trainer.callbacks if isinstance(callback, Checkpoints))  # type: ignore[attr-defined]
    miou = checkpoints.miou
    return {
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "steps_per_epoch": prepared.steps_per_epoch,
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
