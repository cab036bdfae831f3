"""The meaning of mask values: class names, background, the void value on disk, colours."""

import reprlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

IGNORE_INDEX = 255
"""The value of void pixels in every mask in memory, independent of the value on disk."""


def voc_palette() -> NDArray[np.uint8]:
    """The 256 colours of PASCAL VOC, (256, 3) uint8 RGB; 0 is black and 255 a light grey.

    The bits of the index go to red, green and blue in turn, the lowest to the highest bit of its colour, so that
    neighbouring indices have very different colours.

    Source: VOC development kit.
    """
    index = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        channel, place = bit % 3, 7 - bit // 3
        palette[:, channel] |= ((index >> bit & 1) << place).astype(np.uint8)
    return palette


def full_palette(colours: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """Complete RGB colours to (256, 3) uint8: the given ones first, white for void (255), VOC's for the rest.

    Raises:
        ValueError: If `colours` is not a list of at most 255 triples of 0..255.
    """
    try:
        given = np.asarray(colours)
    except ValueError:  # rows of different lengths
        given = np.empty(0)
    whole_numbers = given.dtype.kind in "iu" and given.ndim == 2 and given.shape[1] == 3
    if not whole_numbers or not 0 < len(given) <= 255 or given.min() < 0 or given.max() > 255:
        raise ValueError("palette: give one [red, green, blue] of 0..255 for each class, at most 255 of them")
    palette = voc_palette()
    palette[: len(given)] = given
    palette[IGNORE_INDEX] = 255
    return palette


BY_NAME = -1
"""Value of `Labels.background` at construction: find the background class by its name."""


def find_background(class_names: Sequence[str]) -> int | None:
    """Find the class called background, in any case and with or without underscores (`_background_`).

    Returns:
        Its index, or None if there is no such class.

    Raises:
        ValueError: If there are several.
    """
    names = ["".join(name.split()).replace("_", "").casefold() for name in class_names]
    if names.count("background") > 1:
        raise ValueError('several classes are called background: choose one with "background": NAME in labels.json')
    return names.index("background") if "background" in names else None


@dataclass(frozen=True)
class Labels:
    """The classes of a data set, as masks on disk hold them.

    Attributes:
        class_names: One name for each class, in the order of their indices 0..K-1; at most 254.
        void: The value on disk of pixels without a class, or None if masks have none. In memory it is always 255.
        palette: (256, 3) uint8 RGB, the colour of each value in memory.
        background: Index of the class that consists of no objects, or None. Found by its name (see `find_background`)
            unless given.

    Raises:
        ValueError: If there are no classes or too many, a name occurs twice, the void value is also a class, or
            `background` is not a class.
    """

    class_names: tuple[str, ...]
    void: int | None = None
    palette: NDArray[np.uint8] = field(default_factory=voc_palette, compare=False, repr=False)
    background: int | None = BY_NAME

    def __post_init__(self) -> None:
        names = self.class_names
        if not names or len(names) > 254:
            raise ValueError(f"{len(names)} classes: give between 1 and 254 class names")
        if not all(name and name.isprintable() for name in names):
            raise ValueError(f"class names {reprlib.repr(names)}: give each class a name that can be printed in a line")
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise ValueError(f"class name '{twice[0]}' is given twice: name each class once")
        if self.void is not None and not len(names) <= self.void <= 255:
            raise ValueError(
                f"void {self.void} is not free: it is also the index of a class; choose a value from {len(names)} to "
                "255, or say what the values on disk mean with the option masks: {map: {0: void, 1: 0, ...}}"
            )
        if self.palette.shape != (256, 3) or self.palette.dtype != np.uint8:
            raise ValueError(f"palette of shape {self.palette.shape}: give (256, 3) uint8")
        if self.background == BY_NAME:
            object.__setattr__(self, "background", find_background(names))
        elif self.background is not None and not 0 <= self.background < len(names):
            raise ValueError(f"background {self.background} is not a class: give an index of 0..{len(names) - 1}")

    @property
    def num_classes(self) -> int:
        """Number of classes K; void is not counted."""
        return len(self.class_names)

    def table(self) -> NDArray[np.uint8]:
        """Map from value on disk to value in memory, (256,) uint8; `INVALID` (254) marks values without meaning."""
        table = np.full(256, INVALID, dtype=np.uint8)
        table[: self.num_classes] = np.arange(self.num_classes)
        if self.void is not None:
            table[self.void] = IGNORE_INDEX
        return table


INVALID = 254
"""Marks a value that masks must not contain, in a table from disk to memory."""
