"""From counts of pixels to scores: IoU and accuracies, for one data set or for many resamples of it at once."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PixelCounts:
    """Valid pixels per class, of one image or summed over many: each `(..., num_classes)`."""

    correct: NDArray[Any]
    """Pixels of the class predicted as it."""
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
    """Mean over the last axis with NaN left out; NaN where nothing is left."""
    known = ~np.isnan(values)
    return divide(np.where(known, values, 0.0).sum(-1), known.sum(-1))


def intersection_over_union(shared: Any, labelled: Any, predicted: Any) -> Floats:
    """IoU from pixel counts; NaN where there is neither a labelled nor a predicted pixel."""
    return divide(shared, np.asarray(labelled) + predicted - shared)


def pixel_scores(counts: PixelCounts) -> dict[str, Floats]:
    """IoU and accuracies, all in 0..1; leading axes of the counts are kept.

    `miou`, `pixel_accuracy`, `mean_accuracy` and `frequency_weighted_iou` are `(...)`, `per_class_iou` and
    `per_class_accuracy` `(..., num_classes)`. A class that is neither labelled nor predicted has IoU NaN, one that
    is not labelled has accuracy NaN; means leave NaN out.
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
    """`pixel_scores` of a confusion matrix `(..., num_classes, num_classes)`: rows labels, columns predictions."""
    return pixel_scores(PixelCounts(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1), matrix.sum(-2)))
