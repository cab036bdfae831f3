"""MS-COCO as semantic segmentation: masks rendered from the outlines of instances, and image-level tags."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreg.data.labels import IGNORE_INDEX, Labels, find_background, voc_palette
from selfreg.data.listing import is_image, walk, warn_of
from selfreg.data.outlines import decode_counts, fill_polygon, parse_counts, polygon_area
from selfreg.data.pairs import first_folder
from selfreg.data.pictures import MAX_PIXELS
from selfreg.data.reading import read_image, read_image_of_mask
from selfreg.data.source import Files, Pair, UnreadFile
from selfreg.files import leads_out
from selfreg.input_files import ANNOTATION_LIMIT, read_bytes, user_path

_UNEXPECTED = (KeyError, TypeError, AttributeError, OverflowError)


class Coco:
    """MS-COCO with 81 classes: background and the 80 categories in the order of their ids.

    Layout: `annotations/instances_SPLITYEAR.json` and `SPLITYEAR/NAME.jpg`. No pixel is void. `Instances` describes how
    masks are rendered.

    Args:
        root: Folder with `annotations` and the image folders.
        split: "train" (82,783 images in 2014) or "val" (40,504).
        year: Year in the file names.
        tags_only: Weak supervision: `read` returns masks that are void throughout.
        must_exist: Raise now if images are missing.

    Raises:
        ValueError: If the annotations or an image are missing, or the annotations are not COCO instances.
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
        root = user_path(root)
        path = root / "annotations" / f"instances_{split}{year}.json"
        self._tags_only = tags_only
        folder = first_folder([root / f"{split}{year}"], f"the images of COCO {split}{year}")
        self._instances = Instances(path)
        self.labels = Labels(self._instances.class_names, None, voc_palette())
        self._images = [folder / name for name in self._instances.file_names]
        self.ids: tuple[str, ...] = self._instances.ids
        others = sorted(set(walk(folder)) - set(self._images))
        self.unread = [UnreadFile(file, f"not listed in {path.name}") for file in others if is_image(file)]
        if must_exist:
            missing = next((image for image in self._images if not image.is_file()), None)
            if missing:
                raise ValueError(f"{missing}: this image, listed by {path}, is missing: restore it")
        warn_of(self.unread)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Pair:
        """Read the image at `index` and render its mask.

        Raises:
            ValueError: If the image is missing or unreadable, or its size differs from the annotations.
        """
        if self._tags_only:
            pixels = read_image(self._images[index])
            return Pair(pixels, np.full(pixels.shape[:2], IGNORE_INDEX, dtype=np.uint8))
        # compare the size before allocating the mask, since a faulty file can claim any number of pixels
        claimed = np.broadcast_to(np.uint8(0), self._instances.size(index))
        image, _ = read_image_of_mask(self._images[index], claimed, self._instances.path)
        return Pair(image, self._instances.paint(index))

    def tags(self, index: int) -> NDArray[np.float32]:
        """Tags of the image at `index`, (81,) float32: 1 for categories with an instance or crowd; never background."""
        tags = np.zeros(self.labels.num_classes, dtype=np.float32)
        tags[self._instances.classes_in(index)] = 1
        tags[0] = 0
        return tags

    def files(self, index: int) -> Files:
        """The image file at `index`; masks have no files."""
        return Files(self._images[index], None)


class Instances:
    """Instances of a COCO file, and the masks rendered from them.

    Crowds are drawn first, then instances from the largest to the smallest area, so small objects are never hidden. The
    area is computed from the outline. A pixel belongs to a polygon if its centre lies inside. The outlines are stored
    in a few flat arrays, which the workers of a `DataLoader` share.

    Args:
        path: JSON file with `images`, `categories` and `annotations`.

    Attributes:
        path: The file.
        class_names: "background", then the categories in the order of their ids.
        has_background: Whether a category is called background.
        file_names: Name of each image as listed, in the order of the image ids.
        ids: The same without suffixes.

    Raises:
        ValueError: If the file is missing or malformed; the message names the annotation.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = _read_instances(path)
        try:
            self._store_images(content["images"])
            class_of = self._store_categories(content["categories"])
            self._store(content["annotations"], [image["id"] for image in _by_id(content["images"])], class_of)
        except _UNEXPECTED as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{path}: not a COCO instances file ({reason}): restore it from the archive") from error

    def __len__(self) -> int:
        return len(self.ids)

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the image at `index`, according to the file."""
        return int(self._sizes[index][0]), int(self._sizes[index][1])

    def classes_in(self, index: int) -> list[int]:
        """The sorted indices of the classes that have an instance in the image at `index`."""
        return sorted(set(self._class[self._first_entry[index] : self._first_entry[index + 1]].tolist()))

    def paint(self, index: int, unlabelled: int = 0) -> NDArray[np.uint8]:
        """Render the mask of the image at `index`, (H, W) uint8.

        Args:
            index: Index of the image.
            unlabelled: Value of pixels without an instance; 0 is the background.

        Raises:
            ValueError: If run lengths do not fill the image.
        """
        height, width = self.size(index)
        mask = np.full((height, width), unlabelled, dtype=np.uint8)
        for entry in range(self._first_entry[index], self._first_entry[index + 1]):
            value = int(self._class[entry])
            if entry in self._runs:
                try:
                    mask[decode_counts(parse_counts(self._runs[entry]), height, width)] = value
                except ValueError as error:
                    where = f"{self.path}: an annotation of '{self.ids[index]}'"
                    raise ValueError(f"{where} has {error}: fix or remove it") from None
            for ring in range(self._first_ring[entry], self._first_ring[entry + 1]):
                numbers = self._numbers[self._first_number[ring] : self._first_number[ring + 1]]
                fill_polygon(mask, numbers.reshape(-1, 2), value)
        return mask

    def _store_images(self, images: Sequence[dict[str, Any]]) -> None:
        images = _by_id(images)
        if not images:
            raise ValueError(f"{self.path}: the split is empty: check that the data set was unpacked whole")
        self.file_names = tuple(str(image["file_name"]) for image in images)
        outside = next((name for name in self.file_names if leads_out(name)), None)
        if outside is not None:
            raise ValueError(f"{self.path}: {outside!r} is not a valid image name: restore the file from the archive")
        # the folders of a name are part of it: `a/0001.jpg` and `b/0001.jpg` are two images
        self.ids = tuple(str(PurePosixPath(name).with_suffix("")) for name in self.file_names)
        for what, values in (("id", [image["id"] for image in images]), ("name", self.ids)):
            twice = _first_repeated(values)
            if twice is not None:
                raise ValueError(f"{self.path}: two images have the {what} {twice!r}: rename or remove one of them")
        sizes = np.array([(image["height"], image["width"]) for image in images], dtype=np.float64).reshape(-1, 2)
        wrong = (sizes % 1 != 0).any(axis=1) | (sizes < 1).any(axis=1) | (sizes.prod(axis=1) > MAX_PIXELS)
        if wrong.any():
            name, height, width = (images[int(wrong.argmax())][key] for key in ("file_name", "height", "width"))
            remedy = f"give whole numbers from 1 on, and at most {MAX_PIXELS} pixels"
            raise ValueError(f"{self.path}: image {name!r} has height {height!r} and width {width!r}: {remedy}")
        self._sizes = sizes.astype(np.int32)

    def _store_categories(self, categories: Sequence[dict[str, Any]]) -> dict[Any, int]:
        """Name the classes; returns category id to class index."""
        categories = _by_id(categories)
        twice = _first_repeated([category["id"] for category in categories])
        if twice is not None:
            raise ValueError(f"{self.path}: two categories have the id {twice!r}: give each its own")
        named = [category for category in categories if find_background([category["name"]]) is None]
        self.has_background = len(named) < len(categories)
        self.class_names = ("background", *(category["name"] for category in named))
        try:
            Labels(self.class_names)  # raises for names that cannot be
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None
        class_of = dict.fromkeys((category["id"] for category in categories), 0)
        return {**class_of, **{category["id"]: index for index, category in enumerate(named, start=1)}}

    def _store(self, annotations: Sequence[dict[str, Any]], image_ids: list[Any], class_of: dict[Any, int]) -> None:
        """Store all outlines in flat arrays, by image, in the order of drawing."""
        of_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for annotation in annotations:
            of_image[annotation["image_id"]].append(annotation)
        classes: list[int] = []
        entries, rings, lengths = [0], [0], [0]
        numbers: list[NDArray[np.float32]] = []
        self._runs: dict[int, bytes | NDArray[np.int64]] = {}
        for index, image_id in enumerate(image_ids):
            for outline, class_index in self._sorted(of_image.pop(image_id, []), class_of, self.size(index)):
                if isinstance(outline, list):
                    numbers.extend(outline)
                    lengths.extend(len(ring) for ring in outline)
                else:
                    self._runs[len(classes)] = outline
                rings.append(len(lengths) - 1)
                classes.append(class_index)
            entries.append(len(classes))
        if of_image:
            image_id, left_out = next(iter(of_image.items()))
            raise ValueError(
                f"{self.path}: {sum(map(len, of_image.values()))} annotations belong to no image, such as annotation "
                f"{left_out[0].get('id')} with image_id {image_id!r}: add the images, or remove these annotations"
            )
        self._class = np.array(classes, dtype=np.uint8)
        self._first_entry = np.array(entries, dtype=np.int64)
        self._first_ring = np.array(rings, dtype=np.int64)
        self._first_number = np.cumsum(lengths, dtype=np.int64)
        self._numbers = np.concatenate(numbers) if numbers else np.zeros(0, dtype=np.float32)

    def _sorted(
        self, annotations: Sequence[dict[str, Any]], class_of: dict[Any, int], size: tuple[int, int]
    ) -> list[tuple[Any, int]]:
        """The outlines of one image with their classes, in the order of drawing."""
        found = []
        for annotation in annotations:
            try:
                outline, area = _outline(annotation.get("segmentation"), size)
                category = annotation["category_id"]
                if category not in class_of:
                    raise ValueError(f"category_id {category!r}, which is not in the list of categories")
            except ValueError as error:
                where = f"{self.path}: annotation {annotation.get('id')}"
                raise ValueError(f"{where} has {error}: fix or remove it") from None
            order = (not annotation.get("iscrowd", 0), -area)
            found.append((order, outline, class_of[category]))
        return [(outline, class_index) for _, outline, class_index in sorted(found, key=lambda entry: entry[0])]


def _outline(shape: Any, size: tuple[int, int]) -> tuple[list[NDArray[np.float32]] | bytes | NDArray[np.int64], float]:
    """Outline of an annotation (polygons or run lengths, depending on its type) and its area in pixels."""
    if isinstance(shape, dict):
        if list(shape.get("size", ())) != list(size):
            raise ValueError(f"run lengths of size {shape.get('size')} for an image of {list(size)}")
        counts = parse_counts(shape["counts"])
        area = float(counts[1::2].sum())
        return shape["counts"].encode("ascii") if isinstance(shape["counts"], str) else counts, area
    if shape is None:
        raise ValueError("no outline, maybe a box alone: neither polygons nor run lengths")
    if not isinstance(shape, list) or not all(isinstance(ring, list) for ring in shape):
        raise ValueError("a segmentation that is neither polygons nor run lengths")
    if not shape:
        raise ValueError("an empty segmentation")
    if any(len(ring) < 6 or len(ring) % 2 for ring in shape):
        raise ValueError("a polygon of fewer than three corners, or half a corner")
    rings = [np.asarray(ring, dtype=np.float32) for ring in shape]
    if not all(ring.ndim == 1 and np.isfinite(ring).all() for ring in rings):
        raise ValueError("a corner that is NaN or infinite")
    return rings, sum(polygon_area(ring.reshape(-1, 2)) for ring in rings)


def _by_id(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(entries, key=lambda entry: entry["id"])


def _first_repeated(values: Sequence[Any]) -> Any:
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _read_instances(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file: unpack COCO's annotations there")
    try:
        content = json.loads(read_bytes(path, ANNOTATION_LIMIT))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: invalid JSON ({error}): restore it") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: contains a {type(content).__name__}: give COCO's instances file")
    missing = {"images", "annotations", "categories"} - set(content)
    if missing:
        raise ValueError(f"{path}: no '{min(missing)}' in it: give COCO's instances file")
    return content
