"""The content of an export, in the same form for all formats."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from selfreg.data.labels import IGNORE_INDEX, Labels, find_background
from selfreg.data.listing import IMAGE_SUFFIXES
from selfreg.data.outlines import fill_polygon, polygon_area
from selfreg.input_files import read_text
from selfreg.messages import one_line

SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLIT_NAMES |= {"test": "test", "testing": "test"}
"""Names of splits in other tools, in lower case, and what they are called here."""

Unlabelled = Literal["background", "void"]
"""What a pixel outside all outlines becomes."""
Size = tuple[int, int]
Paint = Callable[[Size], NDArray[np.uint8]]
"""Makes a mask (H, W) uint8, void 255, from the (height, width) of the image as viewers show it; can be pickled."""


@dataclass(frozen=True)
class Annotated:
    """One image of an export with its labels.

    Attributes:
        name: Name in the new data set: a relative path with `/`, without suffix.
        image: The image file, or a function that returns the content of an image embedded in an annotation.
        split: "train", "val", "test" or another split of the export; None if the export has no splits.
        paint: Makes the mask.
        origin: The file that the labels come from, for messages.
    """

    name: str
    image: Path | Callable[[], bytes]
    split: str | None
    paint: Paint
    origin: Path


@dataclass(frozen=True)
class Export:
    """The content of an export.

    Attributes:
        class_names: Names of the classes 0..K-1.
        images: The images.
        palette: (256, 3) uint8 RGB, or None for the default colours.
        notes: Decisions and omissions while reading, one line each.
    """

    class_names: tuple[str, ...]
    images: Sequence[Annotated]
    palette: NDArray[np.uint8] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Shape:
    """An area of one class.

    Attributes:
        value: Class index, or 255 for void.
        rings: Polygons, each (P, 2) x and y in pixels; their union is the area.
    """

    value: int
    rings: tuple[NDArray[np.float64], ...]

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return sum(polygon_area(ring) for ring in self.rings)


def paint_shapes(shapes: Iterable[Shape], unlabelled: int, size: Size) -> NDArray[np.uint8]:
    """Draw shapes in their order, the last on top.

    Args:
        shapes: The shapes.
        unlabelled: Value of pixels without a shape.
        size: (height, width).

    Returns:
        (H, W) uint8.
    """
    mask = np.full(size, unlabelled, dtype=np.uint8)
    for shape in shapes:
        for ring in shape.rings:
            fill_polygon(mask, ring, shape.value)
    return mask


def classes_and_background(
    names: Sequence[str], unlabelled: Unlabelled, origin: Path
) -> tuple[tuple[str, ...], dict[str, int], int]:
    """Insert the background before the classes of a format that labels objects.

    Args:
        names: Class names of the export.
        unlabelled: Whether pixels outside all objects are background or void.
        origin: Where the names come from, for messages.

    Returns:
        The names of all classes; name in the export to class index; and the value of an unlabelled pixel. A class
        called background (in any case, with or without underscores) is the background.

    Raises:
        ValueError: If a name is empty or given twice, or there are too many.
    """
    own = {name for name in names if find_background([name]) == 0}
    objects = [name for name in names if name not in own]
    front = ("background",) if unlabelled == "background" or own else ()
    try:
        Labels((*front, *objects))  # raises for names that cannot be
    except ValueError as error:
        raise ValueError(f"{origin}: {error}") from None
    indices = {name: index for index, name in enumerate(objects, start=len(front))} | dict.fromkeys(own, 0)
    return (*front, *objects), indices, 0 if unlabelled == "background" else IGNORE_INDEX


def split_of(path: Path) -> str | None:
    """The split in a relative path: the first of its folders that has the name of a split."""
    return next((SPLIT_NAMES[part.lower()] for part in path.parts if part.lower() in SPLIT_NAMES), None)


def without_parts(path: Path, *parts: str) -> Path:
    """A relative path without folders of these names (in lower case)."""
    return Path(*(part for part in path.parts[:-1] if part.lower() not in parts), path.name)


def find_images(folder: Path) -> list[Path]:
    """All images below a folder, sorted; hidden files and folders are left out."""
    return [path for path in find_files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]


def find_files(folder: Path, pattern: str = "*") -> list[Path]:
    """All files below a folder, sorted; hidden files and those in hidden folders are left out."""
    found = (path for path in folder.rglob(pattern) if path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def read_lines(path: Path) -> dict[int, str]:
    """Lines of a UTF-8 text file by their number, stripped, without empty lines.

    Raises:
        ValueError: If the file cannot be read.
    """
    try:
        lines = read_text(path, encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as text in UTF-8 ({one_line(error)}): export it again") from None
    return {number: line.strip() for number, line in enumerate(lines, start=1) if line.strip()}


def refuse_several(problems: Sequence[tuple[object, str]], remedy: str) -> None:
    """Raise one error for the same problem with several files, with three examples.

    Args:
        problems: File name and description of each problem.
        remedy: What to do.

    Raises:
        ValueError: If there is a problem.
    """
    if not problems:
        return
    name, what = problems[0]
    if len(problems) == 1:
        raise ValueError(f"{name}: {what}: {remedy}")
    also = ", ".join(str(name) for name, _ in problems[1:3])
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
    raise ValueError(f"{len(problems)} files, such as {name}: {what}; also {also}{more}: {remedy}")


def as_corners(values: Any, what: str) -> NDArray[np.float64]:
    """Coordinates as an array (P, 2).

    Raises:
        ValueError: If they are malformed; the message begins with `what`.
    """
    try:
        corners = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{what} is not a list of coordinates") from None
    if corners.ndim == 1 and len(corners) % 2 == 0:
        corners = corners.reshape(-1, 2)
    if corners.ndim != 2 or corners.shape[1] != 2 or not np.isfinite(corners).all():
        raise ValueError(f"{what} is not a list of coordinates")
    return corners
