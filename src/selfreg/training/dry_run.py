"""`selfreg train --dry-run`: one step, and what a whole run would take."""

import sys
import time
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from selfreg.config import Config
from selfreg.regulation import MultiExit, Taps
from selfreg.training.optimiser import make_optimizer, parameter_groups
from selfreg.training.preparation import prepare
from selfreg.training.progress import Announce, announce_on_stdout, in_words
from selfreg.training.task import SegmentationTask

# batch norm over a pooled map needs two images
_STEP_IMAGES = 2


@dataclass(frozen=True)
class DryRun:
    """What one step showed.

    Memory in bytes, time in seconds; `images` of the batch were used where there is no GPU. `terms` are the raw terms
    of the loss.
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
        scaled = self.batch_size / self.images
        terms = ", ".join(f"{name} {value:.3f}" for name, value in self.terms.items())
        return [
            *([] if self.taps is None else [str(self.taps), ""]),
            f"parameters       {self.parameters / 1e6:.2f} M; exits in training {self.exit_parameters / 1e6:.2f} M",
            f"loss             {self.loss:.3f} ({terms})",
            f"one step         {self.step_seconds:.2f} s and {_in_gib(self.memory)} for {self.images} images",
            f"whole batch      about {scaled * self.step_seconds:.2f} s and {_in_gib(scaled * self.memory)} for "
            f"{self.batch_size} images",
            f"steps per epoch  {self.steps_per_epoch}",
            f"whole run        estimated training time: {in_words(self.total_seconds)} on one device of this machine",
        ]


def dry_run(config: Config, *, allow_code: bool = False, announce: Announce = announce_on_stdout) -> DryRun:
    """Do all that a run does before its first epoch, take one step, and write nothing.

    The network gets its first weights, pretrained ones included (they may be downloaded), all data are read once, and
    the network runs at the sizes of training and validation. On a GPU the step has the whole batch, elsewhere two
    images, and the rest is scaled from them.

    Args:
        config: What would be trained.
        allow_code: Let `data.augmentation` import the code that it names.
        announce: Called with the line that says what weights another run has given.

    Raises:
        ValueError: Data, weights, taps or a network that do not fit.
    """
    config = config.model_copy(update={"training": config.training.model_copy(update={"workers": 0})})
    prepared = prepare(config, allow_code=allow_code, announce=announce)
    # warm-up is left out, so that the step costs what most steps cost
    method = replace(config.method, warm_up=0.0)
    num_classes = prepared.info.num_classes
    task = SegmentationTask(
        config.model_copy(update={"method": method}), prepared.network, num_classes, total_steps=prepared.total_steps
    )
    task.set_class_weights(prepared.class_weights)
    training = config.training
    on_gpu = torch.cuda.is_available() and training.accelerator != "cpu"
    device = torch.device("cuda" if on_gpu else "cpu")
    images = training.batch_size if on_gpu else min(_STEP_IMAGES, training.batch_size)
    crops = {key: value for key, value in next(iter(prepared.loader)).items() if "pixels" not in key}
    memory, seconds, loss, terms = _step(
        task.to(device), {key: value[:images].to(device) for key, value in crops.items()}, config
    )
    inner = {id(parameter) for parameter in task.network.parameters()}
    images_per_step = training.batch_size * training.accumulate
    return DryRun(
        parameters=sum(parameter.numel() for parameter in task.network.parameters()),
        exit_parameters=sum(parameter.numel() for parameter in task.parameters() if id(parameter) not in inner),
        taps=task.model.taps if isinstance(task.model, MultiExit) else None,
        images=images,
        batch_size=training.batch_size,
        memory=memory,
        step_seconds=seconds,
        steps_per_epoch=prepared.steps_per_epoch,
        total_seconds=prepared.total_steps * seconds * images_per_step / images,
        loss=loss,
        terms=terms,
    )


def _in_gib(memory: float) -> str:
    return f"{memory / 2**30:.2f} GiB"


def _step(
    task: SegmentationTask, batch: dict[str, Tensor], config: Config
) -> tuple[int, float, float, dict[str, float]]:
    training = config.training
    exits = [parameter for name, parameter in task.named_parameters() if ".exits." in f".{name}"]
    optimizer = make_optimizer(parameter_groups(task.network, exits, training), training)
    task.train()
    before = _peak(batch["image"])
    clock = time.perf_counter()
    loss, raw = task.loss_of(batch, progress=0.0)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    value = float(loss.detach())
    terms = {name: float(term.detach()) for name, term in raw.items()}
    return _peak(batch["image"]) - before, time.perf_counter() - clock, value, terms


def _peak(tensor: Tensor) -> int:
    if tensor.is_cuda:
        return torch.cuda.max_memory_allocated(tensor.device)
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
