"""Listing the images and masks of a split, and reporting every file that is not read."""

import os
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from selfreg.data.source import UnreadFile

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
"""File types of images, in any case."""

# files that operating systems create in every folder
_SYSTEM_FILES = (".ds_store", "thumbs.db", "desktop.ini")


class Listing(NamedTuple):
    """The files of one folder by id, and the files that are not read."""

    files: dict[str, Path]
    unread: list[UnreadFile]


def relative_id(path: Path, folder: Path) -> str:
    """The id of a file: its path in `folder` without the file type, in composed Unicode (NFC)."""
    return normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())


def walk(folder: Path) -> Iterator[Path]:
    """Yield all files in a folder and its subfolders, in order.

    Links to folders, hidden folders, and folders that are named like an image are yielded like files.
    """
    for place, folders, names in os.walk(folder):
        odd = [name for name in folders if _is_odd_folder(Path(place) / name)]
        folders[:] = sorted(set(folders) - set(odd))
        yield from (Path(place) / name for name in sorted([*names, *odd]))


def _is_odd_folder(path: Path) -> bool:
    return path.is_symlink() or path.name.startswith(".") or path.suffix.lower() in IMAGE_SUFFIXES


def is_image(path: Path) -> bool:
    """Whether a path is a file of one of the types of images."""
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def list_files(folder: Path, suffixes: Sequence[str], what: str, *, ending: str = "") -> Listing:
    """List the files of some types in a folder and its subfolders.

    Args:
        folder: An existing folder.
        suffixes: File types, in lower case.
        what: "an image" or "a mask", for the reasons.
        ending: What the names must end with before the file type; it is not part of the id.

    Returns:
        Files by id, in the order of their paths, and every other file with the reason why it is not read.

    Raises:
        ValueError: If two files have the same id.
    """
    listing = Listing({}, [])
    for path in sorted(walk(folder)):
        _add(path, folder, listing, _why_not(path, suffixes, what, ending), ending)
    return listing


def list_beside(folder: Path, suffixes: Sequence[str], ending: str) -> tuple[Listing, Listing]:
    """List images, and the masks stored next to them.

    Args:
        folder: An existing folder.
        suffixes: File types of images, in lower case; a mask is a PNG.
        ending: Text that the name of a mask adds to the name of its image. If it is empty, a PNG is a mask if an image
            of another type has its name.

    Returns:
        Images and masks, by id.

    Raises:
        ValueError: If two images or two masks have the same id.
    """
    names = {path.with_suffix("") for path in walk(folder) if path.suffix.lower() in set(suffixes) - {".png"}}

    def is_mask(path: Path) -> bool:
        if path.suffix.lower() != ".png":
            return False
        return path.with_suffix("") in names if not ending else _has_ending(path, ending)

    images, masks = Listing({}, []), Listing({}, [])
    for path in sorted(walk(folder)):
        target, end = (masks, ending) if is_mask(path) else (images, "")
        _add(path, folder, target, _why_not(path, suffixes, "an image", ""), end)
    return images, masks


def list_beside_splits(images: Path, masks: Path | None) -> list[UnreadFile]:
    """List what lies beside the folders of the splits: single files, and folders of masks without one of images.

    Args:
        images: Folder whose subfolders are the splits.
        masks: Folder of the masks, if they are read; it may be `images` too.
    """
    folders = [folder for folder in dict.fromkeys([images, masks]) if folder is not None and folder.is_dir()]
    unread = []
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or path.name.lower() in _SYSTEM_FILES:
                continue
            if not path.is_dir():
                unread.append(UnreadFile(path, "not in the folder of a split"))
            elif not (images / path.name).is_dir():
                unread.append(UnreadFile(path, f"a split without the folder {images.name}/{path.name}"))
    return unread


def _add(path: Path, folder: Path, listing: Listing, reason: str | None, ending: str) -> None:
    if path.name.lower() in _SYSTEM_FILES:
        return
    if reason is not None:
        listing.unread.append(UnreadFile(path, reason))
        return
    name = relative_id(path, folder).removesuffix(normalize("NFC", ending))
    if name in listing.files:
        raise ValueError(f"{path}: shares its id with {listing.files[name].name}: rename one of them")
    listing.files[name] = path


def _why_not(path: Path, suffixes: Sequence[str], what: str, ending: str) -> str | None:
    if path.name.startswith("."):
        return "a hidden file or folder"
    if path.is_symlink() and path.is_dir():
        return "a link to a folder, which is not followed"
    if path.suffix.lower() not in suffixes:
        return f"not {what} ({', '.join(suffixes)})"
    if not _has_ending(path, ending):
        return f"its name does not end in {ending!r}"
    return None


def _has_ending(path: Path, ending: str) -> bool:
    return normalize("NFC", path.stem).endswith(normalize("NFC", ending))


def in_one_line(files: Iterable[UnreadFile]) -> list[str]:
    """One line for each reason: the first file, the number of files, and up to three more names."""
    groups = defaultdict(list)
    for file in files:
        groups[file.reason].append(file.path)
    lines = []
    for reason, paths in groups.items():
        others = "".join(f", {path.name}" for path in paths[1:3])
        lines.append(f"{paths[0]}: {reason} ({len(paths)} such{':' if others else ''}{others[1:]}): not used")
    return lines


def warn_of(files: Iterable[UnreadFile]) -> None:
    """Warn about files that are not read, with one line for each reason."""
    for line in in_one_line(files):
        warnings.warn(line, stacklevel=4)
