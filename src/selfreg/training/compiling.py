"""`training.compile`: the losses, or the network too, through `torch.compile`."""

from collections.abc import Iterator
from contextlib import contextmanager

from selfreg.messages import one_line


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

    return isinstance(error, TorchDynamoException)
