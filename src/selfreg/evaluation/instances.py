"""Scores that need instance maps: the iIoU of Cityscapes, and IoU by the size of the instances."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreg.evaluation.maps import IntArray, Maps, check_image, compact
from selfreg.evaluation.regions import find_components
from selfreg.evaluation.scores import Floats, divide, mean_over_classes

SIZE_LIMITS = (32**2, 96**2)
"""Pixels up to which an instance is small, and up to which it is medium-sized (as in COCO)."""
SIZE_NAMES = ("small", "medium", "large")


@dataclass(frozen=True, eq=False)
class InstanceCounts:
    """Sums over instances, of one image or many: ``(num_classes,)``; ``..._by_size`` are ``(num_classes, 3)``."""

    instances: Floats
    instance_pixels: Floats
    instance_recall: Floats
    """Sum over the instances of the share of each that is predicted as its class."""
    false_pixels: Floats
    """Valid pixels of other classes predicted as the class."""
    correct_by_size: Floats
    """Pixels of the instances of a size that are predicted as their class."""
    labelled_by_size: Floats
    false_by_size: Floats
    """The false pixels, shared out to the sizes of the instances that the wrong predictions belong to."""

    def __add__(self, other: "InstanceCounts") -> "InstanceCounts":
        return InstanceCounts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def instance_counts(
    prediction: Any, label: Any, instances: Any, num_classes: int, *, ignore_index: int = 255
) -> InstanceCounts:
    """Count what iIoU and IoU by size need in one image.

    ``prediction`` and ``label`` are integer arrays ``(H, W)`` of 0..num_classes-1 or ``ignore_index``; ``instances``
    ``(H, W)`` numbers the objects from 1, of any class, and is 0 where there is none (stuff, crowds). An instance is of
    the class that most of its valid pixels have. Raises ValueError for maps that do not fit.
    """
    return count_instances(compact(prediction, label, num_classes, ignore_index), np.asarray(instances))


def count_instances(maps: Maps, instances: IntArray) -> InstanceCounts:
    """``instance_counts`` of maps that are checked already."""
    prediction, label, num_classes = maps
    check_image(maps)
    if instances.shape != label.shape or instances.dtype.kind not in "iu" or (instances.size and instances.min() < 0):
        raise ValueError(
            f"instances are {instances.dtype} of shape {instances.shape}; "
            f"give integers from 0 upward, {label.shape} like the label"
        )
    here = (instances > 0) & (label != num_classes)
    _, number = np.unique(instances[here], return_inverse=True)
    total = int(number.max()) + 1 if number.size else 0
    votes = np.bincount(number * num_classes + label[here], minlength=total * num_classes).reshape(total, num_classes)
    classes = votes.argmax(1) if total else np.zeros(0, dtype=np.int64)
    own = label[here] == classes[number]
    areas = np.bincount(number[own], minlength=total)
    correct = np.bincount(number[own & (prediction[here] == label[here])], minlength=total)
    sizes = np.searchsorted(SIZE_LIMITS, areas)

    size_at = np.full(label.shape, -1, dtype=np.int8)
    size_at[here] = np.where(own, sizes[number], -1)
    false, false_by_size = _false_pixels(maps, size_at)

    def per_class(weights: Any) -> Floats:
        return np.bincount(classes, weights, num_classes).astype(np.float64)

    def per_size(weights: Any) -> Floats:
        shape = (num_classes, len(SIZE_NAMES))
        return np.bincount(classes * shape[1] + sizes, weights, shape[0] * shape[1]).reshape(shape).astype(np.float64)

    return InstanceCounts(
        instances=per_class(np.ones(total)),
        instance_pixels=per_class(areas),
        instance_recall=per_class(correct / np.maximum(areas, 1)),
        false_pixels=false,
        correct_by_size=per_size(correct),
        labelled_by_size=per_size(areas),
        false_by_size=false_by_size,
    )


def _false_pixels(maps: Maps, size_at: NDArray[np.int8]) -> tuple[Floats, Floats]:
    """False pixels of each class, and the same shared out to sizes; ``size_at`` is -1 where no instance is."""
    prediction, label, num_classes = maps
    predicted = find_components(prediction, excluded=(num_classes,))
    total, right = len(predicted.areas), prediction == label
    false = predicted.areas - np.bincount(predicted.ids[right], minlength=total)
    false[0] = 0
    met = right & (size_at >= 0)
    shares = np.bincount(predicted.ids[met].astype(np.int64) * 3 + size_at[met], minlength=3 * total).reshape(total, 3)
    alone = shares.sum(1) == 0
    shares[alone, np.searchsorted(SIZE_LIMITS, predicted.areas[alone])] = 1
    by_size = np.zeros((num_classes, len(SIZE_NAMES)))
    np.add.at(by_size, predicted.classes, shares / shares.sum(1, keepdims=True) * false[:, None])
    return by_size.sum(1), by_size


def instance_scores(counts: InstanceCounts, average_areas: Floats | None = None) -> dict[str, Floats]:
    """``iiou`` ``(...)`` and ``iou_by_size`` ``(..., 3)``, means over classes, and both per class; in 0..1.

    iIoU (Cordts et al., "The Cityscapes Dataset", CVPR 2016) is iTP / (iTP + FP + iFN), where the pixels of an instance
    weigh the average area of its class over its own area. ``average_areas`` ``(num_classes,)`` are those averages in
    pixels; without them they are taken from the counts. A class without instances is NaN. IoU by size shares the false
    pixels of a predicted component out to the instances that it meets, by their overlap; one that meets none counts at
    its own size (after Mun et al., WACV 2024).
    """
    average = divide(counts.instance_pixels, counts.instances) if average_areas is None else np.asarray(average_areas)
    iiou = divide(average * counts.instance_recall, average * counts.instances + counts.false_pixels)
    iiou = np.where(np.asarray(counts.instances) > 0, iiou, np.nan)
    by_size = divide(counts.correct_by_size, counts.labelled_by_size + counts.false_by_size)
    has_instances = np.asarray(counts.instances)[..., None] > 0
    by_size = np.where(has_instances, by_size, np.nan)
    return {
        "iiou": mean_over_classes(iiou),
        "iou_by_size": mean_over_classes(np.swapaxes(by_size, -1, -2)),
        "per_class_iiou": iiou,
        "per_class_iou_by_size": by_size,
    }
