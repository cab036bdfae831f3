"""Labelme: one JSON file per image."""

import base64
import binascii
import io
import json
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from selfreg.data.labels import IGNORE_INDEX
from selfreg.data.pictures import MAX_PIXELS
from selfreg.importing.items import (
    SPLIT_NAMES,
    Annotated,
    Export,
    Shape,
    Size,
    Unlabelled,
    as_corners,
    classes_and_background,
    find_files,
    paint_shapes,
    read_lines,
    refuse_several,
    split_of,
    without_parts,
)
from selfreg.input_files import ANNOTATION_LIMIT, read_bytes
from selfreg.messages import one_line

_LINE_WIDTH = 10.0
_POINT_RADIUS = 5.0
"""In pixels, as in Labelme's own conversion to masks."""
_CIRCLE_CORNERS = 180
_IGNORED = "__ignore__"
_FOLDERS = ("annotations", "images", "json", "labels")
"""Folders named after their content, which are not part of an image's name."""


def is_labelme(source: Path) -> bool:
    """Whether a folder contains a JSON file with `shapes` and `imagePath`."""
    return any(_looks_like_labelme(path) for path in find_files(source, "*.json")[:20])


def _looks_like_labelme(path: Path) -> bool:
    try:
        content = json.loads(read_bytes(path, ANNOTATION_LIMIT))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"shapes", "imagePath"} <= set(content)


def read_labelme(source: Path, unlabelled: Unlabelled) -> Export:
    """Read a folder of Labelme annotations.

    Classes come from `labels.txt` if there is one, otherwise from the labels that occur, in alphabetical order;
    `_background_` is the background and `__ignore__` is void. Shapes are drawn in the order of the file, the last on
    top. Lines are 10 pixels wide and points have a radius of 5 pixels, as in Labelme's own conversion. An image is
    searched for at `imagePath` and next to the JSON file; otherwise its embedded copy is used.

    Raises:
        ValueError: If an annotation is malformed, or its image is missing.
    """
    contents, found = {}, {}
    for path in find_files(source, "*.json"):
        content = _read(path)
        if {"shapes", "imagePath"} <= set(content):
            found[path] = _image(path, content, source)
            content.pop("imageData", None)  # as large as the image
            contents[path] = content
    labels = {str(shape.get("label")) for content in contents.values() for shape in content["shapes"]} - {_IGNORED}
    listed = _listed_labels(source)
    if listed is not None:
        unknown = sorted(labels - set(listed))
        if unknown:
            raise ValueError(f"{source / 'labels.txt'}: lacks the label {unknown[0]!r}, which occurs: add it")
    class_names, indices, empty = classes_and_background(listed or sorted(labels), unlabelled, source)
    images, missing = [], []
    for path, content in contents.items():
        image = found[path]
        if image is None:
            missing.append((path, f"its image {content['imagePath']!r} is missing"))
            continue
        place = path.relative_to(source)
        name = without_parts(place, *_FOLDERS, *SPLIT_NAMES).with_suffix("").as_posix()
        shapes = _shapes(content, indices, path)
        paint = partial(_paint, shapes, empty, _size(content, path))
        images.append(Annotated(name, image, split_of(place), paint, path))
    refuse_several(missing, "give the folder that holds both, or save the annotation with its image data")
    notes = []
    drawn = sum(
        shape.get("shape_type") in ("line", "linestrip", "point")
        for content in contents.values()
        for shape in content["shapes"]
    )
    if drawn:
        notes.append(f"{drawn} lines and points were drawn {_LINE_WIDTH:.0f} pixels wide, as Labelme does")
    return Export(class_names, images, notes=notes)


def _listed_labels(source: Path) -> list[str] | None:
    path = source / "labels.txt"
    if not path.is_file():
        return None
    return [line for line in read_lines(path).values() if line != _IGNORED]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(path, ANNOTATION_LIMIT))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: invalid JSON ({one_line(error)}); fix or remove the file") from None
    if not isinstance(content, dict):
        return {}
    shapes = content.get("shapes", [])
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise ValueError(f"{path}: 'shapes' is not a list of shapes: save the annotation again")
    return content


def _image(path: Path, content: dict[str, Any], source: Path) -> Path | Callable[[], bytes] | None:
    """The image of an annotation: a file inside the source, or the embedded copy."""
    # files saved on Windows contain backslashes
    named = PureWindowsPath(str(content["imagePath"]))
    for candidate in (path.parent.joinpath(*named.parts), path.parent / named.name):
        if candidate.is_file() and candidate.resolve().is_relative_to(source.resolve()):
            return candidate
    return partial(_embedded_image, path) if isinstance(content.get("imageData"), str) else None


def _embedded_image(path: Path) -> bytes:
    try:
        return base64.b64decode(_read(path)["imageData"], validate=True)
    except binascii.Error:
        raise ValueError(f"{path}: imageData is not base64: save the annotation again") from None


def _size(content: dict[str, Any], path: Path) -> Size | None:
    """The size of the image according to the annotation, if given."""
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if height is None or width is None:
        return None
    if not (isinstance(height, int) and isinstance(width, int) and height > 0 and 0 < width * height <= MAX_PIXELS):
        raise ValueError(f"{path}: invalid image size of {width} x {height} pixels: save the annotation again")
    return height, width


def _paint(shapes: tuple[Shape, ...], unlabelled: int, given: Size | None, size: Size) -> NDArray[np.uint8]:
    return paint_shapes(shapes, unlabelled, given or size)


def _shapes(content: dict[str, Any], indices: dict[str, int], path: Path) -> tuple[Shape, ...]:
    found = []
    for number, shape in enumerate(content["shapes"], start=1):
        where = f"{path}: shape {number} ({shape.get('label')})"
        label = str(shape.get("label"))
        value = IGNORE_INDEX if label == _IGNORED else indices[label]
        kind = shape.get("shape_type") or "polygon"
        if kind == "mask":
            found.append(Shape(value, _mask_rows(shape, where)))
        else:
            found.append(Shape(value, _rings(kind, as_corners(shape.get("points"), f"{where}: 'points'"), where)))
    return tuple(found)


def _rings(kind: str, points: NDArray[np.float64], where: str) -> tuple[NDArray[np.float64], ...]:
    """The outline of a shape as polygons."""
    fewest = {"polygon": 3, "rectangle": 2, "circle": 2, "line": 2, "linestrip": 2, "point": 1, "points": 1}
    if kind not in fewest:
        raise ValueError(f"{where} is a {kind!r}; known shapes: {', '.join(fewest)}, mask: remove or redraw it")
    if len(points) < fewest[kind]:
        raise ValueError(f"{where} is a {kind} with {len(points)} points; it needs {fewest[kind]}: redraw it")
    if kind == "polygon":
        return (points,)
    if kind == "rectangle":
        if len(points) > 2:
            return (points,)
        (left, top), (right, bottom) = points
        return (np.array([(left, top), (right, top), (right, bottom), (left, bottom)]),)
    if kind == "circle":
        return (_disc(points[0], float(np.linalg.norm(points[1] - points[0]))),)
    if kind in ("point", "points"):
        return tuple(_disc(point, _POINT_RADIUS) for point in points)
    return tuple(_stroke(begin, end) for begin, end in pairwise(points))


def _disc(centre: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, _CIRCLE_CORNERS, endpoint=False)
    return centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _stroke(begin: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    """A line of width `_LINE_WIDTH` as a rectangle; a disc if both ends coincide."""
    along = end - begin
    length = float(np.linalg.norm(along))
    if length == 0:
        return _disc(begin, _LINE_WIDTH / 2)
    across = np.array([-along[1], along[0]]) / length * (_LINE_WIDTH / 2)
    return np.array([begin + across, end + across, end - across, begin - across])


def _mask_rows(shape: dict[str, Any], where: str) -> tuple[NDArray[np.float64], ...]:
    """A shape stored as a bitmap: a rectangle for each run of its pixels."""
    corner = as_corners(shape.get("points"), f"{where}: 'points'")[0]
    try:
        with Image.open(
            io.BytesIO(base64.b64decode(str(shape.get("mask")), validate=True)), formats=["PNG"]
        ) as picture:
            pixels = np.asarray(picture.convert("L")) > 0
    except Exception as error:  # Pillow raises whatever the broken bytes lead it to
        raise ValueError(f"{where} has a mask that is not a PNG ({one_line(error)}): redraw it") from None
    rings = []
    left, top = np.round(corner)
    for row, line in enumerate(pixels):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]]).astype(np.int8)))
        for start, stop in edges.reshape(-1, 2):
            x0, x1, y = left + start, left + stop, top + row
            rings.append(np.array([(x0, y), (x1, y), (x1, y + 1), (x0, y + 1)], dtype=np.float64))
    return tuple(rings)
