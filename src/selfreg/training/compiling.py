"""`training.compile`: the losses, or the network too, through `torch.compile`; or the whole step as a CUDA graph."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch

from selfreg.config import Config
from selfreg.messages import one_line
from selfreg.opening import device_of


def compiled(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Compile a function that is called once in a training step.

    On a GPU its kernels are replayed as one CUDA graph: launched one by one by compiled code, they take a slow
    processor longer than without a compiler. What it returns is overwritten by the next step.
    """
    options: dict[str, Any] = {"mode": "reduce-overhead"} if device.type == "cuda" else {}
    result: Callable[..., Any] = torch.compile(function, **options)
    return result


def check_compile(config: Config, trainer: L.Trainer) -> None:
    """Raise ValueError where a step cannot be recorded as a CUDA graph: without a GPU, or with several processes."""
    if config.training.compile != "graph":
        return
    if device_of(config).type != "cuda":
        raise ValueError(
            "training.compile graph records CUDA graphs, and this is not a training on a GPU: set it to none"
        )
    if trainer.world_size > 1:
        raise ValueError("training.compile graph works in one process; with several, use none, losses or all")


@contextmanager
def explaining_failures(value: str) -> Iterator[None]:
    """Raise ValueError where `torch.compile` fails, such as for want of a C++ compiler.

    Args:
        value: The value of `training.compile`.
    """
    try:
        yield
    except RuntimeError as error:
        if value == "none" or not _is_of_the_compiler(error):
            raise
        raise ValueError(
            f"training.compile: torch.compile failed ({one_line(error)}); set it to none, or install what "
            "torch.compile needs (a C++ compiler on a CPU, Triton on a GPU)"
        ) from None


def _is_of_the_compiler(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    return isinstance(error, TorchDynamoException)
