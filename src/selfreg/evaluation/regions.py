"""Regions of a label map: components, their distance to the contour, their parts, bands along contours."""

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
    """8-connected components of one class each; entry 0 of `areas` and `classes` stands for no component.

    `ids` is `(H, W)`, 0 where there is none and 1..N elsewhere; `areas` `(N + 1,)` int64 in pixels;
    `classes` `(N + 1,)` int64.
    """

    ids: IntArray
    areas: NDArray[np.int64]
    classes: NDArray[np.int64]


def find_components(codes: IntArray, excluded: tuple[int, ...] = ()) -> Components:
    """Components of all classes of a code map `(H, W)`; pixels of the `excluded` codes belong to none."""
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
    """The same components, equally numbered, but for those of some codes."""
    kept = ~np.isin(components.classes, codes)
    kept[0] = False
    ids = np.where(kept, np.arange(len(kept)), 0).astype(components.ids.dtype)[components.ids]
    return Components(ids, components.areas * kept, components.classes * kept)


def fill_specks(everything: Components, objects: Components, minimum_area: int, large: Mask) -> IntArray:
    """The ids of `objects` `(H, W)` with every speck given to the object around it: the shapes without dents.

    A speck is a component of `everything` (any code, void too) of fewer than `minimum_area` pixels with pixels of
    one single object beside it, and none of the `large` objects, which in a tiny image can be as small. The two sets
    of components are numbered alike.
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
    """The box of each id 0..size-1 of a map `(H, W)`, all in one pass; an empty one for an id that does not occur."""
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
    """Flat indices where a run of equal ids begins in a row: few, where single pixels are many."""
    starts = np.ones(ids.shape, dtype=bool)
    np.not_equal(ids[:, 1:], ids[:, :-1], out=starts[:, 1:])
    return np.flatnonzero(starts)


def count_within(ids: IntArray, selected: Mask, size: int) -> NDArray[np.int64]:
    """Count the `selected` pixels of each id: `(size,)` int64; entry 0, no component, is zero."""
    counts = np.bincount((ids * selected).ravel(), minlength=size)
    counts[0] = 0
    return counts


def bounding_box(mask: Mask) -> Slices:
    """Smallest box around the true pixels of a mask that has some."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def share_of(share: float, whole: float) -> float:
    """`share * whole` without the dust of binary fractions: 0.35 * 0.35 * 1600 is 196, and a tie is a tie."""
    return round(share * whole, 6)


def squared_distance(ids: IntArray) -> NDArray[np.float32]:
    """Squared Euclidean distance of each pixel to the nearest one of another id; the image border is no contour.

    In pixels, between centres: 1 beside the contour; infinite where the image holds one id alone; 0 for the id 0.
    """
    distance: NDArray[np.float32] = edt.edtsq(ids, black_border=False)
    return distance


def find_limbs(
    component: Mask, squared: NDArray[np.float32], width: float, minimum_area: int
) -> Iterator[tuple[Slices, Mask]]:
    """Limbs of one component: what an opening removes, where it stands out far enough.

    `component` and `squared` (its `squared_distance`) are `(h, w)` crops that hold all of it. With R the
    largest distance in it and r = `width` * R, the core is what lies deeper than r, and the opened component is what
    lies within r of the core. A limb is an 8-connected component of the rest, of at least `minimum_area` pixels,
    with a pixel at least 2 r from the core, that is, r outside the opened component. Yields the box and mask of each.
    """
    deepest = float(squared[component].max())
    if not np.isfinite(deepest):
        return
    limit = share_of(width * width, deepest)
    core = component & (squared > limit)
    # A square inside the open disk of radius 2 r: what it covers is near, and often that is all.
    if not (component & ~dilate_square(core, math.ceil(math.sqrt(2 * limit)) - 1)).any():
        return
    to_core = edt.edtsq(~core, black_border=False)
    far = component & (to_core >= 4 * limit)
    if not far.any():
        return
    # As integers: cc3d 4.1 labels some boolean images wrongly.
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
    """Pixels with a true pixel of `mask` `(H, W)` at most `distance` away in rows and in columns."""
    length = 2 * distance + 1
    return sliding_any(sliding_any(np.pad(mask, distance), length, axis=1), length, axis=0)


def contour_band(codes: IntArray, distance: int) -> Mask:
    """Pixels of a code map `(H, W)` with a different code at most `distance` away (in rows and in columns).

    A square window, as in the reference implementation of Boundary IoU; all codes in one pass. The image border is no
    contour here.
    """
    across = np.pad(codes[:, 1:] != codes[:, :-1], ((distance, distance), (distance, distance)))
    down = np.pad(codes[1:] != codes[:-1], ((distance, distance), (0, 0)))
    mixed_rows = sliding_any(across, 2 * distance, axis=1)
    return sliding_any(mixed_rows, 2 * distance + 1, axis=0) | sliding_any(down, 2 * distance, axis=0)
