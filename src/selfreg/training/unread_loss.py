"""The answer to whether a loss is finite, read from the device without stopping its queue."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class UnreadLoss:
    """Whether the loss of a step was broken, on its way from the device; and what to say if it was."""

    broken: Tensor
    copied: torch.cuda.Event | None
    indices: Tensor
    terms: dict[str, Tensor]
    step: int

    @classmethod
    def of(cls, broken: Tensor, indices: Tensor, terms: dict[str, Tensor], step: int) -> "UnreadLoss":
        """Start to copy the answer, without waiting for it."""
        copied = None
        if broken.is_cuda:
            broken = torch.empty_like(broken, device="cpu", pin_memory=True).copy_(broken, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
        return cls(broken, copied, indices, {name: value.detach() for name, value in terms.items()}, step)

    def read(self) -> bool:
        """Wait for this answer, and for nothing that was queued after it."""
        if self.copied is not None:
            self.copied.synchronize()
        return bool(self.broken)


def broken_loss(terms: Mapping[str, Tensor], *, step: int, skipped: int, images: str) -> str:
    """Say which terms of a step are not finite.

    Args:
        terms: Every term of the loss, raw.
        step: Number of the step.
        skipped: Batches left out before.
        images: Names of the images of the batch.
    """
    values = {name: float(value.detach()) for name, value in terms.items()}
    shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    broken = " and ".join(name for name, value in values.items() if not math.isfinite(value)) or "another process"
    before = f" after {skipped} skipped batches" if skipped else ""
    return (
        f"the loss is not finite at step {step}{before}: {broken} broke ({shown}; images {images}); "
        "lower training.learning_rate, set training.gradient_clip, or look at those images"
    )
