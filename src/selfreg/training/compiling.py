"""`training.compile`: the losses, or the network too, through `torch.compile`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from selfreg.messages import one_line


def compiled(function: Callable[..., Any], device: torch.device, *, replay: bool = True) -> Callable[..., Any]:
    """Compile a function that is called once for a batch.

    On a GPU the kernels are recorded and replayed together (CUDA graphs): launched one by one from compiled code, they
    made a step slower than without a compiler. Its results, and the gradients of parameters that it uses, are valid
    until the next batch begins.

    Args:
        function: What to compile.
        device: The device of the training.
        replay: False where gradients of parameters are added up over batches.
    """
    options: dict[str, Any] = {"mode": "reduce-overhead"} if device.type == "cuda" and replay else {}
    result: Callable[..., Any] = torch.compile(function, **options)
    return result


def begin_compiled_batch(device: torch.device) -> None:
    """Let a GPU overwrite the results of the compiled functions of the last batch."""
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
        replayed = "CUDAGraphs" in str(error)
        if compiled == "none" or not (replayed or _is_of_the_compiler(error)):
            raise
        remedy = "set it to none"
        if not replayed:
            remedy += ", or install what torch.compile needs (a C++ compiler on a CPU, Triton on a GPU)"
        raise ValueError(f"training.compile: torch.compile failed ({one_line(error)}); {remedy}") from None


def _is_of_the_compiler(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException  # takes a second to import

    return isinstance(error, TorchDynamoException)
