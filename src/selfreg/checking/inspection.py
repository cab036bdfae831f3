"""What can be known of one item by reading it once: faults, labels, sizes of objects, fingerprints of the picture."""

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
from selfreg.data.labels import IGNORE_INDEX, Labels
from selfreg.data.reading import ColourMaskError, is_turned, read_image
from selfreg.data.source import Files, HasFiles, Pair, Source
from selfreg.data.voc import VOC_LABELS

SIZE_EDGES = (0.0001, 0.001, 0.01, 0.05)
"""Borders between the classes of object sizes, as shares of the image: tiny, small, medium, large, huge."""

_KNOWN_PALETTES: Mapping[str, Labels] = {
    "PASCAL VOC": VOC_LABELS,
    "Cityscapes": CITYSCAPES_LABELS,
    "ADE20K": ADE20K_LABELS,
    "CamVid": CAMVID_LABELS,
}


@dataclass(frozen=True)
class Item:
    """What one image and its mask are like.

    Attributes:
        split, image_id: which item.
        image, mask: its files; None where it has none of its own.
        faults: what is wrong with the files, one line each, naming the file and the mend.
        size: (height, width) in pixels, None where the image is unreadable.
        turned: whether the image's EXIF says that it is to be turned.
        pixels: class index (255: void) to number of pixels; empty where the mask is at fault.
        objects: class index to the number of its 8-connected components in each of the five size classes.
        fingerprint: of the decoded picture; equal for equal pixels only.
        thumbnail: (32, 32) uint8 grey.
        perceptual: 63-bit hash of what the picture looks like; a few bits change when it is scaled or saved again.
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

    @property
    def void_share(self) -> float:
        """Share of the pixels that are void, 0..1; 0 where the mask is at fault."""
        return self.pixels.get(IGNORE_INDEX, 0) / max(sum(self.pixels.values()), 1)

    @property
    def name(self) -> str:
        """The image's file, or where it has none, split and id."""
        return str(self.image or f"{self.split}/{self.image_id}")


def inspect_item(source: Source, split: str, index: int) -> Item:
    """Reads one item of a source; what is wrong with it becomes part of the answer."""
    files = source.files(index) if isinstance(source, HasFiles) else None
    image, mask = files or (None, None)
    try:
        pair = source.read(index)
    except ValueError as error:
        faults = _explain(error, files, source.labels)
        return Item(split, source.ids[index], image, mask, faults)
    small = np.asarray(Image.fromarray(pair.image).convert("L").resize((32, 32), Image.Resampling.BOX))
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
        hashlib.blake2b(pair.image.tobytes(), digest_size=16).hexdigest() + str(pair.image.shape),
        small,
        perceptual_hash(small),
    )


def object_sizes(mask: NDArray[np.uint8]) -> dict[int, tuple[int, ...]]:
    """Counts the 8-connected components of each class by their share of the image.

    Args:
        mask: (H, W) uint8, void 255.

    Returns:
        Class index to five counts, with `SIZE_EDGES` between them.
    """
    import cc3d

    components = cc3d.connected_components(np.where(mask == IGNORE_INDEX, 0, mask + 1).astype(np.uint8), connectivity=8)
    areas = np.bincount(components.ravel())
    class_of = np.zeros(len(areas), dtype=np.uint8)
    class_of[components.ravel()] = mask.ravel()
    bins = np.digitize(areas / mask.size, SIZE_EDGES)
    result = {}
    for index in np.unique(class_of[1:]):
        counts = np.bincount(bins[1:][class_of[1:] == index], minlength=len(SIZE_EDGES) + 1)
        result[int(index)] = tuple(int(count) for count in counts)
    return result


def perceptual_hash(thumbnail: NDArray[np.uint8]) -> int:
    """The signs of the 63 lowest frequencies of a (32, 32) grey picture, about their median, as one number.

    Source: the well-known pHash, by its description.
    """
    from scipy.fft import dctn

    low = dctn(thumbnail.astype(np.float64), norm="ortho")[:8, :8].ravel()[1:]
    bits = np.concatenate([[False], low > np.median(low)])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def guess_palette(path: Path, labels: Labels) -> str | None:
    """The name of the palette that the colours of a picture come from, or None where no known one has them all.

    Args:
        path: a colour picture.
        labels: those of the data set, whose own palette is tried first.
    """
    with Image.open(path) as picture:
        colours = picture.convert("RGB").getcolors(maxcolors=4096)
    if colours is None:
        return None
    total = sum(count for count, _ in colours)
    for name, known in {"the data set's own labels": labels, **_KNOWN_PALETTES}.items():
        allowed = {tuple(row) for row in known.palette[: known.num_classes].tolist()}
        allowed |= {tuple(known.palette[IGNORE_INDEX].tolist()), (0, 0, 0), (255, 255, 255)}
        if sum(count for count, colour in colours if colour in allowed) >= 0.99 * total:
            return name
    return None


def _explain(error: ValueError, files: Files | None, labels: Labels) -> tuple[str, ...]:
    """The fault that stopped the reading, told in full, and the image's own fault if it has one too."""
    faults = [str(error)]
    if files is None:
        return tuple(faults)
    if files.mask is not None and isinstance(error, ColourMaskError):
        name = guess_palette(files.mask, labels)
        known = f"those of {name}" if name else "of no known palette"
        faults = [f"{files.mask}: a colour mask ({known}): save class indices as an 8-bit grey or palette PNG"]
    try:
        read_image(files.image)
    except ValueError as fault:
        if str(fault) not in faults:
            faults.append(str(fault))
    return tuple(faults)


def _mask_faults(pair: Pair, files: Files | None) -> tuple[str, ...]:
    if files is not None and files.mask is not None and (pair.mask == IGNORE_INDEX).all():
        return (f"{files.mask}: the mask is void throughout: label it, or take the pair away",)
    return ()


def _count(mask: NDArray[np.uint8]) -> dict[int, int]:
    counts = np.bincount(mask.ravel(), minlength=256)
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
