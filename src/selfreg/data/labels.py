"""What the values of a mask mean: class names, the void value on disk, colours."""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreg.files import read_json

IGNORE_INDEX = 255
"""The value of void pixels in every mask in memory, whatever it was on disk."""


def voc_palette() -> NDArray[np.uint8]:
    """The colours of PASCAL VOC: 256 distinct ones, (256, 3) uint8 RGB; 0 is black and 255 a light grey.

    The bits of the index are dealt out to red, green and blue in turn, the lowest becoming the highest bit of its
    colour, so that neighbouring indices are far apart. Source: VOC development kit.
    """
    index = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        channel, place = bit % 3, 7 - bit // 3
        palette[:, channel] |= ((index >> bit & 1) << place).astype(np.uint8)
    return palette


def full_palette(colours: Sequence[Sequence[int]]) -> NDArray[np.uint8]:
    """(256, 3) uint8: the given RGB colours for the first classes, white for void (255), VOC's for the rest."""
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


@dataclass(frozen=True)
class Labels:
    """The classes of a data set, as masks on disk hold them.

    Attributes:
        class_names: one name for each class, in the order of their indices 0..K-1; at most 254.
        void: the value of pixels without a class on disk, or None where masks have none. In memory it is always 255.
        palette: (256, 3) uint8 RGB, the colour of each value in memory.

    Raises:
        ValueError: no classes, too many, a name twice, or a void value that is also a class.
    """

    class_names: tuple[str, ...]
    void: int | None = None
    palette: NDArray[np.uint8] = field(default_factory=voc_palette, compare=False, repr=False)

    def __post_init__(self) -> None:
        names = self.class_names
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names or len(names) > 254:
            raise ValueError(f"{len(names)} classes: give between 1 and 254 class names")
        if not all(name and name.isprintable() for name in names):
            raise ValueError(f"class names {reprlib.repr(names)}: give each class a name that can be printed in a line")
        if twice:
            raise ValueError(f"class name '{twice[0]}' is given twice: name each class once")
        if self.void is not None and not len(names) <= self.void <= 255:
            raise ValueError(f"void {self.void} is not free: choose a value from {len(names)} to 255")
        if self.palette.shape != (256, 3) or self.palette.dtype != np.uint8:
            raise ValueError(f"palette of shape {self.palette.shape}: give (256, 3) uint8")

    @property
    def num_classes(self) -> int:
        """K, void not counted."""
        return len(self.class_names)

    def table(self) -> NDArray[np.uint8]:
        """(256,) uint8: value on disk to value in memory; `INVALID` (254) where a value on disk has no meaning."""
        table = np.full(256, INVALID, dtype=np.uint8)
        table[: self.num_classes] = np.arange(self.num_classes)
        if self.void is not None:
            table[self.void] = IGNORE_INDEX
        return table


INVALID = 254
"""Marks, in a table from disk to memory, a value that masks must not hold."""


@dataclass(frozen=True)
class LabelFile:
    """One reading of a `labels.json`: its labels, and the image-level tags if it has any.

    Attributes:
        labels: classes, void and palette.
        tags: image id to the class indices that its image holds, or None where the file has no tags.
    """

    labels: Labels
    tags: Mapping[str, tuple[int, ...]] | None


def read_labels(path: Path, masks: str = "masks") -> LabelFile:
    """Reads `labels.json` for the mask folder named `masks`.

    Keys: `classes` (names in the order of the indices), `void` (a value or null), and optionally `palette` (an RGB
    triple for each class) and `image_labels` (image id to class names). A second set of masks of the same images lives
    in a folder `masks_SUFFIX`; for it the keys `classes_SUFFIX`, `void_SUFFIX`, `palette_SUFFIX` and
    `image_labels_SUFFIX` are read, where present, in place of the plain ones. Tags and palettes belong to their
    classes: where `classes_SUFFIX` is present, the plain `palette` and `image_labels` are not used.

    Raises:
        ValueError: the file is missing, no JSON, has no classes, or has tags that are no class.
    """
    if not path.is_file():
        raise ValueError(f'{path}: no such file: write one with "classes" (names in index order) and "void"')
    content = read_json(path)
    suffix = masks.removeprefix("masks") if masks.startswith("masks_") else ""
    own_classes = bool(suffix) and f"classes{suffix}" in content

    def value(key: str, *, shared: bool) -> Any:
        return content.get(f"{key}{suffix}", content.get(key) if shared else None)

    names = value("classes", shared=True)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f'{path}: no list of class names under \'classes\': add "classes": ["sky", ...]')
    void = value("void", shared=True)
    if void is not None and (isinstance(void, bool) or not isinstance(void, int)):
        raise ValueError(
            f"{path}: void is {reprlib.repr(void)}: give a whole number of 0..255, or null where there is none"
        )
    colours = value("palette", shared=not own_classes)
    try:
        palette = voc_palette() if colours is None else full_palette(colours)
        labels = Labels(tuple(names), void, palette)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    tags = value("image_labels", shared=not own_classes)
    return LabelFile(labels, None if tags is None else _tag_indices(tags, labels, path))


def _tag_indices(tags: Any, labels: Labels, path: Path) -> dict[str, tuple[int, ...]]:
    if not isinstance(tags, dict):
        raise ValueError(f"{path}: image_labels is a {type(tags).__name__}: give image ids with lists of class names")
    index = {name: number for number, name in enumerate(labels.class_names)}
    for image_id, names in tags.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(
                f"{path}: tags of image {image_id!r} are {reprlib.repr(names)}: give a list of class names"
            )
        unknown = [name for name in names if name not in index]
        if unknown:
            raise ValueError(f"{path}: tag {unknown[0]!r} of image {image_id!r} is no class: use names of 'classes'")
    return {image_id: tuple(sorted({index[name] for name in names})) for image_id, names in tags.items()}
