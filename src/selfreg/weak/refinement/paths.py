"""Straight paths between the near pixels of a grid, and the strongest boundary that each path crosses."""

from functools import cache

import torch
from torch import Tensor

RADIUS = 5.0
"""Pixels of the grid that see each other are nearer than this (IRN: 5 on a grid of stride 4)."""

Displacement = tuple[int, int]
"""Rows down and columns to the right, from the first pixel of a pair to the second."""


@cache
def displacements(radius: float) -> tuple[Displacement, ...]:
    """Every displacement shorter than `radius`, each pair of pixels once: downward, or level and to the right.

    Raises ValueError for a radius of 1 or less, within which a pixel has no neighbour.
    """
    if radius <= 1:
        raise ValueError(
            f"the radius is {radius:g} pixels of the grid, within which no pixel has a neighbour; 5 is usual"
        )
    reach = int(radius)
    return tuple(
        (down, right)
        for down in range(reach + 1)
        for right in range(-reach, reach + 1)
        if (down, right) > (0, 0) and down**2 + right**2 < radius**2
    )


@cache
def path(displacement: Displacement) -> tuple[Displacement, ...]:
    """The pixels on the straight line from (0, 0) to `displacement`, both ends among them.

    One pixel per row or column, whichever the line crosses more of: the one whose centre is nearest to the line, or
    both where it passes midway (this project's; so that a path reversed or mirrored is the path of the reverse or the
    mirror image).
    """
    down, right = displacement
    length = max(abs(down), abs(right))
    pixels = []
    for step in range(length + 1):
        rows = _nearest(step * down, length)
        columns = _nearest(step * right, length)
        pixels += [(row, column) for row in rows for column in columns]
    return tuple(pixels)


def _nearest(numerator: int, denominator: int) -> range:
    """The integer nearest to numerator / denominator, or both where it lies midway."""
    lowest = -((denominator - 2 * numerator) // (2 * denominator))
    highest = (denominator + 2 * numerator) // (2 * denominator)
    return range(lowest, highest + 1)


def ends(maps: Tensor, displacement: Displacement) -> tuple[Tensor, Tensor]:
    """Maps (..., h, w) at the first and at the second pixel of each pair: two views (..., h - |down|, w - |right|)."""
    return _seen_from(maps, displacement, (0, 0)), _seen_from(maps, displacement, displacement)


def path_maxima(boundaries: Tensor, displacement: Displacement) -> Tensor:
    """The largest value on the path of each pair of pixels: (..., h, w) to (..., h - |down|, w - |right|).

    Empty where the grid is too small for the displacement. A gradient flows to the largest value alone.
    """
    first, *others = (_seen_from(boundaries, displacement, pixel) for pixel in path(displacement))
    for other in others:
        first = torch.maximum(first, other)
    return first


def _seen_from(maps: Tensor, displacement: Displacement, pixel: Displacement) -> Tensor:
    down, right = displacement
    height, width = max(maps.shape[-2] - down, 0), max(maps.shape[-1] - abs(right), 0)
    top, left = pixel[0], pixel[1] + max(-right, 0)
    return maps[..., top : top + height, left : left + width]
