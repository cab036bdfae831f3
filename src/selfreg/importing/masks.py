"""One mask file per image in `SegmentationClass`: CVAT's "Segmentation mask", and the layout of PASCAL VOC."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfreg.data.label_files import LabelFile, read_label_file
from selfreg.data.labels import IGNORE_INDEX, Labels, voc_palette
from selfreg.data.masks import MaskReader
from selfreg.data.pairs import leads_out
from selfreg.data.voc import VOC_LABELS
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

_MASK_FOLDER = "SegmentationClass"
_CLASS_FILES = ("class_names.txt", "classes.txt", "labels.txt")
_NOT_CLASSES = ("__ignore__",)


def is_cvat(source: Path) -> bool:
    """Whether a folder contains masks in `SegmentationClass`, and colours in `labelmap.txt`."""
    return is_voc(source) and _home(source).joinpath("labelmap.txt").is_file()


def is_voc(source: Path) -> bool:
    """Whether a folder contains `SegmentationClass` with PNGs."""
    return any(next(folder.rglob("*.png"), None) for folder in source.rglob(_MASK_FOLDER))


def read_cvat(source: Path) -> Export:
    """Read CVAT's "Segmentation mask": `labelmap.txt` gives the colour of each class.

    Raises:
        ValueError: If `labelmap.txt` is malformed, or a mask has no image.
    """
    return _read(_home(source), read_label_file(_home(source)))


def read_voc(source: Path) -> Export:
    """Read masks in the layout of PASCAL VOC, with colours or palette, and 255 or (224, 224, 192) for void.

    Classes come from `class_names.txt`, `classes.txt` or `labels.txt`, in the order of VOC's colours; without such a
    file they are the 21 classes of PASCAL VOC.

    Raises:
        ValueError: If a mask has no image.
    """
    home = _home(source)
    path = next((home / name for name in _CLASS_FILES if (home / name).is_file()), None)
    names = VOC_LABELS.class_names if path is None else tuple(_read_names(path))
    labels = Labels(names, 255)
    colours: dict[tuple[int, int, int], tuple[int, ...]] = {
        (red, green, blue): (index,) for index, (red, green, blue) in enumerate(voc_palette()[: len(names)].tolist())
    }
    void = voc_palette()[IGNORE_INDEX].tolist()
    export = _read(home, LabelFile(labels, None, {**colours, (void[0], void[1], void[2]): (IGNORE_INDEX,)}))
    if path is None:
        export.notes.append(f"no {' or '.join(_CLASS_FILES)}: assuming the 21 classes of PASCAL VOC")
    return export


def _home(source: Path) -> Path:
    """The folder that contains `SegmentationClass`."""
    return next((folder.parent for folder in sorted(source.rglob(_MASK_FOLDER)) if folder.is_dir()), source)


def _read_names(path: Path) -> list[str]:
    return [line for line in read_lines(path).values() if line not in _NOT_CLASSES]


def _read(home: Path, label_file: LabelFile) -> Export:
    folder = home / _MASK_FOLDER
    images: dict[str, Path] = {}
    for image in find_images(home):
        place = image.relative_to(home)
        if place.parts[0] not in (_MASK_FOLDER, "SegmentationObject"):
            name = without_parts(place, "jpegimages", "images").with_suffix("").as_posix()
            if images.setdefault(name, image) != image:
                raise ValueError(f"{image}: has the name of {images[name]}, and the mask fits one image: rename one")
    splits = _listed_splits(home)
    reader = MaskReader(label_file)
    found, missing = [], []
    for mask in find_files(folder, "*.png"):
        place = mask.relative_to(folder)
        name = place.with_suffix("").as_posix()
        if name not in images:
            missing.append((mask, f"its image JPEGImages/{name}.jpg is missing"))
            continue
        split = splits.get(name) or split_of(place)
        new_name = without_parts(place, *SPLIT_NAMES).with_suffix("").as_posix()
        found.append(Annotated(new_name, images[name], split, partial(_paint, reader, mask), mask))
    refuse_several(missing, "export the data set with its images, or put them there")
    return Export(label_file.labels.class_names, found, label_file.labels.palette)


def _listed_splits(home: Path) -> dict[str, str]:
    """Image name to split, from the lists in `ImageSets/Segmentation` that are named after splits."""
    splits: dict[str, str] = {}
    for path in find_files(home, "ImageSets/Segmentation/*.txt"):
        split = SPLIT_NAMES.get(path.stem.lower())
        if split is None:
            continue
        for name in read_lines(path).values():
            if leads_out(name):
                continue
            if splits.setdefault(name, split) != split:
                raise ValueError(f"{path}: {name!r} is in the list of {splits[name]} too: remove it from one of them")
    return splits


def _paint(reader: MaskReader, path: Path, size: Size) -> NDArray[np.uint8]:  # noqa: ARG001
    return reader(path)
