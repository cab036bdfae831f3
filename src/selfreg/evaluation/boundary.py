"""How well contours are drawn: Boundary IoU and trimap IoU, counted over a whole data set."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from selfreg.evaluation.maps import Maps, check_image, compact, pair_counts
from selfreg.evaluation.regions import Mask, contour_band
from selfreg.evaluation.scores import Floats, intersection_over_union, mean_over_classes
from selfreg.evaluation.units import Counts

DISTANCE = 0.02
"""Width of the band along a contour, as a share of the image's diagonal (Cheng et al., CVPR 2021)."""


@dataclass(frozen=True, eq=False)
class BoundaryCounts:
    """Pixels of the bands along contours, of one image or summed over many: each `(num_classes,)` int64."""

    boundary_shared: Counts
    """Pixels in the band of the class in both maps."""
    boundary_labelled: Counts
    """Pixels of the class within the distance of its contour in the label."""
    boundary_predicted: Counts
    """The same in the prediction."""
    trimap_correct: Counts
    """Pixels of the trimap (both sides of the label's contours) predicted as their class."""
    trimap_labelled: Counts
    trimap_predicted: Counts

    def __add__(self, other: "BoundaryCounts") -> "BoundaryCounts":
        return BoundaryCounts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def boundary_iou(prediction: Any, label: Any, num_classes: int, *, ignore_index: int = 255) -> Floats:
    """Boundary IoU of each class in one image: `(num_classes,)` in 0..1, NaN for a class in neither map.

    Cheng et al., "Boundary IoU", CVPR 2021: the IoU of those pixels of the labelled and of the predicted mask that lie
    within a distance of the mask's own contour. For a data set, add up `boundary_counts` and divide once. Arguments
    and errors as in `boundary_counts`.
    """
    counts = boundary_counts(prediction, label, num_classes, ignore_index=ignore_index)
    return boundary_scores(counts)["per_class_boundary_iou"]


def boundary_counts(prediction: Any, label: Any, num_classes: int, *, ignore_index: int = 255) -> BoundaryCounts:
    """Count the pixels along the contours of one image, for Boundary IoU and trimap IoU.

    `prediction` and `label` are integer arrays `(H, W)` of 0..num_classes-1 or `ignore_index`; ValueError for
    anything else. Distances are measured in rows and columns, and for Boundary IoU the image border is a contour, both
    as in Cheng et al.'s code. The prediction is void where the label is, so that the edge of void is a contour of both.
    """
    return count_boundaries(compact(prediction, label, num_classes, ignore_index))


def boundary_scores(counts: BoundaryCounts) -> dict[str, Floats]:
    """`boundary_iou` and `trimap_iou` `(...)`, means over classes, and both per class; leading axes are kept."""
    boundary = intersection_over_union(counts.boundary_shared, counts.boundary_labelled, counts.boundary_predicted)
    trimap = intersection_over_union(counts.trimap_correct, counts.trimap_labelled, counts.trimap_predicted)
    return {
        "boundary_iou": mean_over_classes(boundary),
        "trimap_iou": mean_over_classes(trimap),
        "per_class_boundary_iou": boundary,
        "per_class_trimap_iou": trimap,
    }


def count_boundaries(maps: Maps) -> BoundaryCounts:
    """`boundary_counts` of maps that are checked already."""
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
