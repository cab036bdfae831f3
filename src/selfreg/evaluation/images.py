"""All counts of one image from which the measures are computed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from selfreg.evaluation.boundary import BoundaryCounts, count_boundaries
from selfreg.evaluation.failures import FailureCounts, count_failures
from selfreg.evaluation.maps import compact, pair_counts
from selfreg.evaluation.scores import PixelCounts
from selfreg.evaluation.units import DEFAULT_THRESHOLDS, Thresholds


@dataclass(frozen=True, eq=False)
class ImageResult:
    """Counts of one image, per class; small enough to be sent between processes.

    Attributes:
        num_classes: Number of classes K.
        background: Index of the class without objects, if there is one.
        confusion: Pixels, (K, K + 1) int64: rows are labels, columns predictions, the last column is void.
        pixels: Correct, labelled and predicted pixels.
        boundaries: Pixels along contours.
        failures: Errors on small objects, thin parts and large objects.
    """

    num_classes: int
    background: int | None
    confusion: csr_array
    pixels: PixelCounts
    boundaries: BoundaryCounts
    failures: FailureCounts


def evaluate_image(
    prediction: Any,
    label: Any,
    num_classes: int,
    *,
    ignore_index: int = 255,
    background: int | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> ImageResult:
    """Count everything that the measures need in one image.

    Args:
        prediction: Predicted class indices, integers of shape (H, W); `ignore_index` means that nothing was predicted,
            which is wrong wherever the label is a class.
        label: Ground truth of the same shape at its own resolution; `ignore_index` marks unlabelled pixels.
        num_classes: Number of classes K.
        ignore_index: Value that counts as no class.
        background: Index of the class without objects, if there is one.
        thresholds: Definitions of small, large, missed and mislabelled.

    Raises:
        ValueError: If the shapes differ or a value is out of range.
    """
    maps = compact(prediction, label, num_classes, ignore_index)
    failures = count_failures(maps, background, thresholds)
    confusion = pair_counts(maps.prediction, maps.label, num_classes)[:num_classes]
    return ImageResult(
        num_classes=num_classes,
        background=background,
        confusion=csr_array(confusion),
        pixels=PixelCounts(
            correct=np.diagonal(confusion).copy(),
            labelled=confusion.sum(1),
            predicted=confusion[:, :num_classes].sum(0),
        ),
        boundaries=count_boundaries(maps),
        failures=failures,
    )
