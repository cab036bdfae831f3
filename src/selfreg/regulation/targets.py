"""Labels on the grid of every exit: class counts and fractions of cells, computed once per batch and grid."""

from __future__ import annotations

import math
from collections.abc import Iterable

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
    """Count the pixels of each class in each cell of a grid.

    Pixel row y belongs to the cell row floor(y h / H), so each pixel is counted in exactly one cell for any size. Void
    is not counted.

    Args:
        labels: (N, H, W) int64.
        num_classes: Number of classes K.
        size: (h, w) of the grid.
        ignore_index: Label of void pixels.
        pixel_weights: Weight of each pixel, (N, H, W); 1 by default.

    Returns:
        (N, K, h, w) float32.
    """
    valid = labels != ignore_index
    weights = valid.float() if pixel_weights is None else valid * pixel_weights.float()
    # Classes innermost, as in channels-last class maps. Void counts 0 times in class 0: no masked copy of the labels.
    cells, classes = _cells_of_pixels(labels * valid, size)
    index = cells * num_classes + classes
    counts = torch.zeros(labels.shape[0] * size[0] * size[1] * num_classes, device=labels.device)
    counts.scatter_add_(0, index.view(-1), weights.view(-1))
    return counts.view(-1, *size, num_classes).movedim(-1, 1)


def _cells_of_pixels(labels: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Index of each pixel's cell among all cells of the batch, and the labels, in shapes that broadcast."""
    batch, height, width = labels.shape
    rows, columns = size
    if height % rows == 0 and width % columns == 0:
        cells = torch.arange(batch * rows * columns, device=labels.device).view(batch, rows, 1, columns, 1)
        return cells, labels.view(batch, rows, height // rows, columns, width // columns)
    images = torch.arange(batch, device=labels.device).view(-1, 1, 1)
    row = torch.arange(height, device=labels.device).view(-1, 1) * rows // height
    column = torch.arange(width, device=labels.device) * columns // width
    return (images * rows + row) * columns + column, labels


def class_fractions(counts: Tensor) -> Tensor:
    """Normalise class counts (N, K, h, w) to a sum of 1 over K, or 0 in a cell without valid pixels."""
    return counts / counts.sum(dim=1, keepdim=True).clamp_min(1e-6)


def class_presence(labels: Tensor, num_classes: int, *, ignore_index: int = 255) -> Tensor:
    """Classes that occur in each image: labels (N, H, W) int64 to (N, K) float32, 0 or 1; void is ignored."""
    classes = labels.masked_fill(labels == ignore_index, num_classes).flatten(1)
    presence = torch.zeros(labels.shape[0], num_classes + 1, device=labels.device)
    return presence.scatter_(1, classes, 1.0)[:, :num_classes]


class CellLabels:
    """Labels of one batch on any grid: counts, fractions and valid pixels of cells, each grid computed once.

    Args:
        labels: (N, H, W) int64 in [0, K) or ignore_index.
        num_classes: Number of classes K.
        ignore_index: Label of void pixels.
        confidence: (N, H, W), not negative; a pixel with confidence c counts as c valid pixels.
        class_weights: (K,), weights of the counts of the segmentation term only.
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
        self._rows: Tensor | None = None
        self._image_counts: Tensor | None = None
        self._presence: Tensor | None = None

    def counts(self, size: tuple[int, int]) -> Tensor:
        """Pixels (weighted by confidence) of each class in each cell, (N, K, h, w) float32."""
        if size not in self._counts:
            self._counts[size] = self._from_finer(size)
        return self._counts[size]

    def _from_finer(self, size: tuple[int, int]) -> Tensor:
        """Sum the cells of a finer grid that is already known, which is cheaper than reading every pixel again."""
        for finer, counts in self._counts.items():
            if finer[0] % size[0] == 0 and finer[1] % size[1] == 0:
                nested = (finer[0] // size[0], finer[1] // size[1])
                return F.avg_pool2d(counts, nested, divisor_override=1)
        return class_counts(
            self.labels, self.num_classes, size, ignore_index=self.ignore_index, pixel_weights=self.confidence
        )

    def weighted_counts(self, size: tuple[int, int]) -> Tensor:
        """Counts times class weights, (N, K, h, w) float32."""
        counts = self.counts(size)
        return counts if self.class_weights is None else counts * self.class_weights.view(1, -1, 1, 1)

    def rows(self, sizes: Iterable[tuple[int, int]]) -> Tensor:
        """Counts of the cells of several grids as rows, (cells, K); computed once for all terms."""
        if self._rows is None:
            # finest first: coarser grids add up its cells
            for size in sorted(sizes, key=math.prod, reverse=True):
                self.counts(size)
            self._rows = torch.cat([self.counts(size).movedim(1, -1).flatten(0, -2) for size in sizes])
        return self._rows

    def valid_pixels(self, *, weighted: bool = False) -> Tensor:
        """Valid pixels of the batch (weighted by confidence, and by class weight if `weighted`), a scalar."""
        if weighted and self.class_weights is not None:
            return (self._of_images().sum(dim=0) * self.class_weights).sum()
        return self._of_images().sum()

    def presence(self) -> Tensor:
        """Classes that occur in each image, (N, K) float32 with values 0 and 1, for pixels of any confidence."""
        if self._presence is None and self.confidence is None and self._counts:
            self._presence = self._of_images().clamp(max=1)
        elif self._presence is None:
            self._presence = class_presence(self.labels, self.num_classes, ignore_index=self.ignore_index)
        return self._presence

    def _of_images(self) -> Tensor:
        if self._image_counts is None:
            self._image_counts = next(iter(self._counts.values())).sum(dim=(2, 3))
        return self._image_counts

    def valid(self, size: tuple[int, int]) -> Tensor:
        """Valid pixels (weighted by confidence) in each cell, (N, h, w) float32."""
        return self.counts(size).sum(dim=1)
