"""From counts of pixels to scores: IoU and accuracies, for one data set or for many resamples of it at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


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


def pixel_scores(correct: Any, labelled: Any, predicted: Any) -> dict[str, Floats]:
    """IoU and accuracies from pixel counts per class, each ``(..., num_classes)``; leading axes are kept.

    ``correct`` counts pixels of a class predicted as it, ``labelled`` its pixels, ``predicted`` the valid pixels
    predicted as it. Returns ``miou``, ``pixel_accuracy``, ``mean_accuracy`` and ``frequency_weighted_iou`` ``(...)``,
    and ``per_class_iou`` and ``per_class_accuracy`` ``(..., num_classes)``, all in 0..1. A class that is neither
    labelled nor predicted has IoU NaN, one that is not labelled has accuracy NaN; means leave NaN out.
    """
    correct, labelled, predicted = (np.asarray(counts, dtype=np.float64) for counts in (correct, labelled, predicted))
    iou = divide(correct, labelled + predicted - correct)
    accuracy = divide(correct, labelled)
    pixels = labelled.sum(-1)
    return {
        "miou": mean_over_classes(iou),
        "pixel_accuracy": divide(correct.sum(-1), pixels),
        "mean_accuracy": mean_over_classes(accuracy),
        "frequency_weighted_iou": divide((labelled * np.nan_to_num(iou)).sum(-1), pixels),
        "per_class_iou": iou,
        "per_class_accuracy": accuracy,
    }


def confusion_scores(matrix: NDArray[np.integer[Any]]) -> dict[str, Floats]:
    """``pixel_scores`` of a confusion matrix ``(..., num_classes, num_classes)``: rows labels, columns predictions."""
    return pixel_scores(np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1), matrix.sum(-2))
