"""A split whose items are image files and mask files, as in most named data sets."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfreg.data.labels import IGNORE_INDEX, Labels
from selfreg.data.listing import list_files, walk, warn_of
from selfreg.data.reading import read_image, read_image_of_mask
from selfreg.data.source import Files, Pair, UnreadFile
from selfreg.files import leads_out as leads_out
from selfreg.input_files import LIST_LIMIT, read_text


class FilePairs:
    """A `Source` over listed files; also `HasTags` if `image_tags` is given.

    Args:
        labels: Class names, void and palette.
        files: Id to files, in the order of the items; a mask of None means void throughout.
        decode: Reads a mask file as (H, W) uint8 with classes 0..K-1 and void 255.
        where: The list or folder that the ids come from, for messages.
        image_tags: Id to the indices of the classes in the image, from another place than the mask.
        unread: Files of the folder that are not read, with the reason; a warning names them.
        must_exist: Refuse a list with missing files now, not when the item is read.

    Raises:
        ValueError: If the list is empty, or files are missing.
    """

    def __init__(
        self,
        labels: Labels,
        files: Mapping[str, Files],
        decode: Callable[[Path], NDArray[np.uint8]],
        *,
        where: Path,
        image_tags: Callable[[str], Sequence[int]] | None = None,
        unread: Sequence[UnreadFile] = (),
        must_exist: bool = True,
    ) -> None:
        if not files:
            raise ValueError(f"{where}: the split is empty: check that the data set was unpacked whole")
        self.labels = labels
        self.ids: tuple[str, ...] = tuple(files)
        self._files = tuple(files.values())
        self._decode = decode
        self._image_tags = image_tags
        self.unread: tuple[UnreadFile, ...] = tuple(unread)
        if must_exist:
            self._refuse_missing(where)
        warn_of(self.unread)

    def __len__(self) -> int:
        return len(self.ids)

    def _refuse_missing(self, where: Path) -> None:
        for what in ("image", "mask"):
            paths: list[Path | None] = [getattr(pair, what) for pair in self._files]
            missing = [path for path in paths if path is not None and not path.is_file()]
            if missing:
                more = (
                    f" ({len(missing)} of {len(self._files)} are: {', '.join(path.name for path in missing[:3])})"
                    if len(missing) > 1
                    else ""
                )
                raise ValueError(f"{missing[0]}: this {what}, listed by {where}, is missing{more}: restore it")

    def read(self, index: int) -> Pair:
        """Read the image and mask at `index`; see `read_pair` for the errors."""
        image, mask = self._files[index]
        if mask is None:
            pixels = read_image(image)
            return Pair(pixels, np.full(pixels.shape[:2], IGNORE_INDEX, dtype=np.uint8))
        return read_image_of_mask(image, self._decode(mask), mask)

    def files(self, index: int) -> Files:
        """The files of the item at `index`."""
        return self._files[index]

    def tags(self, index: int) -> NDArray[np.float32]:
        """Tags of the image at `index`, (K,) float32: 1 for each class that it is tagged with; never background.

        Raises:
            ValueError: If this data set has no image-level tags.
        """
        if self._image_tags is None:
            raise ValueError("this data set has no image-level tags: choose one that has (folder, voc, coco, scenes)")
        tags = np.zeros(self.labels.num_classes, dtype=np.float32)
        tags[list(self._image_tags(self.ids[index]))] = 1
        return tags


def read_list(path: Path) -> list[str]:
    """Read the ids in a list file of a data set: the first word of each line.

    Raises:
        ValueError: If the file is missing or is not text, an id occurs twice, or an id leads out of the data set's
            folders (`../x`, `/x`).
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such list of images: check the root folder and the split")
    try:
        lines = read_text(path, LIST_LIMIT, encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a list of images in UTF-8 ({error}): replace the file") from None
    ids = [line.split()[0] for line in lines if line.strip()]
    outside = next((name for name in ids if leads_out(name)), None)
    if outside is not None:
        raise ValueError(f"{path}: {outside!r} is not a valid image name: remove it from the list")
    twice = next((name for name, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{path}: {twice!r} is listed more than once: list each image once")
    return ids


def list_pairs(
    images: Path,
    mask_of: Callable[[Path], Path],
    masks: Path,
    *,
    suffix: str,
    ending: str = "",
    mask_ending: str = "",
    folders: bool = False,
) -> tuple[dict[str, Files], list[UnreadFile]]:
    """List the images of a folder, each with its mask, and the files and masks that are not read.

    Args:
        images: The folder.
        mask_of: Image to the path of its mask.
        masks: The folder of the masks.
        suffix: File type of the images, in lower case.
        ending: What the names of images end with before the file type; it is no part of the id.
        mask_ending: What the names of masks end with before the file type.
        folders: Whether images are in subfolders, whose names are not part of the id.

    Returns:
        Id to files, in the order of the paths, and the files that are not read.

    Raises:
        ValueError: If two images have the same id.
    """
    listing = list_files(images, (suffix,), "an image of this data set", ending=ending)
    files: dict[str, Files] = {}
    unread = list(listing.unread)
    for name, path in listing.files.items():
        if (path.parent == images) == folders:
            unread.append(UnreadFile(path, "not in the folder where this data set has its images"))
            continue
        image_id = name.rsplit("/", 1)[-1]
        if image_id in files:
            raise ValueError(f"{path}: shares its id with {files[image_id].image}: rename one of them")
        files[image_id] = Files(path, mask_of(path))
    with_image = {pair.mask for pair in files.values()}
    for path in sorted(walk(masks)):
        if path not in with_image and path.suffix.lower() == ".png" and path.stem.endswith(mask_ending):
            unread.append(UnreadFile(path, "a mask without an image"))
    return files, unread


def first_folder(candidates: Sequence[Path], what: str) -> Path:
    """Return the first of several folders that exists.

    Raises:
        ValueError: If none does.
    """
    for path in candidates:
        if path.is_dir():
            return path
    raise ValueError(f"{candidates[0]}: no such folder: give the place of {what}")
