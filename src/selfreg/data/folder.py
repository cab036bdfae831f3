"""The layout for custom data: `images/SPLIT/*`, `masks/SPLIT/*.png` and a list of classes."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreg.data import hints
from selfreg.data.label_files import read_label_file
from selfreg.data.labels import IGNORE_INDEX, Labels
from selfreg.data.listing import IMAGE_SUFFIXES, Listing, list_beside, list_beside_splits, list_files, walk, warn_of
from selfreg.data.masks import MaskReader, value_table
from selfreg.data.reading import RGB, ImageFormat, read_image, read_image_of_mask
from selfreg.data.source import Files, Pair, UnreadFile
from selfreg.input_files import user_path

MASK_SUFFIXES = (".png",)
"""File types of masks, in any case; other types would change the values."""


@dataclass(frozen=True)
class MaskOptions:
    """The option `masks` of a `Folder`: where masks are stored and what their values mean.

    Attributes:
        folder: Name of the mask folder; "images" if masks are stored next to the images.
        suffix: Text that the name of a mask adds to the name of its image, such as "_mask".
        map: Value on disk to `void`, a class index or a class name; by default values are class indices.
    """

    folder: str = "masks"
    suffix: str = ""
    map: Mapping[Any, Any] | None = None

    @classmethod
    def parse(cls, option: Any) -> "MaskOptions":
        """Parse the option: the name of the folder, or a mapping with the attributes as keys.

        Raises:
            ValueError: If the option is neither.
        """
        if isinstance(option, str):
            return cls(folder=option)
        known = [field.name for field in fields(cls)]
        if not isinstance(option, Mapping) or not set(option) <= set(known):
            raise ValueError(f"the option masks is {option!r}: give a folder name, or a mapping of {', '.join(known)}")
        result = cls(**option)
        if not isinstance(result.folder, str) or not isinstance(result.suffix, str):
            raise ValueError(f"the option masks is {option!r}: folder and suffix must be strings")
        if result.map is not None and not (isinstance(result.map, Mapping) and result.map):
            raise ValueError(f"the option masks.map is {result.map!r}: write it as {{0: void, 1: 0, 2: 1}}")
        return result


class Folder:
    """A split of a data set in folders; also a `HasTags` source if `labels.json` has tags.

    Layout: `ROOT/images/SPLIT/ID.jpg` (or another of `IMAGE_SUFFIXES`), `ROOT/MASKS/SPLIT/ID.png` and
    `ROOT/labels.json` (or `labelmap.txt` or `classes.txt`, see `read_label_file`). Images may lie in subfolders of
    `SPLIT`, which become a part of their ids (`city/0001`); masks use the same subfolders. The constructor compares
    names and does not open images or masks.

    Args:
        root: Folder with `images`, the mask folder and the list of classes.
        split: Name of the subfolder, such as "train" or "val".
        masks: Name of the mask folder, or a mapping, see `MaskOptions`. The folder "masks_objects" also selects the
            keys `classes_objects` and so on of `labels.json`.
        tags_only: Ignore masks: `read` returns masks that are void throughout. Each image must have tags.
        must_exist: Raise now if masks or tags are missing, not when the item is read.
        image_format: Bands and range of the images.

    Attributes:
        unread: Files of the split that are not read, with the reason; a warning names them.
        orphans: Masks without an image, a subset of `unread`.
        missing_remedy: What to do about missing masks; empty if none is missing.
        image_format: As given.

    Raises:
        ValueError: If a folder, a mask or (with `tags_only`) a tag is missing, the split is empty, or an id occurs
            twice.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        masks: str | Mapping[str, Any] = "masks",
        *,
        tags_only: bool = False,
        must_exist: bool = True,
        image_format: ImageFormat = RGB,
    ) -> None:
        self.root = user_path(root)
        self.split = split
        self.tags_only = tags_only
        self.image_format = image_format
        self._masks = MaskOptions.parse(masks)
        hints.require_layout(self.root)
        content = read_label_file(self.root, self._masks.folder, ignore_void=self._masks.map is not None)
        self.labels: Labels = content.labels
        table = None if self._masks.map is None else value_table(self._masks.map, content.labels)
        self._read_mask = MaskReader(content, table)
        self._tags: Mapping[str, tuple[int, ...]] | None = content.tags
        images, found = self._list(split)
        self._images = images.files
        self.ids: tuple[str, ...] = tuple(self._images)
        self._found_masks = found.files
        beside_splits = list_beside_splits(self.root / "images", None if tags_only else self._mask_folder.parent)
        self.unread: tuple[UnreadFile, ...] = (*images.unread, *beside_splits)
        self.orphans: tuple[Path, ...] = ()
        self.missing_remedy = ""
        if not tags_only:
            self._check_masks(found, must_exist)
        elif must_exist:
            for index in range(len(self)):
                self.tags(index)  # raises for an image without
        warn_of(self.unread)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Pair:
        """Read the image and mask at `index`; see `read_pair` for the errors."""
        image, mask = self.files(index)
        if mask is None:
            pixels = read_image(image, self.image_format)
            return Pair(pixels, np.full(pixels.shape[:2], IGNORE_INDEX, dtype=np.uint8))
        return read_image_of_mask(image, self._read_mask(mask), mask, self.image_format)

    def tags(self, index: int) -> NDArray[np.float32]:
        """Tags of the image at `index`, (K,) float32: 1 for each class that `labels.json` lists, 0 for the others.

        Raises:
            ValueError: If `labels.json` lists no tags at all, or none for this image.
        """
        if self._tags is None or self.ids[index] not in self._tags:
            raise ValueError(f"{self.root / 'labels.json'}: no tags for '{self.ids[index]}': list them in image_labels")
        tags = np.zeros(self.labels.num_classes, dtype=np.float32)
        tags[list(self._tags[self.ids[index]])] = 1
        return tags

    def files(self, index: int) -> Files:
        """The files of the item at `index`."""
        image_id = self.ids[index]
        return Files(self._images[image_id], None if self.tags_only else self._mask_path(image_id))

    def _mask_path(self, image_id: str) -> Path:
        return self._found_masks.get(image_id, self._mask_folder / f"{image_id}{self._masks.suffix}.png")

    @property
    def _mask_folder(self) -> Path:
        return self.root / self._masks.folder / self.split

    def _list(self, split: str) -> tuple[Listing, Listing]:
        """The images and the masks of the split."""
        folder = self.root / "images" / split
        hints.require_split(folder)
        if self._mask_folder == folder:
            images, masks = list_beside(folder, IMAGE_SUFFIXES, self._masks.suffix)
        else:
            if not self.tags_only and any(walk(folder)):
                hints.require_masks(self._mask_folder, self.root, split)
            images, masks = list_files(folder, IMAGE_SUFFIXES, "an image"), Listing({}, [])
            if images.files and not self.tags_only:
                masks = list_files(self._mask_folder, MASK_SUFFIXES, "a mask", ending=self._masks.suffix)
        if not images.files:
            there = f"{', '.join(IMAGE_SUFFIXES)}; found: {hints.content_of(folder)}"
            raise ValueError(f"{folder}: the split is empty: put images there ({there})")
        return images, masks

    def _check_masks(self, found: Listing, must_exist: bool) -> None:
        missing = [image_id for image_id in self.ids if image_id not in found.files]
        if missing:
            self.missing_remedy = hints.nearest_masks(missing, self._images, found, self._mask_folder)
        if missing and must_exist:
            first = self._images[missing[0]].name
            raise ValueError(
                f"{self._mask_path(missing[0])}: the mask of {first} is missing"
                f"{hints.count(missing, len(self.ids))}: {self.missing_remedy}"
            )
        self.orphans = tuple(path for image_id, path in found.files.items() if image_id not in self._images)
        without = [UnreadFile(path, "a mask without an image") for path in self.orphans]
        self.unread = (*self.unread, *found.unread, *without)
