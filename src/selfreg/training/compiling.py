"""`training.compile`: the losses, or the network too, through `torch.compile`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from selfreg.messages import one_line


def compiled(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Compile a function that a training step calls once.

    On a GPU the kernels are recorded and replayed together (CUDA graphs): launched one by one from compiled code, they
    made a step slower than without a compiler. Its results are valid until the next step begins.
    """
    options: dict[str, Any] = {"mode": "reduce-overhead"} if device.type == "cuda" else {}
    result: Callable[..., Any] = torch.compile(function, **options)
    return result


def begin_compiled_step(device: torch.device) -> None:
    """Let a GPU overwrite the results of the compiled functions of the last step."""
    if device.type == "cuda":
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]


@contextmanager
def explaining_failures(compiled: str) -> Iterator[None]:
    """Raise ValueError where `torch.compile` fails, such as for want of a C++ compiler.

    Args:
        compiled: The value of `training.compile`.
    """
    try:
        yield
    except RuntimeError as error:
        if compiled == "none" or not _is_of_the_compiler(error):
            raise
        raise ValueError(
            f"training.compile: torch.compile failed ({one_line(error)}); set it to none, or install what "
            "torch.compile needs (a C++ compiler on a CPU, Triton on a GPU)"
        ) from None


def _is_of_the_compiler(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    return isinstance(error, TorchDynamoException) or "CUDAGraphs" in str(error)
