"""IoU and accuracies from pixel counts, for one data set or for many resamples at once."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PixelCounts:
    """Valid pixels per class, of one image or of a sum of images; every field has shape (..., K)."""

    correct: NDArray[Any]
    """Pixels of the class that are predicted correctly."""
    labelled: NDArray[Any]
    predicted: NDArray[Any]

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        return PixelCounts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def divide(numerator: Any, denominator: Any) -> Floats:
    """Divide elementwise; NaN where the denominator is zero."""
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    quotient: Floats = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=quotient, where=below != 0)
    return quotient


def mean_over_classes(values: Floats) -> Floats:
    """Mean over the last axis, ignoring NaN; NaN if all values are NaN."""
    known = ~np.isnan(values)
    return divide(np.where(known, values, 0.0).sum(-1), known.sum(-1))


def intersection_over_union(shared: Any, labelled: Any, predicted: Any) -> Floats:
    """IoU from pixel counts; NaN if there is neither a labelled nor a predicted pixel."""
    return divide(shared, np.asarray(labelled) + predicted - shared)


def pixel_scores(counts: PixelCounts) -> dict[str, Floats]:
    """Compute IoU and accuracies from pixel counts.

    Args:
        counts: Counts of one image or of a sum of images, fields of shape (..., K).

    Returns:
        Scores in [0, 1]: `miou`, `pixel_accuracy`, `mean_accuracy` and `frequency_weighted_iou` of shape (...);
        `per_class_iou` and `per_class_accuracy` of shape (..., K). The IoU of a class that is neither labelled nor
        predicted is NaN, and so is the accuracy of a class that is not labelled. Means ignore NaN.
    """
    iou = intersection_over_union(counts.correct, counts.labelled, counts.predicted)
    accuracy = divide(counts.correct, counts.labelled)
    pixels = counts.labelled.sum(-1)
    return {
        "miou": mean_over_classes(iou),
        "pixel_accuracy": divide(counts.correct.sum(-1), pixels),
        "mean_accuracy": mean_over_classes(accuracy),
        "frequency_weighted_iou": divide((counts.labelled * np.nan_to_num(iou)).sum(-1), pixels),
        "per_class_iou": iou,
        "per_class_accuracy": accuracy,
        "per_class_precision": divide(counts.correct, counts.predicted),
        "per_class_recall": accuracy,
        "per_class_f1": divide(2 * np.asarray(counts.correct), np.asarray(counts.labelled) + counts.predicted),
    }


def confusion_scores(matrix: NDArray[np.integer[Any]]) -> dict[str, Floats]:
    """Compute `pixel_scores` from a confusion matrix (..., K, K): rows are labels, columns predictions."""
    return pixel_scores(PixelCounts(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1), matrix.sum(-2)))
