"""A split whose every item is an image file and a mask file: what most of the named data sets are."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from selfreg.data.labels import IGNORE_INDEX, Labels
from selfreg.data.reading import read_image, read_image_of_mask
from selfreg.data.source import Files, Pair


class FilePairs:
    """A `Source` over listed files; also `HasTags` where `image_tags` is given.

    Args:
        labels: class names, void and palette.
        files: id to files, in the order of the items; a mask of None means void throughout.
        decode: reads a mask file as (H, W) uint8 with classes 0..K-1 and void 255.
        image_tags: id to the indices of the classes that the image holds, from elsewhere than the mask.
        where: the list or folder that the ids come from, for messages.
        must_exist: refuse a list with missing files now, not when the item is read.

    Raises:
        ValueError: the list is empty, or the first missing file.
    """

    def __init__(
        self,
        labels: Labels,
        files: Mapping[str, Files],
        decode: Callable[[Path], NDArray[np.uint8]],
        *,
        where: Path,
        image_tags: Callable[[str], Sequence[int]] | None = None,
        must_exist: bool = True,
    ) -> None:
        if not files:
            raise ValueError(f"{where}: the split is empty: check that the data set was unpacked whole")
        self.labels = labels
        self.ids: tuple[str, ...] = tuple(files)
        self._files = tuple(files.values())
        self._decode = decode
        self._image_tags = image_tags
        if must_exist:
            for pair in self._files:
                for path, what in zip(pair, ("image", "mask"), strict=True):
                    if path is not None and not path.is_file():
                        raise ValueError(f"{path}: this {what}, listed by {where}, is missing: restore it")

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Pair:
        """Reads the image and mask at `index` (errors: see `read_pair`)."""
        image, mask = self._files[index]
        if mask is None:
            pixels = read_image(image)
            return Pair(pixels, np.full(pixels.shape[:2], IGNORE_INDEX, dtype=np.uint8))
        return read_image_of_mask(image, self._decode(mask), mask)

    def files(self, index: int) -> Files:
        """The files of the item at `index`."""
        return self._files[index]

    def tags(self, index: int) -> NDArray[np.float32]:
        """(K,) float32: 1 for each class that the image is tagged with; background is never a tag.

        Raises:
            ValueError: this data set has no image-level tags.
        """
        if self._image_tags is None:
            raise ValueError("this data set has no image-level tags: choose one that has (folder, voc, coco, scenes)")
        tags = np.zeros(self.labels.num_classes, dtype=np.float32)
        tags[list(self._image_tags(self.ids[index]))] = 1
        return tags


def read_list(path: Path) -> list[str]:
    """The ids in a list file of a data set: the first word of each line.

    Raises:
        ValueError: the file is missing or no text, or an id would lead out of the data set's folders (`../x`, `/x`).
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such list of images: check the root folder and the split")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no list of images in UTF-8 ({error}): replace the file") from None
    ids = [line.split()[0] for line in lines if line.strip()]
    outside = next((name for name in ids if leads_out(name)), None)
    if outside is not None:
        raise ValueError(f"{path}: {outside!r} is no name of an image: take it out of the list")
    return ids


def leads_out(name: str) -> bool:
    """Whether a name from a file, put behind a folder, gives a path outside of it, or none at all."""
    return name.startswith(("/", "\\")) or ".." in PurePath(name).parts or "\0" in name


def first_folder(candidates: Sequence[Path], what: str) -> Path:
    """The first of several folders that exists.

    Raises:
        ValueError: none does.
    """
    for path in candidates:
        if path.is_dir():
            return path
    raise ValueError(f"{candidates[0]}: no such folder: give the place of {what}")
