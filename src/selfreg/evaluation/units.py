"""Small objects, thin parts and wrong patches in large objects of one image."""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from selfreg.evaluation.maps import IntArray, Maps, check_image
from selfreg.evaluation.regions import (
    Components,
    Mask,
    Slices,
    count_within,
    fill_specks,
    find_boxes,
    find_components,
    find_limbs,
    leave_out,
    share_of,
    squared_distance,
)

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Thresholds:
    """Definitions of small, large, missed and mislabelled.

    Raises:
        ValueError: If `minimum_area` is below 1 or another value is outside [0, 1].
    """

    minimum_area: int = 16
    """Fewest pixels of a small object, a thin part or a mislabelled patch."""
    small_object: float = 0.01
    """A component of at most this fraction of the valid pixels is a small object."""
    part_width: float = 0.35
    """A thin part is thinner than this fraction of its object's largest inscribed radius, and sticks out by as much."""
    coverage: float = 0.5
    """A small object or thin part is missed if less than this fraction of it is predicted as its class."""
    low_coverage: float = 0.25
    """A second, lower threshold on the coverage, reported separately."""
    large_object: float = 0.05
    """A component of at least this fraction of the valid pixels is a large object."""
    margin: float = 0.01
    """The interior of a large object is farther than this fraction of the image diagonal from its contour."""
    minimum_blob: float = 0.005
    """A mislabelled patch covers at least this fraction of the interior of its object."""

    def __post_init__(self) -> None:
        if self.minimum_area < 1:
            raise ValueError(f"minimum_area is {self.minimum_area}; it must be at least 1 pixel")
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise ValueError(f"{field.name} is {value}; it must be a fraction in [0, 1]")


DEFAULT_THRESHOLDS = Thresholds()


class Part(NamedTuple):
    """A thin part of a larger object.

    Attributes:
        component: Id of the object.
        box: Rows and columns in the image.
        mask: Pixels of the part within the box.
        area: Number of pixels.
        correct: Number of pixels predicted as the object's class.
    """

    component: int
    box: Slices
    mask: Mask
    area: int
    correct: int


class Blobs(NamedTuple):
    """Wrong patches inside large objects, each with one predicted class in one object. Entry 0 means "no patch"."""

    ids: IntArray
    """Patch of each pixel, (H, W); 0 for none."""
    areas: Counts
    owners: Counts
    """Component id of the large object that contains the patch."""
    predicted: Counts
    """The predicted class."""
    counted: Mask
    """Whether the patch is large enough to count."""


class Analysis(NamedTuple):
    """What counts and cases are computed from. Arrays over objects have shape (N + 1,); entry 0 means "no object"."""

    valid: int
    """Number of valid pixels of the image."""
    objects: Components
    correct: Counts
    """Number of correctly predicted pixels of each object."""
    small: Mask
    """Whether each object is small."""
    parts: list[Part]
    large: Mask
    """Whether each object is large."""
    large_right: Mask
    """Whether each object is large and at least half correct."""
    interior: Counts
    """Interior pixels of large objects that are at least half correct; zero for all other objects."""
    blobs: Blobs


def analyse(maps: Maps, background: int | None, thresholds: Thresholds) -> Analysis:
    """Find small objects, thin parts and large objects of an image, and the errors of the prediction on them."""
    prediction, label, void = maps
    check_image(maps)
    if background is not None and not 0 <= background < void:
        raise ValueError(f"background {background} is not a class (0 to {void - 1})")
    everything = find_components(label)
    objects = leave_out(everything, without_objects(void, background))
    areas = objects.areas
    correct = count_within(objects.ids, prediction == label, len(areas))
    valid = int(np.count_nonzero(label != void))
    larger = areas > share_of(thresholds.small_object, valid)
    large = (areas > 0) & (areas >= share_of(thresholds.large_object, valid))
    large_right = large & (2 * correct >= areas)
    squared = np.zeros(label.shape, dtype=np.float32)
    if (larger | large_right).any():
        squared = squared_distance(fill_specks(everything, objects, thresholds.minimum_area, large))
    interior, blobs = _find_blobs(maps, thresholds, objects, large_right, squared)
    return Analysis(
        valid=valid,
        objects=objects,
        correct=correct,
        small=(areas >= thresholds.minimum_area) & ~larger,
        parts=_find_parts(maps, thresholds, objects, larger, squared),
        large=large,
        large_right=large_right,
        interior=interior,
        blobs=blobs,
    )


def without_objects(void: int, background: int | None) -> tuple[int, ...]:
    """The codes whose pixels belong to no object."""
    return (void,) if background is None else (void, background)


def _find_parts(
    maps: Maps, thresholds: Thresholds, objects: Components, larger: Mask, squared: NDArray[np.float32]
) -> list[Part]:
    parts: list[Part] = []
    if not larger.any():
        return parts
    boxes = find_boxes(objects.ids, len(objects.areas))
    for component in np.flatnonzero(larger).tolist():
        box = boxes[component]
        for limb, mask in find_limbs(
            objects.ids[box] == component, squared[box], thresholds.part_width, thresholds.minimum_area
        ):
            rows, columns = (slice(a.start + b.start, a.start + b.stop) for a, b in zip(box, limb, strict=True))
            right = maps.prediction[rows, columns][mask] == objects.classes[component]
            parts.append(Part(component, (rows, columns), mask, right.size, int(right.sum())))
    return parts


def _find_blobs(
    maps: Maps, thresholds: Thresholds, objects: Components, large_right: Mask, squared: NDArray[np.float32]
) -> tuple[Counts, Blobs]:
    prediction, label, void = maps
    interior = np.zeros(len(objects.areas), dtype=np.int64)
    owners = np.flatnonzero(large_right)
    if len(owners) == 0:
        none = np.zeros(1, dtype=np.int64)
        return interior, Blobs(np.zeros_like(label), none, none, none, none > 0)
    # A wrong interior pixel is coded by the rank of its object (from 1) and its predicted class.
    size = void + 1
    rank = np.zeros(len(objects.areas), dtype=np.min_scalar_type((len(owners) + 1) * size))
    rank[owners] = np.arange(1, len(owners) + 1)
    ranks = rank[objects.ids]
    height, width = label.shape
    ranks *= squared > share_of(thresholds.margin**2, height**2 + width**2)
    interior[owners] = np.bincount(ranks.ravel(), minlength=len(owners) + 1)[1:]
    wrong = (prediction != label) & (prediction != void) & (ranks > 0)
    found = find_components((ranks * size + prediction) * wrong, excluded=(0,))
    owner = np.concatenate([[0], owners])[found.classes // size]
    least = np.maximum(thresholds.minimum_area, thresholds.minimum_blob * interior[owner])
    return interior, Blobs(found.ids, found.areas, owner, found.classes % size, found.areas >= least)
