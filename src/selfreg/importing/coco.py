"""COCO instances, as exported by CVAT, Roboflow, Label Studio and others."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from selfreg.data.coco import Instances
from selfreg.data.labels import IGNORE_INDEX
from selfreg.importing.items import (
    SPLIT_NAMES,
    Annotated,
    Export,
    Size,
    Unlabelled,
    find_files,
    find_images,
    refuse_several,
    without_parts,
)
from selfreg.input_files import ANNOTATION_LIMIT, read_bytes

_KEYS = ("images", "annotations", "categories")


def is_coco(source: Path) -> bool:
    """Whether a folder contains a JSON file with `images`, `annotations` and `categories`."""
    return bool(_annotation_files(source))


def read_coco(source: Path, unlabelled: Unlabelled) -> Export:
    """Read every COCO file of an export; a file is a split if its name or folder names one.

    If some files are called `instances...` as in COCO itself, only these are read; the others are for other tasks.

    Images are searched for by their listed names next to the annotations, in the folder above them, and anywhere in the
    export if the name is unique. `selfreg.data.coco.Instances` describes how masks are rendered.

    Raises:
        ValueError: If an annotation is malformed, images are missing, or two files have different classes.
    """
    files = _annotation_files(source)
    read = {path: Instances(path) for path in files}
    class_names = next(iter(read.values())).class_names
    for path, instances in read.items():
        if instances.class_names != class_names:
            raise ValueError(
                f"{path}: its categories differ from those of {files[0]}: export all splits with the same categories"
            )
    by_name: dict[str, list[Path]] = {}
    for image in find_images(source):
        by_name.setdefault(image.name, []).append(image)
    images: list[Annotated] = []
    missing: list[tuple[object, str]] = []
    inside = [source, *sorted(source.glob("*/")), *sorted(source.glob("images/*/"))]
    for path, instances in read.items():
        folders = [folder for folder in (path.parent, path.parent.parent, *inside) if folder.is_relative_to(source)]
        split = _split_of_file(path.relative_to(source))
        for index, name in enumerate(instances.file_names):
            found = _find(name, source, folders, by_name, split)
            if found is None:
                missing.append((path, f"the image {name!r} is missing"))
                continue
            paint = partial(_paint, instances, index, unlabelled)
            stem = without_parts(Path(PurePosixPath(name.replace("\\", "/"))), *SPLIT_NAMES, "images")
            images.append(Annotated(stem.with_suffix("").as_posix(), found, split, paint, path))
    refuse_several(missing, "put the images into the export")
    return Export(_shown_classes(next(iter(read.values())), unlabelled), images)


def _shown_classes(instances: Instances, unlabelled: Unlabelled) -> tuple[str, ...]:
    """The classes, without the background if it has no pixels."""
    return (
        instances.class_names if unlabelled == "background" or instances.has_background else instances.class_names[1:]
    )


def _annotation_files(source: Path) -> list[Path]:
    files = [path for path in find_files(source, "*.json") if _has_instances(path)]
    return [path for path in files if path.name.startswith("instances")] or files


def _has_instances(path: Path) -> bool:
    try:
        content = json.loads(read_bytes(path, ANNOTATION_LIMIT))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and set(_KEYS) <= set(content)


def _split_of_file(place: Path) -> str | None:
    """The split of an annotation file: a word of its name (`instances_train2017.json`) or its folder."""
    words = place.stem.lower().replace("-", "_").split("_")
    for word in (*(word.rstrip("0123456789") for word in words), *(part.lower() for part in place.parts[:-1])):
        if word in SPLIT_NAMES:
            return SPLIT_NAMES[word]
    return None


def _find(
    name: str, source: Path, folders: Sequence[Path], by_name: dict[str, list[Path]], split: str | None
) -> Path | None:
    place = PurePosixPath(name.replace("\\", "/"))
    if ".." not in place.parts and not place.is_absolute():
        found = [folder / place for folder in folders if (folder / place).is_file()]
        of_split = [image for image in found if split and split in image.relative_to(source).as_posix().lower()]
        if found:
            return (of_split or found)[0]
    same = by_name.get(place.name, [])
    return same[0] if len(same) == 1 else None


def _paint(instances: Instances, index: int, unlabelled: Unlabelled, size: Size) -> NDArray[np.uint8]:  # noqa: ARG001
    if unlabelled == "background":
        return instances.paint(index)
    mask = instances.paint(index, IGNORE_INDEX)
    return mask if instances.has_background else np.where(mask == IGNORE_INDEX, mask, mask - 1).astype(np.uint8)
