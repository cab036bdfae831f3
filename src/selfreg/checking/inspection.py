"""Inspection of one item: faults, labels, sizes of objects, fingerprints of the picture."""

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from selfreg.data.ade20k import ADE20K_LABELS
from selfreg.data.camvid import CAMVID_LABELS
from selfreg.data.cityscapes import CITYSCAPES_LABELS
from selfreg.data.folder import Folder
from selfreg.data.labels import IGNORE_INDEX, Labels
from selfreg.data.masks import ColourMaskError
from selfreg.data.reading import image_format_of, is_turned, read_image
from selfreg.data.source import Files, HasFiles, Pair, Source
from selfreg.data.voc import VOC_LABELS
from selfreg.messages import one_line

SIZE_EDGES = (0.0001, 0.001, 0.01, 0.05)
"""Boundaries of the classes of object sizes, as fractions of the image: tiny, small, medium, large, huge."""

_KNOWN_PALETTES: Mapping[str, Labels] = {
    "PASCAL VOC": VOC_LABELS,
    "Cityscapes": CITYSCAPES_LABELS,
    "ADE20K": ADE20K_LABELS,
    "CamVid": CAMVID_LABELS,
}
_COLOURS_LOOKED_AT = 2**22
_BLOCK = 2**24


@dataclass(frozen=True)
class Item:
    """Properties of one image and its mask.

    Attributes:
        split: Split of the item.
        image_id: Id in the split.
        image: File of the image; None if it has none.
        mask: File of the mask; None if it has none.
        faults: Problems with the files, one line each, naming the file and the remedy.
        size: (height, width) in pixels, None if the image is unreadable.
        turned: Whether the EXIF orientation rotates or mirrors the image.
        pixels: Class index (255: void) to number of pixels; empty if the mask is invalid.
        objects: Class index to the number of its 8-connected components in each of the five size classes.
        fingerprint: Hash of the decoded picture; equal for equal pixels only.
        thumbnail: (32, 32) uint8 grey.
        perceptual: 64-bit pHash of the picture; a few bits change if it is scaled or saved again.
        index: Index in the split.
    """

    split: str
    image_id: str
    image: Path | None
    mask: Path | None
    faults: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    turned: bool = False
    pixels: Mapping[int, int] = field(default_factory=dict)
    objects: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    fingerprint: str = ""
    thumbnail: NDArray[np.uint8] | None = None
    perceptual: int = 0
    index: int = 0

    @property
    def void_share(self) -> float:
        """Fraction of void pixels in [0, 1]; 0 if the mask is invalid."""
        return self.pixels.get(IGNORE_INDEX, 0) / max(sum(self.pixels.values()), 1)

    @property
    def name(self) -> str:
        """The image's file, or split and id if it has none."""
        return str(self.image or f"{self.split}/{self.image_id}")


def inspect_item(source: Source, split: str, index: int) -> Item:
    """Read one item of a source; any problem with it becomes part of the result."""
    try:
        return _inspect(source, split, index)
    except Exception as error:  # one bad file must not stop the check
        return lost_item(source, split, index, f"{type(error).__name__}: {one_line(error)}")


def lost_item(source: Source, split: str, index: int, reason: str) -> Item:
    """Result for an item that could not be read because of an unexpected error."""
    image, mask = source.files(index) if isinstance(source, HasFiles) else (None, None)
    name = mask or image or f"{split}/{source.ids[index]}"
    return Item(
        split, source.ids[index], image, mask, (f"{name}: cannot be checked ({reason}): replace the file",), index=index
    )


def _inspect(source: Source, split: str, index: int) -> Item:
    files = source.files(index) if isinstance(source, HasFiles) else None
    image, mask = files or (None, None)
    try:
        pair = source.read(index)
    except ValueError as error:
        faults = _explain(error, files, source)
        return Item(split, source.ids[index], image, mask, faults, index=index)
    shown = image_format_of(source).to_rgb(pair.image)
    small = Image.fromarray(shown).convert("L").resize((32, 32), Image.Resampling.BOX)
    return Item(
        split,
        source.ids[index],
        image,
        mask,
        _mask_faults(pair, files),
        pair.mask.shape,
        is_turned(image) if image else False,
        _count(pair.mask),
        object_sizes(pair.mask),
        hashlib.blake2b(np.ascontiguousarray(pair.image).data, digest_size=16).hexdigest() + str(pair.image.shape),
        np.asarray(small),
        perceptual_hash(small),
        index,
    )


def object_sizes(mask: NDArray[np.uint8]) -> dict[int, tuple[int, ...]]:
    """Count the 8-connected components of each class by their share of the image.

    Args:
        mask: (H, W) uint8, void 255.

    Returns:
        Class index to five counts, with `SIZE_EDGES` between them.
    """
    import cc3d

    # void, 255, wraps to 0, which is no object
    components, count = cc3d.connected_components(mask + np.uint8(1), connectivity=8, return_N=True)
    areas = np.zeros(count + 1, dtype=np.int64)
    class_of = np.zeros(count + 1, dtype=np.uint8)
    for rows, labels in zip(_blocks(components), _blocks(mask), strict=True):
        areas += np.bincount(rows.ravel(), minlength=count + 1)
        class_of[rows.ravel()] = labels.ravel()
    bins = np.digitize(areas / mask.size, SIZE_EDGES)
    result = {}
    for index in np.unique(class_of[1:]):
        counts = np.bincount(bins[1:][class_of[1:] == index], minlength=len(SIZE_EDGES) + 1)
        result[int(index)] = tuple(int(count) for count in counts)
    return result


def _blocks(values: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    """Split a map into blocks of rows, since numpy converts what it counts to 64 bits."""
    return np.array_split(values, max(1, values.size // _BLOCK))


def perceptual_hash(picture: Image.Image) -> int:
    """pHash of a picture as a 64-bit integer."""
    import imagehash

    return int(str(imagehash.phash(picture)), 16)


def guess_palette(path: Path, labels: Labels) -> str | None:
    """Name the palette that the colours of a picture come from.

    Args:
        path: A colour picture.
        labels: Labels of the data set; their palette is tried first.

    Returns:
        The name, or None if no known palette has all its colours.

    Raises:
        ValueError: If the picture cannot be read.
    """
    pixels = read_image(path).reshape(-1, 3)[:_COLOURS_LOOKED_AT].astype(np.uint32)
    packed, counts = np.unique(pixels @ np.array([65536, 256, 1], dtype=np.uint32), return_counts=True)
    for name, known in {"the data set's own labels": labels, **_KNOWN_PALETTES}.items():
        allowed = {tuple(row) for row in known.palette[: known.num_classes].tolist()}
        allowed |= {tuple(known.palette[IGNORE_INDEX].tolist()), (0, 0, 0), (255, 255, 255)}
        matching = np.isin(packed, [65536 * red + 256 * green + blue for red, green, blue in allowed])
        if counts[matching].sum() >= 0.99 * counts.sum():
            return name
    return None


_COLOUR_REMEDY = (
    "save class indices as an 8-bit grey or palette PNG, or give the colour of every class in `palette` of labels.json"
)


def _explain(error: ValueError, files: Files | None, source: Source) -> tuple[str, ...]:
    """The error in full, and the image's own error if it has one too."""
    faults = [str(error)]
    if files is None:
        return tuple(faults)
    if files.mask is not None and isinstance(source, Folder) and source.missing_remedy and not files.mask.exists():
        faults = [f"{files.mask}: the mask of {files.image.name} is missing: {source.missing_remedy}"]
    if files.mask is not None and isinstance(error, ColourMaskError):
        with contextlib.suppress(ValueError):  # the mask is damaged too; the first error is reported
            name = guess_palette(files.mask, source.labels)
            known = f"those of {name}" if name else "of no known palette"
            faults = [f"{files.mask}: a colour mask ({known}): {_COLOUR_REMEDY}"]
    try:
        read_image(files.image, image_format_of(source))
    except ValueError as fault:
        if str(fault) not in faults:
            faults.append(str(fault))
    return tuple(faults)


def _mask_faults(pair: Pair, files: Files | None) -> tuple[str, ...]:
    if files is not None and files.mask is not None and (pair.mask == IGNORE_INDEX).all():
        return (f"{files.mask}: the mask is void throughout: label it, or remove the pair",)
    return ()


def _count(mask: NDArray[np.uint8]) -> dict[int, int]:
    counts = np.bincount(mask.ravel(), minlength=256)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
