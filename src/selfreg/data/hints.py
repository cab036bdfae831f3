"""Messages about incomplete data sets: what is missing, what was found, and the closest option that would work."""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from selfreg.data.label_files import LABEL_FILES
from selfreg.data.listing import IMAGE_SUFFIXES, Listing, relative_id, walk

SIGNS: Mapping[str, tuple[str, ...]] = {
    "folder": LABEL_FILES,
    "cityscapes": ("leftImg8bit", "gtFine"),
    "pascal_context": ("trainval", "labels.txt"),
    "coco": ("annotations/instances_*.json",),
    "ade20k": ("ADEChallengeData2016", "annotations/training"),
    "voc": ("VOCdevkit/VOC2012", "VOC2012", "SegmentationClass"),
    "camvid": ("trainannot",),
}
"""Kind of data set to the files and folders that its root is known by."""

_MASK_FOLDERS = ("masks", "mask", "labels", "annotations", "SegmentationClass", "gt", "ann", "seg")


def known_layout(root: Path) -> str | None:
    """The kind of the data set in a folder, by the names in it, or None."""
    return next((kind for kind, signs in SIGNS.items() if any(next(root.glob(sign), None) for sign in signs)), None)


def content_of(folder: Path) -> str:
    """The first names in a folder, for a message."""
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    return (", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")) or "nothing"


def count(missing: Sequence[str], total: int) -> str:
    """How many of the items are missing, with three examples; nothing for a single one."""
    if len(missing) == 1:
        return ""
    examples = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    return f" ({len(missing)} of {total} images have none: {examples})"


def require_layout(root: Path) -> None:
    """Check that a folder looks like the layout `folder`.

    Raises:
        ValueError: If the folder is missing, or has another layout (which is named if it is known) or none.
    """
    if not root.is_dir():
        near = difflib.get_close_matches(root.name, _folders(root.parent), n=1)
        raise ValueError(
            f"{root}: no such folder: set data.root to the folder of the data set"
            + (f"; did you mean {root.with_name(near[0])}?" if near else "")
        )
    if any((root / name).is_file() for name in LABEL_FILES) or (root / "images").is_dir():
        return
    kind = known_layout(root)
    if kind is not None:
        raise ValueError(f"{root}: this looks like {kind}, not like the layout folder: set data.kind: {kind}")
    raise ValueError(
        f"{root}: no known data set: looked for images/SPLIT, masks/SPLIT and one of {', '.join(LABEL_FILES)}; found "
        f"{content_of(root)}: arrange it like that, or convert it with `selfreg import`"
    )


def require_split(folder: Path) -> None:
    """Check that `images/SPLIT` exists.

    Raises:
        ValueError: If it does not; the splits that are there are named.
    """
    if folder.is_dir():
        return
    images = folder.parent
    if not images.is_dir():
        raise ValueError(
            f"{images}: no such folder: put the images into images/{folder.name} (found: {content_of(images.parent)})"
        )
    splits = _folders(images)
    near = difflib.get_close_matches(folder.name, splits, n=1)
    loose = sum(path.suffix.lower() in IMAGE_SUFFIXES for path in images.iterdir())
    hint = f"; did you mean {near[0]}?" if near else ""
    if not splits and loose:
        hint = f"; {loose} images are in {images} itself: move them into folders such as train and val"
    raise ValueError(
        f"{folder}: no such folder: put the images there (splits found: {', '.join(splits) or 'none'}){hint}"
    )


def require_masks(folder: Path, root: Path, split: str) -> None:
    """Check that the mask folder of a split exists.

    Raises:
        ValueError: If it does not; masks that lie elsewhere are named with the option that finds them.
    """
    if folder.is_dir():
        return
    raise ValueError(f"{folder}: no such folder: put one index PNG for each image there{_masks_elsewhere(root, split)}")


def _masks_elsewhere(root: Path, split: str) -> str:
    others = [name for name in _folders(root) if name != "images" and _has_png(root / name / split)]
    if others:
        named = [name for known in _MASK_FOLDERS for name in others if known.casefold() in name.casefold()]
        return f"; {(named or others)[0]}/{split} has PNGs: set data.options.masks: {(named or others)[0]}"
    images = root / "images" / split
    files = list(walk(images))
    names = {path.stem for path in files if path.suffix.lower() in IMAGE_SUFFIXES}
    suffix = _common_suffix(names, [path.stem for path in files if path.suffix.lower() == ".png"])
    if suffix is not None:
        return f"; masks are stored next to the images: set data.options.masks: {{folder: images, suffix: {suffix}}}"
    if any(path.suffix.lower() == ".png" and path.stem in _stems_of_other_types(files) for path in files):
        return "; masks are stored next to the images: set data.options.masks: {folder: images}"
    return f" (found in {root.name}: {content_of(root)})"


def nearest_masks(missing: Sequence[str], images: Mapping[str, Path], found: Listing, folder: Path) -> str:
    """Say what to do about missing masks: the option or change that would find them, if files are there that fit.

    Args:
        missing: Ids of the images without a mask.
        images: Id to image.
        found: The masks that were found, and the files that are not masks.
        folder: Folder of the masks.
    """
    stems = [image_id.rsplit("/", 1)[-1] for image_id in missing]
    place = "" if folder.parent.name == "masks" else f"folder: {folder.parent.name}, "
    there = [path for path in (*found.files.values(), *(file.path for file in found.unread)) if path.suffix]
    pngs = [path for path in there if path.suffix.lower() == ".png"]
    suffix = _common_suffix(stems, [path.stem for path in pngs])
    if suffix is not None:
        example = next(path for path in pngs if path.stem.endswith(suffix))
        return f"{example.name} exists: set data.options.masks: {{{place}suffix: {suffix}}}"
    by_stem = {path.stem: path for path in there}
    other = next((by_stem[stem] for stem in stems if stem in by_stem), None)
    if other is not None and other.suffix.lower() != ".png":
        return f"{other.name} exists, but only PNG keeps the values of a mask: save the masks as PNG"
    if other is not None and relative_id(other, folder) in missing:
        return f"{other.name} exists: take masks.suffix out of data.options"
    if other is not None:
        return f"{other} exists, but masks must be in the same subfolders as their images: move it"
    beside = _common_suffix(stems, [path.stem for path in images.values()])
    if beside is not None:
        return f"masks are stored next to the images: set data.options.masks: {{folder: images, suffix: {beside}}}"
    lowered = {path.stem.casefold(): path.name for path in pngs}
    near = difflib.get_close_matches(stems[0].casefold(), lowered, n=1, cutoff=0.8)
    hint = f"; the nearest is {lowered[near[0]]}: rename it, or" if near else ":"
    return f"looked for {stems[0]}.png{hint} add it, or remove the image"


def _common_suffix(stems: Iterable[str], others: Sequence[str]) -> str | None:
    """What `others` have after the names in `stems`, if at least half of `stems` have a partner with it."""
    stems = list(stems)
    known = set(others)
    endings = Counter(
        other.removeprefix(stem)
        for stem in stems[:50]
        for other in others
        if len(other) > len(stem) and other.startswith(stem) and not other[len(stem)].isalnum()
    )
    for ending, _ in endings.most_common(3):
        if 2 * sum(f"{stem}{ending}" in known for stem in stems) >= len([s for s in stems if not s.endswith(ending)]):
            return ending
    return None


def _stems_of_other_types(files: Iterable[Path]) -> set[str]:
    return {path.stem for path in files if path.suffix.lower() in set(IMAGE_SUFFIXES) - {".png"}}


def _has_png(folder: Path) -> bool:
    return folder.is_dir() and any(path.suffix.lower() == ".png" for path in walk(folder))


def _folders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
