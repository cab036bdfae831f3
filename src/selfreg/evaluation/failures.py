"""Failure rates: small objects and thin parts missed, parts of large objects mislabelled.

The definitions are this project's; `docs/metrics.md` explains them.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from selfreg.evaluation.maps import Maps, compact
from selfreg.evaluation.regions import count_within, find_components, share_of
from selfreg.evaluation.scores import Floats, divide, mean_over_classes
from selfreg.evaluation.units import DEFAULT_THRESHOLDS, Analysis, Counts, Thresholds, analyse, without_objects

OBJECT_SIZE_EDGES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Upper bounds of the buckets of object sizes, as fractions of an image's valid pixels."""


@dataclass(frozen=True, eq=False)
class FailureCounts:
    """Counts behind the failure rates, per class, of one image or of a sum of images.

    Fields have shape (K,) and dtype int64. `objects_by_size` and `objects_found_by_size` have shape
    (K, len(OBJECT_SIZE_EDGES) + 1). Names ending in `_low` count what is missed at the threshold `low_coverage`.
    """

    small_objects: Counts
    small_objects_missed: Counts
    small_objects_missed_low: Counts
    parts: Counts
    parts_missed: Counts
    parts_missed_low: Counts
    large_objects: Counts
    """Large objects that are at least half correct and have an interior."""
    large_objects_mislabelled: Counts
    """Large objects of those with at least one mislabelled patch."""
    large_objects_wrong: Counts
    """Large objects that are less than half correct; `partial_mislabel_rate` excludes them."""
    interior_pixels: Counts
    mislabelled_pixels: Counts
    """Interior pixels in patches predicted as another class that is not background."""
    hole_pixels: Counts
    """Interior pixels in patches predicted as background; zero without a background class."""
    small_predictions: Counts
    """Predicted components of the size of a small object."""
    hallucinated: Counts
    """Small predicted components of which less than half lies on their class."""
    objects_by_size: Counts
    objects_found_by_size: Counts

    def __add__(self, other: "FailureCounts") -> "FailureCounts":
        return FailureCounts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def failure_counts(
    prediction: Any,
    label: Any,
    num_classes: int,
    *,
    ignore_index: int = 255,
    background: int | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> FailureCounts:
    """Count the failures in one image.

    Args:
        prediction: Predicted class indices, integers of shape (H, W).
        label: Ground truth of the same shape at its own resolution; `ignore_index` marks unlabelled pixels.
        num_classes: Number of classes K.
        ignore_index: Value that counts as no class.
        background: Index of the class without objects, if there is one.
        thresholds: Definitions of small, large, missed and mislabelled.

    Raises:
        ValueError: If the shapes differ or a value is out of range.

    Source: this project's definitions.
    """
    return count_failures(compact(prediction, label, num_classes, ignore_index), background, thresholds)


def count_failures(maps: Maps, background: int | None, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> FailureCounts:
    """Compute `failure_counts` for maps that have already been checked."""
    found = analyse(maps, background, thresholds)
    counts = _count_units(found, maps.num_classes, thresholds)
    counts |= _count_large(found, maps.num_classes, background)
    counts |= _count_small_predictions(maps, found.valid, background, thresholds)
    counts |= _count_by_size(found, maps.num_classes, thresholds)
    return FailureCounts(**counts)


def failure_scores(counts: FailureCounts, background: int | None) -> dict[str, Floats]:
    """Compute the failure rates from counts.

    Args:
        counts: Counts of one image or of a sum of images, with any leading axes.
        background: Index of the class without objects, if there is one.

    Returns:
        Rates in [0, 1] of shape (...), lower is better. Each is the mean over the classes for which it is defined,
        NaN if there is none. `per_class_...` has shape (..., K). `recall_by_size`,
        (..., len(OBJECT_SIZE_EDGES) + 1), is the fraction of objects of all classes that are found. The other entries
        are sums of counts. Without a `background` the background-hole rate is NaN.
    """
    units = counts.small_objects + counts.parts
    per_class = {
        "missed_unit_rate": divide(counts.small_objects_missed + counts.parts_missed, units),
        "missed_unit_rate_low": divide(counts.small_objects_missed_low + counts.parts_missed_low, units),
        "missed_small_object_rate": divide(counts.small_objects_missed, counts.small_objects),
        "missed_small_object_rate_low": divide(counts.small_objects_missed_low, counts.small_objects),
        "missed_part_rate": divide(counts.parts_missed, counts.parts),
        "missed_part_rate_low": divide(counts.parts_missed_low, counts.parts),
        "partial_mislabel_rate": divide(counts.mislabelled_pixels, counts.interior_pixels),
        "mislabelled_object_rate": divide(counts.large_objects_mislabelled, counts.large_objects),
        "background_hole_rate": divide(counts.hole_pixels, 0 if background is None else counts.interior_pixels),
    }
    return {
        **{name: mean_over_classes(rate) for name, rate in per_class.items()},
        "whole_object_errors": counts.large_objects_wrong.sum(-1),
        "hallucinated_components": counts.hallucinated.sum(-1),
        "num_small_objects": counts.small_objects.sum(-1),
        "num_parts": counts.parts.sum(-1),
        "num_large_objects": (counts.large_objects + counts.large_objects_wrong).sum(-1),
        "recall_by_size": divide(counts.objects_found_by_size.sum(-2), counts.objects_by_size.sum(-2)),
        **{f"per_class_{name}": rate for name, rate in per_class.items()},
        "per_class_hallucinated_components": counts.hallucinated,
    }


def _per_class(classes: Any, num_classes: int, weights: Any = None) -> Counts:
    return np.bincount(np.asarray(classes, dtype=np.int64), weights, num_classes).astype(np.int64)


def _count_units(found: Analysis, num_classes: int, thresholds: Thresholds) -> dict[str, Counts]:
    classes, areas = found.objects.classes, found.objects.areas
    parts = np.array([(classes[part.component], part.area, part.correct) for part in found.parts], dtype=np.int64)
    small = np.stack([classes, areas, found.correct], axis=1)[found.small]
    counts = {}
    for name, units in (("small_objects", small), ("parts", parts.reshape(-1, 3))):
        owner, area, correct = units.T
        counts[name] = _per_class(owner, num_classes)
        counts[f"{name}_missed"] = _per_class(owner[correct < thresholds.coverage * area], num_classes)
        counts[f"{name}_missed_low"] = _per_class(owner[correct < thresholds.low_coverage * area], num_classes)
    return counts


def _count_large(found: Analysis, num_classes: int, background: int | None) -> dict[str, Counts]:
    classes, blobs = found.objects.classes, found.blobs
    is_hole = blobs.predicted == (-1 if background is None else background)
    mislabelled, holes = blobs.counted & ~is_hole, blobs.counted & is_hole
    return {
        "large_objects": _per_class(classes[found.interior > 0], num_classes),
        "large_objects_mislabelled": _per_class(classes[np.unique(blobs.owners[mislabelled])], num_classes),
        "large_objects_wrong": _per_class(classes[found.large & ~found.large_right], num_classes),
        "interior_pixels": _per_class(classes, num_classes, found.interior),
        "mislabelled_pixels": _per_class(classes[blobs.owners[mislabelled]], num_classes, blobs.areas[mislabelled]),
        "hole_pixels": _per_class(classes[blobs.owners[holes]], num_classes, blobs.areas[holes]),
    }


def _count_small_predictions(
    maps: Maps, valid: int, background: int | None, thresholds: Thresholds
) -> dict[str, Counts]:
    predicted = find_components(maps.prediction, without_objects(maps.num_classes, background))
    correct = count_within(predicted.ids, maps.prediction == maps.label, len(predicted.areas))
    small = (predicted.areas >= thresholds.minimum_area) & (predicted.areas <= share_of(thresholds.small_object, valid))
    return {
        "small_predictions": _per_class(predicted.classes[small], maps.num_classes),
        "hallucinated": _per_class(predicted.classes[small & (2 * correct < predicted.areas)], maps.num_classes),
    }


def _count_by_size(found: Analysis, num_classes: int, thresholds: Thresholds) -> dict[str, Counts]:
    areas, buckets = found.objects.areas, len(OBJECT_SIZE_EDGES) + 1
    bucket = np.searchsorted(OBJECT_SIZE_EDGES, areas / max(found.valid, 1))
    index = found.objects.classes * buckets + bucket
    counted = areas >= thresholds.minimum_area
    hit = counted & (found.correct >= thresholds.coverage * areas)
    shape = (num_classes, buckets)
    return {
        "objects_by_size": _per_class(index[counted], num_classes * buckets).reshape(shape),
        "objects_found_by_size": _per_class(index[hit], num_classes * buckets).reshape(shape),
    }
