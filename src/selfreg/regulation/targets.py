"""The labels as every exit sees them: class fractions of the cells of its grid, computed once per batch and grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def class_counts(
    labels: Tensor,
    num_classes: int,
    size: tuple[int, int],
    *,
    ignore_index: int = 255,
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Count the pixels of each class in each cell of a grid: labels (N, H, W) int64 to (N, K, h, w) float32.

    Pixel row y lies in the cell row floor(y h / H), so that each pixel counts in exactly one cell whatever the sizes.
    Void counts nowhere. pixel_weights: (N, H, W), what each pixel counts instead of 1.
    """
    batch, height, width = labels.shape
    rows = _cells(height, size[0], labels.device)
    columns = _cells(width, size[1], labels.device)
    images = torch.arange(batch, device=labels.device).view(-1, 1, 1)
    # Void goes to a class K of its own, which is dropped: branch-free, and no masked copy of the labels.
    classes = labels.masked_fill(labels == ignore_index, num_classes)
    index = ((images * (num_classes + 1) + classes) * size[0] + rows.view(1, -1, 1)) * size[1] + columns
    counts = torch.zeros(batch * (num_classes + 1) * size[0] * size[1], device=labels.device)
    ones = torch.ones((), device=labels.device).expand(labels.numel())
    weights = ones if pixel_weights is None else pixel_weights.reshape(-1).float()
    counts.scatter_add_(0, index.view(-1), weights)
    return counts.view(batch, num_classes + 1, *size)[:, :num_classes]


def class_fractions(counts: Tensor) -> Tensor:
    """Normalise class counts (N, K, h, w) to fractions that sum to 1 over K, or to 0 in a cell without valid pixels."""
    return counts / counts.sum(dim=1, keepdim=True).clamp_min(1e-6)


def class_presence(labels: Tensor, num_classes: int, *, ignore_index: int = 255) -> Tensor:
    """Tell which classes occur in each image: labels (N, H, W) int64 to (N, K) float32 of 0 and 1; void is no class."""
    classes = labels.masked_fill(labels == ignore_index, num_classes).flatten(1)
    presence = torch.zeros(labels.shape[0], num_classes + 1, device=labels.device)
    return presence.scatter_(1, classes, 1.0)[:, :num_classes]


class CellLabels:
    """One batch of labels on any grid: counts, fractions and valid pixels of its cells, each grid computed once.

    labels: (N, H, W) int64 in [0, K) or ignore_index. confidence: (N, H, W) non-negative; a pixel of confidence c
    counts as c valid pixels. class_weights: (K,); they weight the counts of the segmentation term and nothing else.
    """

    def __init__(
        self,
        labels: Tensor,
        num_classes: int,
        *,
        ignore_index: int = 255,
        confidence: Tensor | None = None,
        class_weights: Tensor | None = None,
    ) -> None:
        self.labels = labels
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.confidence = confidence
        self.class_weights = class_weights
        self._counts: dict[tuple[int, int], Tensor] = {}

    def counts(self, size: tuple[int, int]) -> Tensor:
        """Pixels (by confidence) of each class in each cell, (N, K, h, w) float32."""
        if size not in self._counts:
            self._counts[size] = self._from_finer(size)
        return self._counts[size]

    def _from_finer(self, size: tuple[int, int]) -> Tensor:
        """Add up the cells of a finer grid that is known and nests, which is cheaper than reading every pixel again."""
        for finer, counts in self._counts.items():
            if finer[0] % size[0] == 0 and finer[1] % size[1] == 0:
                nested = (finer[0] // size[0], finer[1] // size[1])
                return F.avg_pool2d(counts, nested, divisor_override=1)
        return class_counts(
            self.labels, self.num_classes, size, ignore_index=self.ignore_index, pixel_weights=self.confidence
        )

    def weighted_counts(self, size: tuple[int, int]) -> Tensor:
        """Counts times the class weights, (N, K, h, w) float32."""
        counts = self.counts(size)
        return counts if self.class_weights is None else counts * self.class_weights.view(1, -1, 1, 1)

    def valid(self, size: tuple[int, int]) -> Tensor:
        """Valid pixels (by confidence) in each cell, (N, h, w) float32."""
        return self.counts(size).sum(dim=1)


def _cells(pixels: int, cells: int, device: torch.device) -> Tensor:
    return torch.arange(pixels, device=device) * cells // pixels
