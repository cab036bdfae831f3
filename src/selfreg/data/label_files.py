"""Files that list the classes of a data set: `labels.json`, CVAT's `labelmap.txt`, `classes.txt`."""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import normalize

from selfreg.data.labels import BY_NAME, IGNORE_INDEX, Labels, full_palette, voc_palette
from selfreg.files import read_json
from selfreg.input_files import read_text

LABEL_FILES = ("labels.json", "labelmap.txt", "classes.txt")
"""Names of files that list classes, in the order of precedence."""

Colour = tuple[int, int, int]
VOID_NAMES = ("void", "ignore", "ignored", "unlabelled", "unlabeled")
"""Names of void labels in other tools, in lower case and without surrounding underscores."""


@dataclass(frozen=True)
class LabelFile:
    """The content of a file that lists classes.

    Attributes:
        labels: Classes, void, palette and background.
        tags: Image id to the indices of the classes in its image, or None if the file has no tags.
        colours: RGB colour to the values in memory that it stands for, or None if the file gives no colours.
        only_colours: Whether masks are read by their colours even where they have indices (CVAT).
    """

    labels: Labels
    tags: Mapping[str, tuple[int, ...]] | None = None
    colours: Mapping[Colour, tuple[int, ...]] | None = None
    only_colours: bool = False


def read_label_file(root: Path, masks: str = "masks", *, ignore_void: bool = False) -> LabelFile:
    """Read the first of `labels.json`, `labelmap.txt` and `classes.txt` in `root`.

    Args:
        root: Folder of the data set.
        masks: Name of the mask folder, see `read_labels`.
        ignore_void: Leave out the void value of `labels.json`, because another option says what values mean.

    Raises:
        ValueError: If there is no such file, or it has no valid list of classes.
    """
    found = next((root / name for name in LABEL_FILES if (root / name).is_file()), None)
    if found is None:
        raise ValueError(
            f'{root / LABEL_FILES[0]}: no such file: write one with "classes" (names in index order) and "void", or a '
            f"{' or '.join(LABEL_FILES[1:])}"
        )
    if found.name == "labels.json":
        return read_labels(found, masks, ignore_void=ignore_void)
    return _read_labelmap(found) if found.name == "labelmap.txt" else _read_classes(found)


def read_labels(path: Path, masks: str = "masks", *, ignore_void: bool = False) -> LabelFile:
    """Read `labels.json` for the mask folder named `masks`.

    Keys: `classes` (names in the order of the indices), `void` (a value, an RGB triple for colour masks, or null), and
    optionally `palette` (an RGB triple for each class), `background` (the name of a class, or null for none) and
    `image_labels` (image id to class names). A second set of masks of the same images lies in a folder `masks_SUFFIX`;
    for it the keys `classes_SUFFIX`, `void_SUFFIX` and so on are read, where present, instead of the plain ones.
    Tags, palette and background belong to their classes: where `classes_SUFFIX` is present, the plain ones are not
    used.

    Raises:
        ValueError: If the file is missing, is not JSON, has no classes, or has tags that are not classes.
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
    void = None if ignore_void else value("void", shared=True)
    colours = value("palette", shared=not own_classes)
    named = f"background{suffix}" in content or (not own_classes and "background" in content)
    background = _background(value("background", shared=not own_classes), names, path) if named else BY_NAME
    try:
        void_colour = None
        if isinstance(void, list) and len(void) == 3:
            full_palette([void])
            void_colour, void = (void[0], void[1], void[2]), None
        if void is not None and (isinstance(void, bool) or not isinstance(void, int)):
            raise ValueError(
                f"void is {reprlib.repr(void)}: give a whole number of 0..255, or null where there is none"
            )
        palette = voc_palette() if colours is None else full_palette(colours)
        labels = Labels(tuple(names), void, palette, background)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    tags = value("image_labels", shared=not own_classes)
    voids = [] if void_colour is None else [void_colour]
    by_colour = None if colours is None else _by_colour([tuple(colour) for colour in colours[: len(names)]], voids)
    return LabelFile(labels, None if tags is None else _tag_indices(tags, labels, path), by_colour)


def _background(value: Any, names: Sequence[str], path: Path) -> int | None:
    if value is not None and value not in names:
        raise ValueError(f"{path}: background is {reprlib.repr(value)}: give a name of 'classes', or null for none")
    return None if value is None else names.index(value)


def _by_colour(colours: Sequence[Any], voids: Sequence[Colour]) -> dict[Colour, tuple[int, ...]]:
    found: dict[Colour, tuple[int, ...]] = dict.fromkeys(voids, (IGNORE_INDEX,))
    for index, colour in enumerate(colours):
        found[colour] = (*found.get(colour, ()), index)
    return found


def _read_lines(path: Path) -> list[str]:
    try:
        text = read_text(path, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as text in UTF-8 ({error}): save it as UTF-8") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _read_labelmap(path: Path) -> LabelFile:
    """Read CVAT's list: `NAME:R,G,B:PARTS:ACTIONS` per line; a label called void or ignored is void."""
    names, colours, voids = [], [], []
    for line in _read_lines(path):
        if line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        numbers = rest.partition(":")[0].split(",")
        if len(numbers) != 3 or not all(number.strip().isdecimal() and int(number) < 256 for number in numbers):
            raise ValueError(f"{path}: {reprlib.repr(line)} gives no colour: write NAME:RED,GREEN,BLUE:: with 0..255")
        colour = (int(numbers[0]), int(numbers[1]), int(numbers[2]))
        if name.strip().strip("_").casefold() in VOID_NAMES:
            voids.append(colour)
        else:
            names.append(name.strip())
            colours.append(colour)
    try:
        labels = Labels(tuple(names), None, full_palette(colours))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return LabelFile(labels, None, _by_colour(colours, voids), only_colours=True)


def _read_classes(path: Path) -> LabelFile:
    """Read one class name per line, in the order of the indices; there is no void."""
    names = tuple(_read_lines(path))
    try:
        return LabelFile(Labels(names))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


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
    return {
        normalize("NFC", image_id): tuple(sorted({index[name] for name in names})) for image_id, names in tags.items()
    }
