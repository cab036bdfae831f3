"""The formats of exports, and how they are detected."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from selfreg.importing.cityscapes import is_cityscapes, read_cityscapes
from selfreg.importing.coco import is_coco, read_coco
from selfreg.importing.items import Export, Unlabelled, find_files
from selfreg.importing.labelme import is_labelme, read_labelme
from selfreg.importing.masks import is_cvat, is_voc, read_cvat, read_voc
from selfreg.importing.yolo import is_yolo, read_yolo


class Format(NamedTuple):
    """A format of exports.

    Attributes:
        matches: Whether a folder has this format.
        read: Reads a folder, given the treatment of unlabelled pixels.
        sign: The files by which the format is recognised.
        labels_objects: Whether pixels outside all outlines are unlabelled; otherwise a mask file labels every pixel.
    """

    matches: Callable[[Path], bool]
    read: Callable[[Path, Unlabelled], Export]
    sign: str
    labels_objects: bool = True


FORMATS: dict[str, Format] = {
    "coco": Format(is_coco, read_coco, "a JSON file with images, annotations and categories"),
    "yolo": Format(is_yolo, read_yolo, "data.yaml or classes.txt, and labels/*.txt"),
    "labelme": Format(is_labelme, read_labelme, "JSON files with shapes and imagePath"),
    "cvat": Format(is_cvat, lambda source, _: read_cvat(source), "labelmap.txt and SegmentationClass/*.png", False),
    "voc": Format(is_voc, lambda source, _: read_voc(source), "SegmentationClass/*.png", False),
    "cityscapes": Format(is_cityscapes, lambda source, _: read_cityscapes(source), "*_gtFine_labelIds.png", False),
}
"""Formats by name; if one format includes another (cvat, voc), the first one that matches is used."""


def recognise(source: Path) -> str:
    """Detect the format of an export.

    Raises:
        ValueError: If no format or several formats match.
    """
    found = [name for name, format_ in FORMATS.items() if format_.matches(source)]
    if "cvat" in found and "voc" in found:
        found.remove("voc")
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{source}: could be {' or '.join(found)}: choose with --format")
    known = "; ".join(f"{name}: {format_.sign}" for name, format_ in FORMATS.items())
    raise ValueError(f"{source}: unknown export format. Looked for {known}. Found {_content(source)}")


def _content(source: Path) -> str:
    files = find_files(source)
    shown = ", ".join(path.relative_to(source).as_posix() for path in files[:3])
    return f"{len(files)} files, such as {shown}" if files else "no file"
