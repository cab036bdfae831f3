"""The layout for anyone's own data: `images/SPLIT/*`, `masks/SPLIT/*.png`, `labels.json`."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfreg.data.labels import IGNORE_INDEX, Labels, read_labels
from selfreg.data.reading import read_image, read_pair
from selfreg.data.source import Files, Pair

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


class Folder:
    """A split of a data set that lies in folders; also a `HasTags` source where `labels.json` has tags.

    Layout: `ROOT/images/SPLIT/ID.jpg` (or `.jpeg`, `.png`), `ROOT/MASKS/SPLIT/ID.png` (class indices, grey or palette)
    and `ROOT/labels.json` (see `read_labels`). The names are compared, nothing is opened, at construction.

    Args:
        root: the folder with `images`, the mask folder and `labels.json`.
        split: name of the subfolder, such as "train" or "val".
        masks: name of the mask folder; "masks_objects" also chooses the keys `classes_objects` and so on.
        tags_only: never look at masks: none need to exist, and `read` gives masks that are void throughout; instead
            each image must have tags.
        must_exist: refuse missing masks or tags now, not when the item is read.

    Attributes:
        orphans: masks without an image, which are not used (a warning says so).

    Raises:
        ValueError: a folder, a mask or (with `tags_only`) a tag is missing, the split is empty, or an id occurs twice.
    """

    def __init__(
        self, root: str | Path, split: str, masks: str = "masks", *, tags_only: bool = False, must_exist: bool = True
    ) -> None:
        self.root = Path(root).expanduser()
        self.split = split
        self.tags_only = tags_only
        content = read_labels(self.root / "labels.json", masks)
        self.labels: Labels = content.labels
        self._tags: Mapping[str, tuple[int, ...]] | None = content.tags
        self._images = _list_images(self.root / "images", split)
        self.ids: tuple[str, ...] = tuple(self._images)
        self._mask_folder = self.root / masks / split
        self.orphans: tuple[Path, ...] = ()
        if not tags_only:
            self._check_masks(must_exist)
        elif must_exist:
            for index in range(len(self)):
                self.tags(index)  # raises for an image without

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Pair:
        """Reads the image and mask at `index` (see `read_pair` for the errors)."""
        image, mask = self.files(index)
        if mask is None:
            pixels = read_image(image)
            return Pair(pixels, np.full(pixels.shape[:2], IGNORE_INDEX, dtype=np.uint8))
        return read_pair(image, mask, self.labels)

    def tags(self, index: int) -> NDArray[np.float32]:
        """(K,) float32: 1 for each class that `labels.json` lists for the image, 0 for the others.

        Raises:
            ValueError: `labels.json` lists no tags at all, or none for this image.
        """
        if self._tags is None or self.ids[index] not in self._tags:
            raise ValueError(f"{self.root / 'labels.json'}: no tags for '{self.ids[index]}': list them in image_labels")
        tags = np.zeros(self.labels.num_classes, dtype=np.float32)
        tags[list(self._tags[self.ids[index]])] = 1
        return tags

    def files(self, index: int) -> Files:
        """The files of the item at `index`."""
        image_id = self.ids[index]
        return Files(self._images[image_id], None if self.tags_only else self._mask_folder / f"{image_id}.png")

    def _check_masks(self, must_exist: bool) -> None:
        if not self._mask_folder.is_dir():
            raise ValueError(f"{self._mask_folder}: no such folder: put one index PNG for each image there")
        found = {path.stem for path in self._mask_folder.iterdir() if path.suffix == ".png" and path.name[0] != "."}
        for image_id, image in self._images.items():
            if must_exist and image_id not in found:
                mask = self._mask_folder / f"{image_id}.png"
                raise ValueError(f"{mask}: the mask of {image.name} is missing: add it, or take the image away")
        self.orphans = tuple(self._mask_folder / f"{name}.png" for name in sorted(found - set(self._images)))
        if self.orphans:
            count = len(self.orphans)
            warnings.warn(f"{self.orphans[0]}: a mask without an image ({count} such): not used", stacklevel=3)


def _list_images(folder: Path, split: str) -> dict[str, Path]:
    if not (folder / split).is_dir():
        there = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) if folder.is_dir() else ""
        raise ValueError(f"{folder / split}: no such folder: put the images there (splits found: {there or 'none'})")
    images: dict[str, Path] = {}
    for path in sorted((folder / split).iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in images:
            raise ValueError(f"{path}: shares its id with {images[path.stem].name}: rename one of them")
        images[path.stem] = path
    if not images:
        raise ValueError(f"{folder / split}: the split is empty: put .jpg or .png images there")
    return images
