"""YOLO segmentation, as exported by Roboflow, Ultralytics, Label Studio and CVAT."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from selfreg.importing.items import (
    SPLIT_NAMES,
    Annotated,
    Export,
    Shape,
    Size,
    Unlabelled,
    classes_and_background,
    find_images,
    paint_shapes,
    read_lines,
    split_of,
    without_parts,
)
from selfreg.input_files import read_start, read_text
from selfreg.messages import one_line

_OUTSIDE = 0.01
"""Corners may lie outside the image by this share of its side; tools round so."""


def is_yolo(source: Path) -> bool:
    """Whether a folder contains a list of classes, and a folder `labels` with text files."""
    return _class_file(source) is not None and any(
        next(folder.glob("*.txt"), None) or next(folder.rglob("*.txt"), None)
        for folder in source.rglob("labels")
        if folder.is_dir()
    )


def read_yolo(source: Path, unlabelled: Unlabelled) -> Export:
    """Read a YOLO segmentation export.

    Layout: `images/SPLIT/NAME.jpg` with `labels/SPLIT/NAME.txt` (Ultralytics), or `SPLIT/images/NAME.jpg` with
    `SPLIT/labels/NAME.txt` (Roboflow); class names in `data.yaml` or `classes.txt`. A line of a label file has a class
    index and the corners of one polygon, as fractions of width and height. Objects are drawn from the largest to the
    smallest. An image without a label file has no objects.

    Raises:
        ValueError: If there are no images, or a label file is malformed.
    """
    class_file = _class_file(source)
    if class_file is None:
        raise ValueError(f"{source}: no data.yaml or classes.txt with the class names: export the data set with it")
    names, splits = _read_classes(class_file)
    class_names, indices, empty = classes_and_background(names, unlabelled, class_file)
    values = [indices[name] for name in names]
    images, without, notes = [], 0, []
    for image in find_images(source):
        place = image.relative_to(source)
        if not any(part.lower() == "images" for part in place.parts[:-1]):
            continue
        label = _label_file(source, place)
        without += not label.is_file()
        name = without_parts(place, "images", *SPLIT_NAMES).with_suffix("")
        paint = partial(_paint, label, tuple(values), empty)
        split = next((split for folder, split in splits if image.is_relative_to(folder)), None) or split_of(place)
        images.append(Annotated(name.as_posix(), image, split, paint, label))
    if images and without == len(images):
        label = images[0].origin
        raise ValueError(f"{source}: none of {len(images)} images has a label file (looked for {label}): export them")
    if without:
        notes.append(f"{without} images have no label file: they are treated as images without objects")
    return Export(class_names, images, notes=notes)


def _label_file(source: Path, place: Path) -> Path:
    """The label file of an image: the last folder `images` in its path is replaced by `labels`."""
    parts = list(place.parts)
    last = max(index for index, part in enumerate(parts[:-1]) if part.lower() == "images")
    parts[last] = "labels"
    return source.joinpath(*parts).with_suffix(".txt")


def _class_file(source: Path) -> Path | None:
    for path in (*sorted(source.glob("*.yaml")), *sorted(source.glob("*.yml"))):
        if b"names" in read_start(path, 2**20):
            return path
    path = source / "classes.txt"
    return path if path.is_file() else None


def _read_classes(path: Path) -> tuple[list[str], list[tuple[Path, str]]]:
    """Class names and folders of the splits, from `data.yaml` or `classes.txt`."""
    if path.suffix == ".txt":
        return list(read_lines(path).values()), []
    try:
        content = yaml.safe_load(read_text(path, encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read ({one_line(error)}): export it again") from None
    names: Any = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
        names = [name for _, name in sorted(names.items(), key=lambda entry: int(entry[0]))]
    if not isinstance(names, list) or not names:
        raise ValueError(f"{path}: 'names' must list the class names in the order of their indices")
    return [str(name) for name in names], _split_folders(content, path.parent)


def _split_folders(content: dict[str, Any], home: Path) -> list[tuple[Path, str]]:
    """The folders that `data.yaml` gives for its splits, if they are inside the export."""
    found = []
    for key, split in SPLIT_NAMES.items():
        places = content.get(key)
        for place in places if isinstance(places, list) else [places]:
            if not isinstance(place, str) or place.endswith(".txt"):
                continue
            # Roboflow writes `../train/images` for a folder next to data.yaml
            parts = [part for part in Path(place).parts if part not in ("..", ".", "/")]
            for base in (home / str(content.get("path", "")), home):
                folder = base.joinpath(*parts)
                if parts and folder.is_relative_to(home) and folder.is_dir():
                    found.append((folder, split))
                    break
    return found


def _paint(label: Path, values: tuple[int, ...], unlabelled: int, size: Size) -> NDArray[np.uint8]:
    shapes: list[Shape] = []
    if label.is_file():
        for number, line in read_lines(label).items():
            shapes.append(_shape(line.split(), values, size, f"{label}: line {number}"))
    shapes.sort(key=lambda shape: -shape.area)
    return paint_shapes(shapes, unlabelled, size)


def _shape(words: list[str], values: tuple[int, ...], size: Size, where: str) -> Shape:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"{where} contains a word that is not a number: export it again") from None
    index, corners = numbers[0], np.array(numbers[1:])
    if len(numbers) in (5, 6):
        raise ValueError(f"{where} is a box, not an outline: export the data set for segmentation")
    if len(corners) < 6 or len(corners) % 2:
        raise ValueError(f"{where} has {len(corners)} coordinates: an outline needs three corners, x and y of each")
    if not index.is_integer() or not 0 <= index < len(values):
        raise ValueError(f"{where} has class {words[0]}; the list of classes allows 0..{len(values) - 1}")
    # a comparison that NaN fails too
    if not (corners.min() >= -_OUTSIDE and corners.max() <= 1 + _OUTSIDE):
        raise ValueError(f"{where} has coordinates outside 0..1: write them as fractions of width and height")
    height, width = size
    return Shape(values[int(index)], (corners.reshape(-1, 2) * (width, height),))
