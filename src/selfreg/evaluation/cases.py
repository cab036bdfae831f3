"""The individual errors behind the failure rates: every missed object or part and every wrong patch of an image."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from selfreg.evaluation.maps import Maps, compact
from selfreg.evaluation.regions import Mask, Slices, bounding_box
from selfreg.evaluation.units import DEFAULT_THRESHOLDS, Analysis, Thresholds, analyse

FailureKind = Literal["object", "part", "mislabel", "hole"]


@dataclass(frozen=True, eq=False)
class FailureCase:
    """One error in one image: a missed small object or thin part, a mislabelled patch, or a background hole."""

    kind: FailureKind
    class_index: int
    """Ground-truth class."""
    predicted_class: int | None
    """The most frequent class among the wrong pixels; None if it is void."""
    box: tuple[int, int, int, int]
    """Top, left, bottom, right in pixels; bottom and right are exclusive."""
    area: int
    """Number of pixels."""
    coverage: float
    """Fraction of the pixels predicted as `class_index`, in [0, 1]."""
    object_area: int
    """Number of pixels of the labelled object (connected component) that contains the case."""
    mask: Mask
    """Pixels of the case within the box, bool of shape (bottom - top, right - left)."""

    def coverage_in(self, prediction: NDArray[np.integer[Any]]) -> float:
        """Fraction of the case's pixels that another prediction (H, W) labels correctly, in [0, 1]."""
        top, left, bottom, right = self.box
        return float((prediction[top:bottom, left:right][self.mask] == self.class_index).mean())


def failure_cases(
    prediction: Any,
    label: Any,
    num_classes: int,
    *,
    ignore_index: int = 255,
    background: int | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> list[FailureCase]:
    """List every error that `failure_counts` counts in one image.

    Args:
        prediction: Predicted class indices, integers of shape (H, W).
        label: Ground truth of the same shape; `ignore_index` marks unlabelled pixels.
        num_classes: Number of classes K.
        ignore_index: Value that counts as no class.
        background: Index of the class without objects, if there is one.
        thresholds: Definitions of small, large, missed and mislabelled.

    Returns:
        The cases, sorted by the number of wrong pixels in descending order.

    Raises:
        ValueError: If the shapes differ or a value is out of range.
    """
    maps = compact(prediction, label, num_classes, ignore_index)
    found = analyse(maps, background, thresholds)
    cases = [*_missed_units(maps, found, thresholds), *_blobs(maps, found, background)]
    return sorted(cases, key=lambda case: case.area * (1 - case.coverage), reverse=True)


def _missed_units(maps: Maps, found: Analysis, thresholds: Thresholds) -> Iterator[FailureCase]:
    areas = found.objects.areas
    for index in np.flatnonzero(found.small & (found.correct < thresholds.coverage * areas)).tolist():
        box, mask = _crop(found.objects.ids, index)
        yield _case(maps, "object", int(found.objects.classes[index]), box, mask, int(areas[index]))
    for part in found.parts:
        if part.correct < thresholds.coverage * part.area:
            owner = part.component
            yield _case(maps, "part", int(found.objects.classes[owner]), part.box, part.mask, int(areas[owner]))


def _blobs(maps: Maps, found: Analysis, background: int | None) -> Iterator[FailureCase]:
    blobs = found.blobs
    for index in np.flatnonzero(blobs.counted).tolist():
        kind: FailureKind = "hole" if blobs.predicted[index] == background else "mislabel"
        owner = int(blobs.owners[index])
        box, mask = _crop(blobs.ids, index)
        yield _case(maps, kind, int(found.objects.classes[owner]), box, mask, int(found.objects.areas[owner]))


def _crop(ids: NDArray[np.integer[Any]], index: int) -> tuple[Slices, Mask]:
    inside = ids == index
    box = bounding_box(inside)
    return box, inside[box].copy()


def _case(maps: Maps, kind: FailureKind, class_index: int, box: Slices, mask: Mask, object_area: int) -> FailureCase:
    predicted = np.bincount(maps.prediction[box][mask], minlength=maps.num_classes + 1)
    area, correct = int(predicted.sum()), int(predicted[class_index])
    predicted[class_index] = 0
    wrong = int(predicted.argmax())
    rows, columns = box
    return FailureCase(
        kind=kind,
        class_index=class_index,
        predicted_class=None if wrong == maps.num_classes else wrong,
        box=(rows.start, columns.start, rows.stop, columns.stop),
        area=area,
        coverage=correct / area,
        object_area=object_area,
        mask=mask,
    )
