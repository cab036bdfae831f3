"""Check whether a loss is finite without waiting for the device."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class UnreadLoss:
    """Result of the check of a step, still being copied from the device, and the details for the message."""

    broken: Tensor
    copied: torch.cuda.Event | None
    indices: Tensor
    terms: dict[str, Tensor]
    step: int

    @classmethod
    def of(cls, broken: Tensor, indices: Tensor, terms: dict[str, Tensor], step: int) -> "UnreadLoss":
        """Start copying the result without waiting for it."""
        copied = None
        if broken.is_cuda:
            broken = torch.empty_like(broken, device="cpu", pin_memory=True).copy_(broken, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
        # a copy, since the next step overwrites what compiled losses give on a GPU
        values = torch.stack([value.detach() for value in terms.values()]).unbind()
        return cls(broken, copied, indices, dict(zip(terms, values, strict=True)), step)

    def read(self) -> bool:
        """Wait for this result, but not for later work of the device."""
        if self.copied is not None:
            self.copied.synchronize()
        return bool(self.broken)


def broken_loss(terms: Mapping[str, Tensor], *, step: int, skipped: int, images: str) -> str:
    """Make the message that names the non-finite terms of a step.

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
