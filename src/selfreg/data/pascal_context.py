"""PASCAL-Context with 59 classes, or 60 with background."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfreg.data.labels import IGNORE_INDEX, Labels, voc_palette
from selfreg.data.masks import check_values
from selfreg.data.matlab import read_mat, whole_numbers
from selfreg.data.pairs import FilePairs, first_folder, read_list
from selfreg.data.source import Files
from selfreg.input_files import read_text, user_path

CONTEXT_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "table", "dog", "horse"),
    *("motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor", "bag", "bed", "bench", "book"),
    *("building", "cabinet", "ceiling", "cloth", "computer", "cup", "door", "fence", "floor", "flower", "food"),
    *("grass", "ground", "keyboard", "light", "mountain", "mouse", "curtain", "platform", "sign", "plate", "road"),
    *("rock", "shelves", "sidewalk", "sky", "snow", "bedclothes", "track", "tree", "truck", "wall", "water"),
    *("window", "wood"),
)
"""The 59 most frequent classes in the order of the benchmark, by the names of the full list of 459."""

_NUM_FULL = 459


def pascal_context(root: str | Path, split: str, *, background: bool = False, must_exist: bool = True) -> FilePairs:
    """PASCAL-Context as unpacked from its archive, with the images of VOC 2010.

    Layout: `trainval/ID.mat` (`LabelMap`, 459 classes, 0 unlabelled) and `labels.txt` (`NUMBER: NAME`), next to
    `VOC2010/JPEGImages/ID.jpg` and `VOC2010/ImageSets/Main/SPLIT.txt` (or `VOCdevkit/VOC2010/...`). Classes are found
    by name in `labels.txt`, not by number.

    Args:
        root: Folder with all of these.
        split: "train" (4,998 images) or "val" (5,105).
        background: Use 60 classes: pixels of none of the 59 classes are class 0, "background"; otherwise they are void.
        must_exist: Raise now if files are missing.

    Raises:
        ValueError: If a folder, list or file is missing, or `labels.txt` lacks one of the 59 names.
    """
    root = user_path(root)
    voc = first_folder([root / "VOC2010", root / "VOCdevkit/VOC2010"], "VOC2010, with the images")
    where = voc / f"ImageSets/Main/{split}.txt"
    labels = context_labels(background)
    table = _full_table(root / "labels.txt", background)
    files = {
        image_id: Files(voc / f"JPEGImages/{image_id}.jpg", root / f"trainval/{image_id}.mat")
        for image_id in read_list(where)
    }
    decode = partial(read_context_mask, labels=labels, table=table)
    return FilePairs(labels, files, decode, where=where, must_exist=must_exist)


def context_labels(background: bool) -> Labels:
    """The 59 classes, or the 60 with "background" as class 0."""
    return Labels((("background",) if background else ()) + CONTEXT_CLASSES, 255, voc_palette())


def read_context_mask(path: Path, labels: Labels, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Read a `LabelMap` of PASCAL-Context as (H, W) uint8 with void 255.

    Args:
        path: MATLAB file.
        labels: The 59 or 60 classes.
        table: (460,) uint8, number on disk to class or 255.

    Raises:
        ValueError: If the file is missing or unreadable, or contains numbers above 459.
    """
    return check_values(whole_numbers(read_mat(path, "LabelMap"), path), table, path, labels)


def _full_table(path: Path, background: bool) -> NDArray[np.uint8]:
    """(460,) uint8: number in `labels.txt` to class index."""
    numbers = {}
    for line in read_text(path, errors="replace").splitlines() if path.is_file() else ():
        number, _, name = line.partition(":")
        if number.strip().isdigit():
            numbers[name.replace(" ", "")] = int(number)
    missing = [name for name in CONTEXT_CLASSES if not 0 < numbers.get(name, 0) <= _NUM_FULL]
    if missing:
        raise ValueError(f"{path}: no number for '{missing[0]}': restore labels.txt of PASCAL-Context (459 names)")
    table = np.full(_NUM_FULL + 1, 0 if background else IGNORE_INDEX, dtype=np.uint8)
    for index, name in enumerate(CONTEXT_CLASSES):
        table[numbers[name]] = index + background
    return table
