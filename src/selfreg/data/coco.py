"""MS-COCO as semantic segmentation: masks painted from the polygons of its instances, and tags."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreg.data.labels import IGNORE_INDEX, Labels, voc_palette
from selfreg.data.pairs import first_folder, leads_out
from selfreg.data.reading import MAX_PIXELS, fit, read_image
from selfreg.data.source import Files, Pair


class Coco:
    """MS-COCO 2014 (or another year) with 81 classes: background and the 80 categories in the order of their ids.

    Layout: `annotations/instances_SPLITYEAR.json` and `SPLITYEAR/NAME.jpg`. A mask is painted when it is read: crowds
    first, then the instances from the largest area to the smallest, so that what is small is never hidden; a pixel
    belongs to a polygon when its centre lies within. No pixel is void. The annotations are held in a few flat arrays,
    which the workers of a `DataLoader` share.

    Args:
        root: the folder with `annotations` and the image folders.
        split: "train" (82,783 images of 2014) or "val" (40,504).
        year: of the files' names.
        tags_only: weak supervision: paint no mask; `read` gives void throughout.
        must_exist: refuse missing images now.

    Raises:
        ValueError: the annotations or an image are missing, or the annotations are no instances of COCO.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        year: int = 2014,
        tags_only: bool = False,
        must_exist: bool = True,
    ) -> None:
        root = Path(root).expanduser()
        self._path = root / "annotations" / f"instances_{split}{year}.json"
        self._tags_only = tags_only
        folder = first_folder([root / f"{split}{year}"], f"the images of COCO {split}{year}")
        try:
            self._index(_read_instances(self._path), folder, must_exist)
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{self._path}: no instances of COCO ({reason}): restore it from the archive") from error

    def _index(self, content: dict[str, Any], folder: Path, must_exist: bool) -> None:
        images = sorted(content["images"], key=lambda image: image["id"])
        categories = sorted(content["categories"], key=lambda category: category["id"])
        self.labels = Labels(("background", *(category["name"] for category in categories)), None, voc_palette())
        outside = next((image["file_name"] for image in images if leads_out(image["file_name"])), None)
        if outside is not None:
            raise ValueError(f"{self._path}: {outside!r} is no name of an image: restore the file from the archive")
        self._images = [folder / image["file_name"] for image in images]
        self.ids: tuple[str, ...] = tuple(path.stem for path in self._images)
        self._sizes = np.array([(image["height"], image["width"]) for image in images], dtype=np.int32).reshape(-1, 2)
        if not images:
            raise ValueError(f"{self._path}: the split is empty: check that the data set was unpacked whole")
        pixels = self._sizes.astype(np.int64).prod(axis=1)
        if self._sizes.min() < 1 or pixels.max() > MAX_PIXELS:
            raise ValueError(f"{self._path}: an image without pixels, or of more than {MAX_PIXELS}: restore the file")
        if must_exist:
            missing = next((path for path in self._images if not path.is_file()), None)
            if missing:
                raise ValueError(f"{missing}: this image, listed by {self._path}, is missing: restore it")
        class_of = {category["id"]: index + 1 for index, category in enumerate(categories)}
        self._store(content["annotations"], [image["id"] for image in images], class_of)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Pair:
        """Reads the image at `index` and paints its mask.

        Raises:
            ValueError: the image is missing or unreadable, or not of the size that the annotations give.
        """
        if self._tags_only:
            pixels = read_image(self._images[index])
            return Pair(pixels, np.full(pixels.shape[:2], IGNORE_INDEX, dtype=np.uint8))
        height, width = (int(side) for side in self._sizes[index])
        mask = np.zeros((height, width), dtype=np.uint8)
        for entry in range(self._first_entry[index], self._first_entry[index + 1]):
            rings = range(self._first_ring[entry], self._first_ring[entry + 1])
            for ring in rings:
                numbers = self._numbers[self._first_number[ring] : self._first_number[ring + 1]]
                if self._crowd[entry]:
                    counts = numbers.astype(np.int64)
                    if counts.min(initial=0) < 0 or counts.sum() != height * width:
                        raise ValueError(f"{self._path}: run lengths that do not fill '{self.ids[index]}': restore it")
                    mask[decode_counts(counts, height, width)] = self._class[entry]
                else:
                    fill_polygon(mask, numbers.reshape(-1, 2), int(self._class[entry]))
        return fit(self._images[index], mask, self._path)

    def tags(self, index: int) -> NDArray[np.float32]:
        """(81,) float32: 1 for each category with an instance or a crowd in the image; background is never a tag."""
        tags = np.zeros(self.labels.num_classes, dtype=np.float32)
        tags[self._class[self._first_entry[index] : self._first_entry[index + 1]]] = 1
        return tags

    def files(self, index: int) -> Files:
        """The image at `index`; its mask lies in no file of its own."""
        return Files(self._images[index], None)

    def _store(self, annotations: Iterable[dict[str, Any]], image_ids: list[int], class_of: dict[int, int]) -> None:
        """Flat arrays of all outlines, by image, in the order of painting."""
        of_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for annotation in annotations:
            of_image[annotation["image_id"]].append(annotation)
        classes, crowds, entries, rings, lengths, numbers = [], [], [0], [0], [0], []
        for image_id in image_ids:
            found = of_image.pop(image_id, [])
            for annotation in sorted(found, key=lambda a: (not a.get("iscrowd", 0), -float(a["area"]))):
                outlines = _outlines(annotation, self._path)
                classes.append(class_of[annotation["category_id"]])
                crowds.append(bool(annotation.get("iscrowd", 0)))
                numbers.extend(outlines)
                lengths.extend(len(outline) for outline in outlines)
                rings.append(rings[-1] + len(outlines))
            entries.append(len(classes))
        self._class = np.array(classes, dtype=np.uint8)
        self._crowd = np.array(crowds, dtype=bool)
        self._first_entry = np.array(entries, dtype=np.int64)
        self._first_ring = np.array(rings, dtype=np.int64)
        self._first_number = np.cumsum(lengths, dtype=np.int64)
        self._numbers = np.concatenate(numbers) if numbers else np.zeros(0, dtype=np.float32)


def fill_polygon(mask: NDArray[np.uint8], corners: NDArray[np.floating[Any]], value: int) -> None:
    """Sets the pixels of a mask whose centres lie within a polygon (even-odd rule).

    Args:
        mask: (H, W) uint8, changed in place.
        corners: (P, 2) x and y in pixels; the centre of the first pixel is at (0.5, 0.5).
        value: what to set.
    """
    height, width = mask.shape
    x, y = corners[:, 0].astype(np.float64), corners[:, 1].astype(np.float64)
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    first = np.clip(np.ceil(np.minimum(y, next_y) - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y, next_y) - 0.5), 0, height).astype(np.int64)
    crossed = last - first
    if not crossed.any():
        return
    edge = np.repeat(np.arange(len(x)), crossed)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(crossed) - crossed, crossed) + first[edge]
    slope = (next_x - x)[edge] / (next_y - y)[edge]
    column = np.clip(np.ceil(x[edge] + (row + 0.5 - y[edge]) * slope - 0.5), 0, width).astype(np.int64)
    top, left = row.min(), column.min()
    turns = np.zeros((row.max() + 1 - top, column.max() + 1 - left), dtype=np.int32)
    np.add.at(turns, (row - top, column - left), 1)
    inside = np.cumsum(turns, axis=1)[:, :-1] % 2 == 1
    mask[top : top + inside.shape[0], left : left + inside.shape[1]][inside] = value


def decode_counts(counts: NDArray[np.int64], height: int, width: int) -> NDArray[np.bool_]:
    """(height, width) bool from COCO's run lengths: down the columns, starting with the pixels outside."""
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return inside.reshape(width, height).T


def _outlines(annotation: dict[str, Any], path: Path) -> list[NDArray[np.float32]]:
    """The polygons of an instance, or the one list of run lengths of a crowd."""
    shape = annotation["segmentation"]
    where = f"{path}: annotation {annotation.get('id')}"
    if isinstance(shape, dict):
        if isinstance(shape["counts"], str):
            raise ValueError(f"{where} has compressed run lengths: give the uncompressed ones of the official file")
        return [np.asarray(shape["counts"], dtype=np.float32)]
    polygons: Sequence[Sequence[float]] = shape
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        raise ValueError(f"{where} has a polygon of fewer than three corners: remove it")
    outlines = [np.asarray(polygon, dtype=np.float32) for polygon in polygons]
    if not all(np.isfinite(outline).all() for outline in outlines):
        raise ValueError(f"{where} has a corner that is no place: remove it")
    return outlines


def _read_instances(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file: unpack COCO's annotations there")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no valid JSON ({error}): restore it") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}: give COCO's instances file")
    missing = {"images", "annotations", "categories"} - set(content)
    if missing:
        raise ValueError(f"{path}: no '{min(missing)}' in it: give COCO's instances file")
    return content
