"""`selfreg train --dry-run`: a few steps, and what a whole run would take."""

import itertools
import math
import sys
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from selfreg.config import Config
from selfreg.opening import device_of
from selfreg.regulation import MultiExit, Taps
from selfreg.run import Run
from selfreg.training.loaders import check_batch_size
from selfreg.training.optimiser import make_optimizer
from selfreg.training.precision import autocast_type
from selfreg.training.preparation import prepare
from selfreg.training.progress import Announce, announce_on_stdout, in_words
from selfreg.training.task import SegmentationTask
from selfreg.training.trainer import make_trainer
from selfreg.training.unread_loss import broken_loss

# batch norm over a pooled map needs two images
_FIRST_IMAGES = 2
# of the memory that is available, the share that a step of the whole batch may take
_MEMORY_SHARE = 0.5
# steps are measured until there are so many, or until so many seconds have passed
_MEASURED_STEPS = 3
_MEASURING_SECONDS = 20.0


@dataclass(frozen=True)
class DryRun:
    """Measurements of a few training steps.

    Attributes:
        parameters: Parameters of the plain network.
        exit_parameters: Parameters of the exits.
        taps: Stages with exits; None in the arm `base`.
        images: Images of the measured steps, fewer than `batch_size` if the whole batch might not fit into memory.
        batch_size: Images of a training batch.
        memory: Memory of a step in bytes.
        step_seconds: Time of the fastest measured step.
        steps_per_epoch: Optimizer steps of an epoch.
        total_seconds: Estimated time of all training steps; validation is not included.
        loss: Total loss of the last step.
        terms: Raw terms of this loss.
    """

    parameters: int
    exit_parameters: int
    taps: Taps | None
    images: int
    batch_size: int
    memory: int
    step_seconds: float
    steps_per_epoch: int
    total_seconds: float
    loss: float
    terms: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The findings as plain data; taps by name."""
        taps = None if self.taps is None else list(self.taps.names)
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"taps": taps}

    def lines(self) -> list[str]:
        """The findings, a line each."""
        terms = ", ".join(f"{name} {value:.3f}" for name, value in self.terms.items())
        return [
            *([] if self.taps is None else [*str(self.taps).splitlines(), ""]),
            f"parameters       {self.parameters / 1e6:.2f} M; exits in training {self.exit_parameters / 1e6:.2f} M",
            f"loss             {self.loss:.3f} ({terms})",
            f"one step         {_in_seconds(self.step_seconds)} and {_in_gib(self.memory)} for {self.images} images",
            *self._scaled_line(),
            f"steps per epoch  {self.steps_per_epoch}",
            f"whole run        estimated training time: {in_words(self.total_seconds)} on one device of this machine, "
            "without validation",
        ]

    def _scaled_line(self) -> list[str]:
        """Estimate for the whole batch, where fewer images were measured."""
        if self.images == self.batch_size:
            return []
        scaled = self.batch_size / self.images
        seconds, memory = scaled * self.step_seconds, _in_gib(scaled * self.memory)
        return [f"whole batch      about {_in_seconds(seconds)} and {memory} for {self.batch_size} images"]


def dry_run(config: Config, *, allow_code: bool = False, announce: Announce = announce_on_stdout) -> DryRun:
    """Do everything that a run does before its first epoch, measure a few steps, and write nothing.

    The network gets its initial weights, including pretrained ones (they may be downloaded), all data are read once,
    and the network runs at the sizes of training and validation. Steps are measured after a warm-up step, with the
    whole batch on a GPU and wherever it fits into half of the available memory, otherwise with two images.

    Args:
        config: Configuration of the run.
        allow_code: Allow `data.augmentation` to import its code.
        announce: Called with the line that says which weights of another run are used.

    Raises:
        ValueError: Data, weights, taps or network do not fit together, or the training would be refused or stopped.
    """
    config = config.model_copy(update={"training": config.training.model_copy(update={"workers": 0, "loggers": []})})
    # refuses the devices, strategies and precisions that a training refuses
    trainer = make_trainer(config, Run(Path()), announce, progress_bar=False)
    check_batch_size(config.training.batch_size, trainer.world_size)
    prepared = prepare(config, allow_code=allow_code, announce=announce)
    # warm-up is left out, so that the step costs what most steps cost
    method = replace(config.method, warm_up=0.0)
    num_classes = prepared.info.num_classes
    task = SegmentationTask(
        config.model_copy(update={"method": method}), prepared.network, num_classes, total_steps=prepared.total_steps
    )
    task.set_class_weights(prepared.class_weights)
    training = config.training
    task = task.to(device_of(config))
    crops = {key: value for key, value in next(iter(prepared.loader)).items() if "pixels" not in key}
    measured = _measure(task, crops, config)
    inner = {id(parameter) for parameter in task.network.parameters()}
    images_per_step = training.batch_size * training.accumulate
    return DryRun(
        parameters=sum(parameter.numel() for parameter in task.network.parameters()),
        exit_parameters=sum(parameter.numel() for parameter in task.parameters() if id(parameter) not in inner),
        taps=task.model.taps if isinstance(task.model, MultiExit) else None,
        images=measured.images,
        batch_size=training.batch_size,
        memory=measured.memory,
        step_seconds=measured.seconds,
        steps_per_epoch=prepared.steps_per_epoch,
        total_seconds=prepared.total_steps * measured.seconds * images_per_step / measured.images,
        loss=measured.loss,
        terms=measured.terms,
    )


def _in_seconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


def _in_gib(memory: float) -> str:
    return f"{memory / 2**30:.2f} GiB"


@dataclass(frozen=True)
class _Measured:
    """The fastest of several steps with so many images; loss and terms of the last one."""

    images: int
    memory: int
    seconds: float
    loss: float
    terms: dict[str, float]


def _measure(task: SegmentationTask, crops: dict[str, Tensor], config: Config) -> _Measured:
    training = config.training
    optimizer = make_optimizer(task.model, training)
    task.train()
    precision, numbers = autocast_type(config), itertools.count()
    device = next(task.parameters()).device

    def step(images: int) -> tuple[float, float, dict[str, float]]:
        number, batch = next(numbers), {key: value[:images].to(device) for key, value in crops.items()}
        clock = time.perf_counter()
        value, raw = take_step(task, optimizer, batch, precision)
        if not math.isfinite(value):
            raise ValueError(broken_loss(raw, step=number, skipped=0, images="those of the first batch"))
        return time.perf_counter() - clock, value, {name: float(term.detach()) for name, term in raw.items()}

    before = _peak(device)
    first = training.batch_size if device.type == "cuda" else min(_FIRST_IMAGES, training.batch_size)
    # the first step is a warm-up: libraries choose their kernels and allocate their memory
    step(first)
    expected = (_peak(device) - before) * training.batch_size / first
    fits = device.type == "cuda" or expected <= _MEMORY_SHARE * psutil.virtual_memory().available
    images = training.batch_size if fits else first
    found = [step(images)]
    while len(found) < _MEASURED_STEPS and sum(seconds for seconds, _, _ in found) < _MEASURING_SECONDS:
        found.append(step(images))
    _, loss, terms = found[-1]
    return _Measured(images, _peak(device) - before, min(seconds for seconds, _, _ in found), loss, terms)


def take_step(
    task: SegmentationTask,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    autocast: torch.dtype | None = None,
) -> tuple[float, dict[str, Tensor]]:
    """Take a training step at the end of the warm-up, and wait for it.

    Args:
        task: In training mode.
        optimizer: Of `make_optimizer`.
        batch: On the device of the task.
        autocast: Type of mixed precision; None for none.

    Returns:
        The total loss and its raw terms.
    """
    optimizer.zero_grad()
    with torch.autocast(batch["image"].device.type, autocast, enabled=autocast is not None):
        loss, raw = task.loss_of(batch, progress=1.0)
    # as in the training, where float16 needs it
    scaler = torch.amp.GradScaler(batch["image"].device.type, enabled=autocast is torch.float16)
    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    scaler.step(optimizer)
    # reading the loss waits for a GPU
    return float(loss.detach()), raw


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
