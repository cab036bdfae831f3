"""Regions of a label map: connected components, distances to contours, thin parts, bands along contours."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import cc3d
import edt
import numpy as np
from numpy.typing import NDArray

from selfreg.evaluation.maps import IntArray

Mask = NDArray[np.bool_]
Slices = tuple[slice, slice]


class Components(NamedTuple):
    """8-connected components of equal class. Entry 0 of `areas` and `classes` means "no component".

    Attributes:
        ids: Component of each pixel, (H, W); 1..N, or 0 for none.
        areas: Number of pixels, (N + 1,) int64.
        classes: Class, (N + 1,) int64.
    """

    ids: IntArray
    areas: NDArray[np.int64]
    classes: NDArray[np.int64]


def find_components(codes: IntArray, excluded: tuple[int, ...] = ()) -> Components:
    """Find the components of all classes of a code map (H, W), except pixels with an `excluded` code."""
    shifted = codes + np.uint32(1) if codes.dtype.itemsize > 1 else codes + np.uint16(1)
    for code in excluded:
        shifted[codes == code] = 0
    ids: IntArray = cc3d.connected_components(shifted, connectivity=8)
    areas = np.bincount(ids.ravel())
    areas[0] = 0
    first = _run_starts(ids)
    classes = np.zeros(len(areas), dtype=np.int64)
    classes[ids.ravel()[first]] = codes.ravel()[first]
    classes[0] = 0
    return Components(ids, areas, classes)


def leave_out(components: Components, codes: tuple[int, ...]) -> Components:
    """Remove the components of some codes; the others keep their numbers."""
    kept = ~np.isin(components.classes, codes)
    kept[0] = False
    ids = np.where(kept, np.arange(len(kept)), 0).astype(components.ids.dtype)[components.ids]
    return Components(ids, components.areas * kept, components.classes * kept)


def fill_specks(everything: Components, objects: Components, minimum_area: int, large: Mask) -> IntArray:
    """Assign every speck to the object around it, so that specks do not change an object's shape.

    A speck is a component of `everything` (of any code, also void) that has fewer than `minimum_area` pixels, touches
    exactly one object, and is not a `large` object itself (in a tiny image a large object can be as small).

    Args:
        everything: Components of all codes.
        objects: Components of objects, numbered as in `everything`.
        minimum_area: Smallest area in pixels that is not a speck.
        large: Which objects are large, (N + 1,) bool.

    Returns:
        The filled ids of `objects`, (H, W).
    """
    ids, size = everything.ids, len(everything.areas)
    speck = (everything.areas < minimum_area) & ~large
    lowest, highest = np.full(size, size), np.zeros(size, dtype=np.int64)
    for one, other in ((ids[:, 1:], ids[:, :-1]), (ids[1:], ids[:-1])):
        border = np.flatnonzero(one != other)
        sides = one.ravel()[border], other.ravel()[border]
        for inner, outer in (sides, sides[::-1]):
            beside = speck[inner]
            np.minimum.at(lowest, inner[beside], outer[beside])
            np.maximum.at(highest, inner[beside], outer[beside])
    enclosed = np.flatnonzero(speck & (lowest == highest))
    enclosed = enclosed[objects.areas[lowest[enclosed]] > 0]
    if len(enclosed) == 0:
        return objects.ids
    owner = np.where(objects.areas > 0, np.arange(size), 0)
    owner[enclosed] = lowest[enclosed]
    return owner.astype(ids.dtype)[ids]


def find_boxes(ids: IntArray, size: int) -> list[Slices]:
    """Bounding box of each id 0..size-1 of a map (H, W), in one pass; empty for an id that does not occur."""
    height, width = ids.shape
    first = _run_starts(ids)
    last = np.append(first[1:], ids.size) - 1
    owner = ids.ravel()[first]
    low = np.tile([height, width], (size, 1))
    high = np.zeros((size, 2), dtype=np.int64)
    for axis, (start, stop) in enumerate([(first // width, first // width), (first % width, last % width)]):
        np.minimum.at(low[:, axis], owner, start)
        np.maximum.at(high[:, axis], owner, stop + 1)
    return [
        (slice(top, bottom), slice(left, right))
        for (top, left), (bottom, right) in zip(low.tolist(), high.tolist(), strict=True)
    ]


def _run_starts(ids: IntArray) -> NDArray[np.intp]:
    """Flat indices at which a run of equal ids begins in a row."""
    starts = np.ones(ids.shape, dtype=bool)
    np.not_equal(ids[:, 1:], ids[:, :-1], out=starts[:, 1:])
    return np.flatnonzero(starts)


def count_within(ids: IntArray, selected: Mask, size: int) -> NDArray[np.int64]:
    """Count the `selected` pixels of each id: (size,) int64; entry 0 (no component) is zero."""
    counts = np.bincount((ids * selected).ravel(), minlength=size)
    counts[0] = 0
    return counts


def bounding_box(mask: Mask) -> Slices:
    """Smallest box around the true pixels of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def share_of(share: float, whole: float) -> float:
    """Compute `share * whole` without binary rounding errors: 0.35 * 0.35 * 1600 is exactly 196."""
    return round(share * whole, 6)


def squared_distance(ids: IntArray) -> NDArray[np.float32]:
    """Squared Euclidean distance of each pixel to the nearest pixel with another id.

    Args:
        ids: Component ids, (H, W).

    Returns:
        (H, W) float32, in squared pixels between pixel centres: 1 next to the contour, infinite if the image has a
        single id, 0 where the id is 0. The image border is not a contour.
    """
    distance: NDArray[np.float32] = edt.edtsq(ids, black_border=False)
    return distance


def find_limbs(
    component: Mask, squared: NDArray[np.float32], width: float, minimum_area: int
) -> Iterator[tuple[Slices, Mask]]:
    """Find the thin parts of one component: what a morphological opening removes and what sticks out far enough.

    Let R be the largest distance in the component and r = `width` * R. The core is what lies deeper than r; the opened
    component is what lies within r of the core. A thin part is an 8-connected component of the rest that has at least
    `minimum_area` pixels, one of them at least 2 r from the core, i.e. r outside the opened component.

    Args:
        component: Mask of the component, cropped to its box, (h, w) bool.
        squared: The same crop of its `squared_distance`, (h, w).
        width: Relative width of a thin part, in [0, 1].
        minimum_area: Fewest pixels of a thin part.

    Yields:
        Box and mask of each thin part.

    Source: this project's definition.
    """
    deepest = float(squared[component].max())
    if not np.isfinite(deepest):
        return
    limit = share_of(width * width, deepest)
    core = component & (squared > limit)
    # A square inside the open disk of radius 2 r; often it already covers everything that is near.
    if not (component & ~dilate_square(core, math.ceil(math.sqrt(2 * limit)) - 1)).any():
        return
    to_core = edt.edtsq(~core, black_border=False)
    far = component & (to_core >= 4 * limit)
    if not far.any():
        return
    # Converted to integers since cc3d 4.1 labels some boolean images wrongly.
    rest = cc3d.connected_components((component & (to_core > limit)).view(np.uint8), connectivity=8)
    areas = np.bincount(rest.ravel())
    for index in np.unique(rest[far]):
        if areas[index] >= minimum_area:
            mask = rest == index
            box = bounding_box(mask)
            yield box, mask[box]


def sliding_any(flags: Mask, length: int, axis: int) -> Mask:
    """Whether any of `length` consecutive flags along `axis` is set; the axis becomes `length - 1` shorter."""
    flags = np.moveaxis(flags, axis, 0)
    covered = 1
    while covered < length:
        step = min(covered, length - covered)
        flags = flags[:-step] | flags[step:]
        covered += step
    return np.moveaxis(flags, 0, axis)


def dilate_square(mask: Mask, distance: int) -> Mask:
    """Pixels that have a true pixel of `mask` (H, W) within `distance` rows and columns."""
    length = 2 * distance + 1
    return sliding_any(sliding_any(np.pad(mask, distance), length, axis=1), length, axis=0)


def contour_band(codes: IntArray, distance: int) -> Mask:
    """Pixels of a code map (H, W) that have a different code within `distance` rows and columns.

    The window is square as in the reference implementation of Boundary IoU. The image border is not a contour.
    """
    across = np.pad(codes[:, 1:] != codes[:, :-1], ((distance, distance), (distance, distance)))
    down = np.pad(codes[1:] != codes[:-1], ((distance, distance), (0, 0)))
    mixed_rows = sliding_any(across, 2 * distance, axis=1)
    return sliding_any(mixed_rows, 2 * distance + 1, axis=0) | sliding_any(down, 2 * distance, axis=0)
