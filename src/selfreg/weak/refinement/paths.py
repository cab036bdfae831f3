"""Straight paths between nearby pixels of a grid, and the maximum of a boundary map along each path."""

from functools import cache

import torch
from torch import Tensor

RADIUS = 5.0
"""Pairs of pixels are nearer than this, in pixels of the grid (IRN: 5 on a grid of stride 4)."""

Displacement = tuple[int, int]
"""Rows down and columns to the right, from the first pixel of a pair to the second."""


@cache
def displacements(radius: float) -> tuple[Displacement, ...]:
    """Return every displacement shorter than `radius`, each pair of pixels once: downward, or level and to the right.

    Raises:
        ValueError: If the radius is 1 or less, so that a pixel has no neighbour.
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
    """Return the pixels on the straight line from (0, 0) to `displacement`, both ends included.

    One pixel per row or column, whichever the line crosses more of: the pixel nearest to the line, or both if it passes
    midway. The path of a reversed or mirrored displacement is therefore the reversed or mirrored path (this
    project's).
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
    """Return the integer nearest to numerator / denominator, or both if it lies midway."""
    lowest = -((denominator - 2 * numerator) // (2 * denominator))
    highest = (denominator + 2 * numerator) // (2 * denominator)
    return range(lowest, highest + 1)


def ends(maps: Tensor, displacement: Displacement) -> tuple[Tensor, Tensor]:
    """Return maps (..., h, w) at the first and second pixel of each pair: two views (..., h - |down|, w - |right|)."""
    return _seen_from(maps, displacement, (0, 0)), _seen_from(maps, displacement, displacement)


def path_maxima(boundaries: Tensor, displacement: Displacement) -> Tensor:
    """Return the maximum along the path of each pair: (..., h, w) to (..., h - |down|, w - |right|).

    Empty if the grid is smaller than the displacement. Only the maximum receives a gradient.
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
