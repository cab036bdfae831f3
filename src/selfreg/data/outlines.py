"""The area inside an outline: polygons, and the run lengths of COCO, plain and compressed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CROSSINGS_AT_ONCE = 2**18
"""Polygons are filled in bands of rows with at most so many pixels, and crossings of edges with rows."""


def fill_polygon(mask: NDArray[np.uint8], corners: NDArray[np.floating[Any]], value: int) -> None:
    """Set the pixels of a mask whose centres lie inside a polygon (even-odd rule).

    Rows are filled in bands, so little memory is needed for any polygon.

    Args:
        mask: (H, W) uint8, changed in place.
        corners: (P, 2) x and y in pixels; the centre of the first pixel is at (0.5, 0.5).
        value: Value of the pixels inside.
    """
    height, width = mask.shape
    x, y = corners[:, 0].astype(np.float64), corners[:, 1].astype(np.float64)
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    first = np.clip(np.ceil(np.minimum(y, next_y) - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y, next_y) - 0.5), 0, height).astype(np.int64)
    edges = np.flatnonzero(last > first)
    if not len(edges):
        return
    slope = (next_x - x)[edges] / (next_y - y)[edges]
    first, last, x, y = first[edges], last[edges], x[edges], y[edges]
    rows_at_once = max(1, _CROSSINGS_AT_ONCE // max(len(edges), width))
    for top in range(int(first.min()), int(last.max()), rows_at_once):
        bottom = min(top + rows_at_once, height)
        begin, end = np.clip(first, top, bottom), np.clip(last, top, bottom)
        crossed = end - begin
        edge = np.repeat(np.arange(len(edges)), crossed)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + begin[edge]
        at = x[edge] + (row + 0.5 - y[edge]) * slope[edge]
        column = np.clip(np.ceil(at - 0.5), 0, width).astype(np.int64)
        _fill_between(mask[top:bottom], row - top, column, value)


def _fill_between(band: NDArray[np.uint8], row: NDArray[np.int64], column: NDArray[np.int64], value: int) -> None:
    """Set the pixels to the right of an odd number of crossings; `row` and `column` give their places."""
    if not len(row):
        return
    left = int(column.min())
    turns = np.zeros((band.shape[0], int(column.max()) + 1 - left), dtype=np.int32)
    np.add.at(turns, (row, column - left), 1)
    inside = np.cumsum(turns, axis=1)[:, :-1] % 2 == 1
    band[:, left : left + inside.shape[1]][inside] = value


def polygon_area(corners: NDArray[np.floating[Any]]) -> float:
    """Area inside a polygon, (P, 2) x and y, in square pixels (shoelace formula)."""
    x, y = corners[:, 0].astype(np.float64), corners[:, 1].astype(np.float64)
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def decode_counts(counts: NDArray[np.int64], height: int, width: int) -> NDArray[np.bool_]:
    """Decode run lengths to (height, width) bool, column by column, beginning with the pixels outside.

    Raises:
        ValueError: If the runs do not add up to height x width pixels.
    """
    if counts.min(initial=0) < 0 or sum(counts.tolist()) != height * width:
        raise ValueError(f"run lengths that do not fill {width} x {height} pixels")
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return inside.reshape(width, height).T


def parse_counts(counts: str | bytes | Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Parse the run lengths of COCO: a list of integers, or its compressed text.

    A character of the text, counted from "0", holds six bits: five bits of a number, lowest first, and a continuation
    flag. From the fourth run on, the number is the difference to the run two places before. pycocotools is not used,
    since it returns uninitialised memory if the runs do not fill the mask.

    Raises:
        ValueError: If they are not run lengths.

    Source: COCO API, `maskApi.c`.
    """
    if isinstance(counts, str | bytes):
        return _decompress(counts.encode("utf-8") if isinstance(counts, str) else counts)
    values = np.asarray(counts)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError("run lengths that are not integers")
    return values.astype(np.int64)


def _decompress(text: bytes) -> NDArray[np.int64]:
    symbols = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(symbols & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends + 1 - starts
    complete = len(ends) > 0 and ends[-1] == len(symbols) - 1
    if not complete or symbols.min() < 0 or symbols.max() > 63 or lengths.max() > 7:
        raise ValueError("compressed run lengths that cannot be decoded")
    places = np.arange(len(symbols)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((symbols & 31) << (5 * places), starts)
    numbers -= np.where(symbols[ends] & 16, np.int64(1) << (5 * lengths), 0)
    for phase in (1, 2):
        numbers[phase::2] = np.cumsum(numbers[phase::2])
    return numbers
