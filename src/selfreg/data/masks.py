"""Reading masks: class indices, renumbered values, or colours."""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from selfreg.data.label_files import Colour, LabelFile
from selfreg.data.labels import IGNORE_INDEX, INVALID, Labels
from selfreg.data.pictures import Refused, load, opened, orientation

_COLOUR_MODES = ("RGB", "RGBA", "LA", "CMYK")
_SAVE_INDICES = "save class indices as an 8-bit grey or palette PNG"


class ColourMaskError(ValueError):
    """A mask contains colours where class indices are needed."""


@dataclass(frozen=True)
class MaskReader:
    """Reads the masks of one data set as class indices 0..K-1, void as 255.

    Attributes:
        label_file: Classes and, for colour masks, the colours of the classes.
        table: (256,) uint8 from value on disk to value in memory, if it is not `label_file.labels.table()`.
    """

    label_file: LabelFile
    table: NDArray[np.uint8] | None = None

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """Read a mask as (H, W) uint8.

        Raises:
            ValueError: As `read_indices`, or if a value or colour is neither a class nor void.
        """
        labels = self.label_file.labels
        if self.label_file.colours is None:
            return read_mask(path, labels, self.table)
        values = _read_pixels(path, colours=True, only_colours=self.label_file.only_colours)
        if values.ndim == 2:
            return check_values(values, labels.table() if self.table is None else self.table, path, labels)
        if self.table is not None:
            raise ValueError(
                f"{path}: mask holds colours, and the option masks.map renumbers indices: take masks.map away, "
                "and give classes and void their colours in the list of classes"
            )
        return self._decode_colours(values, path)

    @cached_property
    def _codes(self) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        """Sorted colours as 24-bit numbers, and the value in memory of each; `INVALID` if several classes share it."""
        colours = self.label_file.colours or {}
        codes = np.array([red << 16 | green << 8 | blue for red, green, blue in colours], dtype=np.uint32)
        values = np.array([INVALID if len(found) > 1 else found[0] for found in colours.values()], dtype=np.uint8)
        order = np.argsort(codes)
        return codes[order], values[order]

    def _decode_colours(self, pixels: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
        codes, values = self._codes
        wide = pixels.astype(np.uint32)
        given = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
        place = np.minimum(np.searchsorted(codes, given), len(codes) - 1)
        mask = values[place]
        wrong = (codes[place] != given) | (mask == INVALID)
        if wrong.any():
            row, column = (int(axis[0]) for axis in np.nonzero(wrong))
            red, green, blue = (int(value) for value in pixels[row, column])
            raise ValueError(
                f"{path}: {self._fault((red, green, blue))} (first at x {column}, y {row}; {int(wrong.sum())} such "
                "pixels in all): correct the mask, or give every class and void its exact colour"
            )
        return mask

    def _fault(self, colour: Colour) -> str:
        known = self.label_file.colours or {}
        names = {**dict(enumerate(self.label_file.labels.class_names)), IGNORE_INDEX: "void"}
        if colour in known:
            return f"colour {colour} stands for several classes, {', '.join(names[index] for index in known[colour])}"
        near = min(known, key=lambda other: sum((a - b) ** 2 for a, b in zip(colour, other, strict=True)))
        return f"colour {colour} is not in the palette, the nearest is {near} of {names[known[near][0]]!r}"


def value_table(values: Mapping[Any, Any], labels: Labels) -> NDArray[np.uint8]:
    """Make a table from the option `masks: {map: ...}`.

    Args:
        values: Value on disk (0..255) to `void`, a class index or a class name.
        labels: The classes.

    Returns:
        (256,) uint8, value on disk to value in memory; `INVALID` for values that are not in `values`.

    Raises:
        ValueError: If a value or a class is out of range or unknown.
    """
    table = np.full(256, INVALID, dtype=np.uint8)
    seen: set[int] = set()
    for key, target in values.items():
        # JSON and some YAML tools write the keys as text
        value = int(key) if isinstance(key, str) and key.isdecimal() else key
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
            raise ValueError(f"masks.map: {reprlib.repr(key)} is not a value of a mask: give 0..255")
        if value in seen:
            raise ValueError(f"masks.map: {value} is given twice: give each value once")
        seen.add(value)
        if target == "void":
            table[value] = IGNORE_INDEX
        elif target in labels.class_names:
            table[value] = labels.class_names.index(target)
        elif isinstance(target, int) and not isinstance(target, bool) and 0 <= target < labels.num_classes:
            table[value] = target
        else:
            raise ValueError(
                f"masks.map: {value} becomes {reprlib.repr(target)}: give void, a class name or an index of "
                f"0..{labels.num_classes - 1}"
            )
    return table


def read_indices(path: Path) -> NDArray[np.uint8]:
    """Read the values of an index mask exactly as stored.

    Args:
        path: A grey or palette PNG of 1, 2, 4 or 8 bits.

    Returns:
        (H, W) uint8.

    Raises:
        ValueError: If the file is missing, unreadable, truncated, animated or not a PNG, holds colours or 16 bits, has
            more than `MAX_PIXELS` pixels, or has an EXIF orientation, which leaves open where its pixels lie.
    """
    return _read_pixels(path, colours=False, only_colours=False)


def _read_pixels(path: Path, *, colours: bool, only_colours: bool) -> NDArray[np.uint8]:
    """Read indices (H, W) or, of colour masks where `colours` allows them, RGB (H, W, 3)."""
    with opened(path, "mask") as picture:
        if picture.format != "PNG":
            raise Refused(f"mask is a {picture.format}: {_SAVE_INDICES}")
        in_colour = only_colours or (colours and picture.mode in ("RGB", "RGBA"))
        if picture.mode not in ("L", "P", "1") and not (in_colour and picture.mode in ("RGB", "RGBA")):
            what = "colours" if picture.mode in _COLOUR_MODES else f"mode {picture.mode}"
            declare = "" if colours or picture.mode not in ("RGB", "RGBA") else ", or declare its colours"
            message = f"mask holds {what}: {_SAVE_INDICES}{declare}"
            raise Refused(message, ColourMaskError if what == "colours" else ValueError)
        rawmode = picture.tile[0].args if picture.tile else None
        if in_colour and isinstance(rawmode, str) and "16" in rawmode:
            raise Refused("mask holds colours of 16 bits: save it with 8 bits per channel")
        load(picture, path)
        if orientation(picture) != 1:
            raise Refused("mask has an EXIF orientation: rotate its pixels and save it without")
        if in_colour:
            return _opaque_colours(picture)
        values = np.asarray(picture, dtype=np.uint8)
    # Pillow stretches grey of 2 and 4 bits to 0..255, which would turn class 1 into 85 or 17.
    stretch = {"L;2": 85, "L;4": 17}.get(rawmode, 1) if isinstance(rawmode, str) else 1
    return values if stretch == 1 else values // np.uint8(stretch)


def _opaque_colours(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode == "RGBA":
        clear = np.argwhere(np.asarray(picture)[..., 3] != 255)
        if len(clear):
            row, column = clear[0].tolist()
            raise Refused(
                f"mask is transparent at x {column}, y {row} and {len(clear) - 1} more pixels: give every pixel the "
                "opaque colour of its class or of void"
            )
    return np.asarray(picture.convert("RGB"))


def read_mask(path: Path, labels: Labels, table: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Read a mask of class indices.

    Args:
        path: An index PNG.
        labels: The classes and the void value on disk.
        table: (256,) uint8 from value on disk to value in memory, if it is not `labels.table()`.

    Returns:
        (H, W) uint8 with classes 0..K-1 and void 255.

    Raises:
        ValueError: As `read_indices`, or if a value on disk is neither a class nor void.
    """
    values = read_indices(path)
    if table is None and labels.void in (None, IGNORE_INDEX):
        # nothing to change, and a look at the largest value says whether all is right: masks are read in every step
        past_void = np.uint8(labels.void is not None)  # 255 + 1 wraps to 0
        if int((values + past_void).max()) < labels.num_classes + past_void:
            return values
    return check_values(values, labels.table() if table is None else table, path, labels)


def check_values(
    values: NDArray[np.integer[Any]], table: NDArray[np.uint8], path: Path, labels: Labels
) -> NDArray[np.uint8]:
    """Turn values on disk into classes 0..K-1 and void 255.

    Args:
        values: (H, W) integers as stored in the file at `path`.
        table: uint8, one for each value on disk; `INVALID` marks those that must not occur.
        path: File for the message.
        labels: Classes for the message.

    Returns:
        (H, W) uint8.

    Raises:
        ValueError: If a value has no meaning.
    """
    if values.dtype == np.uint8 and len(table) == 256:
        # twice as fast as indexing the table
        mapped = values.tobytes().translate(table.tobytes())
        mask = np.frombuffer(mapped, dtype=np.uint8).reshape(values.shape)
        if INVALID not in mapped:
            return mask
        wrong = mask == INVALID
    else:
        known = (values >= 0) & (values < len(table))
        mask = np.take(table, np.where(known, values, 0))
        wrong = ~known | (mask == INVALID)
    if wrong.any():
        found = np.unique(values[wrong])
        shown = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
        allowed = ", ".join(_ranges(np.flatnonzero(table != INVALID)))
        void = "" if labels.void is None else f" (void {labels.void})"
        known_remedy = _binary_remedy(values, labels) or _void_remedy(found.tolist(), labels)
        remedy = known_remedy or "correct the mask or the list of classes"
        raise ValueError(f"{path}: mask holds {shown}; allowed: {allowed}{void}: {remedy}")
    return mask


def _binary_remedy(values: NDArray[np.integer[Any]], labels: Labels) -> str | None:
    """What to do about a mask of 0 and one other value, such as 255, for two classes."""
    found = np.unique(values).tolist()
    if len(found) != 2 or found[0] != 0 or labels.num_classes != 2:
        return None
    return (
        f"it looks like a binary mask; if {found[1]} is the class {labels.class_names[1]!r}, set the option "
        f"masks: {{map: {{0: 0, {found[1]}: 1}}}}"
    )


def _void_remedy(wrong: list[int], labels: Labels) -> str | None:
    """What to do about the single value 255 beside the classes, the usual one of pixels without a label."""
    if labels.void is not None or wrong != [IGNORE_INDEX]:
        return None
    return f'if {IGNORE_INDEX} marks pixels without a label, add "void": {IGNORE_INDEX} to the list of classes'


def _ranges(values: NDArray[np.intp]) -> list[str]:
    """Write sorted numbers as a few ranges: 0..10, 255."""
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return [str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs]
