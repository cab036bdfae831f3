"""`selfreg train --dry-run`: one step, and what a whole run would take."""

import sys
import time
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from selfreg.config import Config
from selfreg.networks import build_network
from selfreg.opening import open_split, open_training_split
from selfreg.regulation import MultiExit, Taps
from selfreg.training.fit import describe
from selfreg.training.loaders import training_loader
from selfreg.training.optimiser import make_optimizer, parameter_groups
from selfreg.training.task import SegmentationTask

# batch norm over a pooled map needs two images
_STEP_IMAGES = 2


@dataclass(frozen=True)
class DryRun:
    """What one step showed. Memory in bytes, time in seconds; `images` of the batch were used where there is no GPU."""

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

    def to_json(self) -> dict[str, Any]:
        """The findings as plain data; taps by name."""
        taps = None if self.taps is None else list(self.taps.names)
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"taps": taps}

    def lines(self) -> list[str]:
        """The findings, a line each."""
        hours = self.total_seconds / 3600
        scaled = self.batch_size / self.images
        return [
            *([] if self.taps is None else [str(self.taps), ""]),
            f"parameters       {self.parameters / 1e6:.2f} M; exits in training {self.exit_parameters / 1e6:.2f} M",
            f"one step         {self.step_seconds:.2f} s and {self.memory / 2**30:.2f} GiB for {self.images} images, "
            f"loss {self.loss:.3f}",
            f"whole batch      about {scaled * self.step_seconds:.2f} s and {scaled * self.memory / 2**30:.2f} GiB for "
            f"{self.batch_size} images",
            f"steps per epoch  {self.steps_per_epoch}",
            f"whole run        about {hours:.1f} hours on one device of this machine",
        ]


def dry_run(config: Config) -> DryRun:
    """Build the network (random weights: nothing is downloaded), load one batch, take one step.

    On a GPU the step has the whole batch, elsewhere two images, and the rest is scaled from them. Raises ValueError for
    data, taps or a network that do not fit.
    """
    source = open_training_split(config)
    open_split(config, config.data.val_split)
    config = config.model_copy(update={"training": config.training.model_copy(update={"workers": 0})})
    info = describe(config, source)
    loader = training_loader(config, source, info)
    torch.manual_seed(config.seed)
    network = build_network(config.network.name, info.num_classes, **config.network.options)
    total_steps = len(loader) * config.training.epochs
    # warm-up is left out, so that the step costs what most steps cost
    method = replace(config.method, warm_up=0.0)
    task = SegmentationTask(
        config.model_copy(update={"method": method}), network, info.num_classes, total_steps=total_steps
    )
    on_gpu = torch.cuda.is_available() and config.training.accelerator != "cpu"
    device = torch.device("cuda" if on_gpu else "cpu")
    images = config.training.batch_size if on_gpu else min(_STEP_IMAGES, config.training.batch_size)
    batch = {key: value[:images].to(device) for key, value in next(iter(loader)).items()}
    memory, seconds, loss = _step(task.to(device), batch, config)
    inner = {id(parameter) for parameter in network.parameters()}
    return DryRun(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        exit_parameters=sum(parameter.numel() for parameter in task.parameters() if id(parameter) not in inner),
        taps=task.model.taps if isinstance(task.model, MultiExit) else None,
        images=images,
        batch_size=config.training.batch_size,
        memory=memory,
        step_seconds=seconds,
        steps_per_epoch=len(loader),
        total_seconds=total_steps * seconds * config.training.batch_size / images,
        loss=loss,
    )


def _step(task: SegmentationTask, batch: dict[str, Tensor], config: Config) -> tuple[int, float, float]:
    training = config.training
    exits = [parameter for name, parameter in task.named_parameters() if ".exits." in f".{name}"]
    optimizer = make_optimizer(parameter_groups(task.network, exits, training), training)
    task.train()
    before = _peak(batch["image"])
    clock = time.perf_counter()
    loss = task.loss_of(batch, progress=0.0)[0]
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    value = float(loss.detach())
    return _peak(batch["image"]) - before, time.perf_counter() - clock, value


def _peak(tensor: Tensor) -> int:
    if tensor.is_cuda:
        return torch.cuda.max_memory_allocated(tensor.device)
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
