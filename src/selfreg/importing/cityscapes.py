"""Index masks with the file names of Cityscapes: the data set itself, or CVAT's export."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfreg.data.cityscapes import CITYSCAPES_LABELS, label_id_table
from selfreg.data.label_files import VOID_NAMES
from selfreg.data.labels import IGNORE_INDEX, INVALID, Labels, full_palette
from selfreg.data.masks import check_values, read_indices
from selfreg.importing.items import (
    SPLIT_NAMES,
    Annotated,
    Export,
    Size,
    find_files,
    find_images,
    read_lines,
    refuse_several,
    split_of,
    without_parts,
)

_MASKS = "*_gtFine_labelIds.png"


def is_cityscapes(source: Path) -> bool:
    """Whether a folder contains a mask `NAME_gtFine_labelIds.png`."""
    return next(source.rglob(_MASKS), None) is not None


def read_cityscapes(source: Path) -> Export:
    """Read masks `NAME_gtFine_labelIds.png` and their images.

    With `label_colors.txt` (`RED GREEN BLUE NAME` on each line, as CVAT writes it), values are line numbers. Otherwise
    they are the 34 label ids of Cityscapes, of which 19 are classes and the others void. The image of a mask is called
    `NAME_leftImg8bit` or `NAME`.

    Raises:
        ValueError: If a mask has no image, or the list of classes is malformed.
    """
    labels, table = _labels(source)
    images: dict[str, list[Path]] = {}
    for path in find_images(source):
        if "_gtFine" not in path.name:
            images.setdefault(path.stem.removesuffix("_leftImg8bit"), []).append(path)
    found, missing = [], []
    for mask in find_files(source, _MASKS):
        stem = mask.name.removesuffix("_gtFine_labelIds.png")
        candidates = images.get(stem, [])
        image = max(candidates, key=lambda path: _shared_parts(path, mask), default=None)
        if image is None:
            missing.append((mask, f"its image {stem}_leftImg8bit.png is missing"))
            continue
        place = mask.relative_to(source)
        name = without_parts(place, "gtfine", "default", *SPLIT_NAMES).with_name(stem).as_posix()
        paint = partial(_paint, mask, table, labels)
        found.append(Annotated(name, image, split_of(place), paint, mask))
    refuse_several(missing, "put the images into the export")
    return Export(labels.class_names, found, labels.palette)


def _shared_parts(one: Path, other: Path) -> int:
    return len(set(one.parts) & set(other.parts))


def _labels(source: Path) -> tuple[Labels, NDArray[np.uint8]]:
    """The classes, and the table from mask values to classes."""
    path = next(iter(find_files(source, "label_colors.txt")), None)
    if path is None:
        return CITYSCAPES_LABELS, label_id_table()
    names: list[str] = []
    colours: list[list[int]] = []
    table = np.full(256, INVALID, dtype=np.uint8)
    lines = list(read_lines(path).values())[:255]
    for number, words in enumerate(line.split(maxsplit=3) for line in lines):
        if len(words) != 4 or not all(word.isdecimal() for word in words[:3]):
            raise ValueError(f"{path}: line {number + 1} is not RED GREEN BLUE NAME: export it again")
        if words[3].strip().casefold() in VOID_NAMES:
            table[number] = IGNORE_INDEX
        else:
            table[number] = len(names)
            names.append(words[3].strip())
            colours.append([int(word) for word in words[:3]])
    return Labels(tuple(names), 255, full_palette(colours)), table


def _paint(path: Path, table: NDArray[np.uint8], labels: Labels, size: Size) -> NDArray[np.uint8]:  # noqa: ARG001
    return check_values(read_indices(path), table, path, labels)
