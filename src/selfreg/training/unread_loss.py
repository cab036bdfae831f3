"""The answer to whether a loss is finite, read from the device without stopping its queue."""

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
