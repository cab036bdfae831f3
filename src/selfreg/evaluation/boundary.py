"""Quality of contours: Boundary IoU and trimap IoU, counted over a whole data set."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from selfreg.evaluation.maps import Maps, check_image, compact, pair_counts
from selfreg.evaluation.regions import Mask, contour_band
from selfreg.evaluation.scores import Floats, intersection_over_union, mean_over_classes
from selfreg.evaluation.units import Counts

DISTANCE = 0.02
"""Width of the band along a contour, as a fraction of the image diagonal (Cheng et al., CVPR 2021)."""


@dataclass(frozen=True, eq=False)
class BoundaryCounts:
    """Pixel counts in the bands along contours, per class, of one image or of a sum of images.

    Every field has shape (K,) and dtype int64.
    """

    boundary_shared: Counts
    """Pixels in the band of the class in both the label and the prediction."""
    boundary_labelled: Counts
    """Pixels of the class near its contour in the label."""
    boundary_predicted: Counts
    """Pixels of the class near its contour in the prediction."""
    trimap_correct: Counts
    """Pixels of the trimap (both sides of the label's contours) with the correct class."""
    trimap_labelled: Counts
    trimap_predicted: Counts

    def __add__(self, other: "BoundaryCounts") -> "BoundaryCounts":
        return BoundaryCounts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def boundary_iou(prediction: Any, label: Any, num_classes: int, *, ignore_index: int = 255) -> Floats:
    """Boundary IoU of each class in one image.

    For a data set, sum `boundary_counts` over the images and compute `boundary_scores` once.

    Args:
        prediction: Predicted class indices, integers of shape (H, W).
        label: Ground truth of the same shape; `ignore_index` marks unlabelled pixels.
        num_classes: Number of classes K.
        ignore_index: Value that counts as no class.

    Returns:
        Boundary IoU in [0, 1], (K,); NaN for a class in neither map.

    Raises:
        ValueError: If the shapes differ or a value is out of range.

    Source: Cheng et al., "Boundary IoU", CVPR 2021.
    """
    counts = boundary_counts(prediction, label, num_classes, ignore_index=ignore_index)
    return boundary_scores(counts)["per_class_boundary_iou"]


def boundary_counts(prediction: Any, label: Any, num_classes: int, *, ignore_index: int = 255) -> BoundaryCounts:
    """Count the pixels along the contours of one image, for Boundary IoU and trimap IoU.

    Distances are measured along rows and columns. For Boundary IoU the image border counts as a contour. Both follow
    the code of Cheng et al. The prediction is set to void where the label is void, so both maps share the edges of
    void.

    Args:
        prediction: Predicted class indices, integers of shape (H, W).
        label: Ground truth of the same shape; `ignore_index` marks unlabelled pixels.
        num_classes: Number of classes K.
        ignore_index: Value that counts as no class.

    Raises:
        ValueError: If the shapes differ or a value is out of range.
    """
    return count_boundaries(compact(prediction, label, num_classes, ignore_index))


def boundary_scores(counts: BoundaryCounts) -> dict[str, Floats]:
    """Compute Boundary IoU and trimap IoU from counts.

    Args:
        counts: Counts of one image or of a sum of images, fields of shape (..., K).

    Returns:
        `boundary_iou` and `trimap_iou`, means over classes of shape (...), and `per_class_boundary_iou` and
        `per_class_trimap_iou` of shape (..., K); all in [0, 1], NaN where a class does not occur.
    """
    boundary = intersection_over_union(counts.boundary_shared, counts.boundary_labelled, counts.boundary_predicted)
    trimap = intersection_over_union(counts.trimap_correct, counts.trimap_labelled, counts.trimap_predicted)
    return {
        "boundary_iou": mean_over_classes(boundary),
        "trimap_iou": mean_over_classes(trimap),
        "per_class_boundary_iou": boundary,
        "per_class_trimap_iou": trimap,
    }


def count_boundaries(maps: Maps) -> BoundaryCounts:
    """Compute `boundary_counts` for maps that have already been checked."""
    prediction, label, num_classes = maps
    check_image(maps)
    distance = max(1, round(DISTANCE * float(np.hypot(*label.shape))))
    trimap = contour_band(label, distance)
    bands = pair_counts(
        np.where(_with_frame(contour_band(prediction, distance), distance), prediction, num_classes),
        np.where(_with_frame(trimap, distance), label, num_classes),
        num_classes,
    )
    near = pair_counts(prediction, np.where(trimap, label, num_classes), num_classes)[:num_classes]
    return BoundaryCounts(
        boundary_shared=np.diagonal(bands)[:num_classes].copy(),
        boundary_labelled=bands[:num_classes].sum(1),
        boundary_predicted=bands[:, :num_classes].sum(0),
        trimap_correct=np.diagonal(near).copy(),
        trimap_labelled=near.sum(1),
        trimap_predicted=near[:, :num_classes].sum(0),
    )


def _with_frame(band: Mask, distance: int) -> Mask:
    framed = band.copy()
    framed[:distance] = framed[-distance:] = True
    framed[:, :distance] = framed[:, -distance:] = True
    return framed
