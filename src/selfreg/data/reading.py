"""Reading one image or one mask from disk, strictly: what cannot be right is refused by name."""

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from selfreg.data.labels import IGNORE_INDEX, INVALID, Labels
from selfreg.data.png import is_whole
from selfreg.data.source import Pair
from selfreg.messages import one_line

MAX_PIXELS = 2**29
"""The largest picture that is opened, 536,870,912 pixels (some 23,000 x 23,000): decoded, it takes 2 GiB."""

_ORIENTATION = 0x0112
# A library of decoders is wide open to hostile files, and one of Pillow's starts another program (EPS).
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, IndexError, struct.error, OverflowError)
_STRIP = 2**24
_pillow_limit = threading.Lock()


def read_image(path: Path, *, upright: bool = True) -> NDArray[np.uint8]:
    """Reads a picture as (H, W, 3) uint8 RGB; grey, palette and CMYK pictures are converted, transparency is dropped.

    Args:
        path: a JPEG, PNG, WebP, TIFF, BMP, GIF or PPM of 8 bits per channel; of a TIFF or a stereo JPEG with several
            pictures the first is read. PNGs with colours of 16 bits are brought to 8.
        upright: turn the picture as its EXIF orientation says, as viewers and annotation tools do.

    Raises:
        ValueError: the file is missing, unreadable, truncated or animated, has grey values of more than 8 bits, or
            more than `MAX_PIXELS` pixels.
    """
    with _opened(path, "image") as picture:
        if picture.mode not in _MODES:
            raise _Refused(f"image of mode {picture.mode}: save it as RGB with 8 bits per channel")
        # torchvision's decoder of PNG ends the whole process where a checksum is wrong; that of JPEG does not
        pixels = _decode_jpeg(path, upright) if picture.format in ("JPEG", "MPO") else None
        if pixels is not None:
            return pixels
        _load(picture, path)
        if picture.mode == "P" and not picture.getpalette():
            raise _Refused("image without the palette that it needs: save it as RGB")
        turned = ImageOps.exif_transpose(picture) if upright and _orientation(picture) != 1 else picture
        return _pixels(turned if turned.mode == "RGB" else turned.convert("RGB"))


def is_turned(path: Path) -> bool:
    """Whether the EXIF orientation of a readable picture says that viewers are to turn or mirror it."""
    with _opened(path, "image") as picture:
        return _orientation(picture) != 1


def read_indices(path: Path) -> NDArray[np.uint8]:
    """Reads the values of an index mask, (H, W) uint8, exactly as stored: grey or palette PNG of 1, 2, 4 or 8 bits.

    Raises:
        ValueError: the file is missing, unreadable, truncated or animated, it is no PNG, a colour picture, has 16 bits
            or more than `MAX_PIXELS` pixels, or it asks to be turned (EXIF), which leaves open where its pixels lie.
    """
    with _opened(path, "mask") as picture:
        if picture.format != "PNG":
            raise _Refused(f"mask is a {picture.format}: save class indices as an 8-bit grey or palette PNG")
        if picture.mode not in ("L", "P", "1"):
            what = "colours" if picture.mode in ("RGB", "RGBA", "LA", "CMYK") else f"mode {picture.mode}"
            message = f"mask holds {what}: save class indices as an 8-bit grey or palette PNG"
            raise _Refused(message, ColourMaskError if what == "colours" else ValueError)
        rawmode = picture.tile[0].args if picture.tile else None
        _load(picture, path)
        if _orientation(picture) != 1:
            raise _Refused("mask asks to be turned (EXIF orientation): turn its pixels and save it without")
        values = np.asarray(picture, dtype=np.uint8)
    # Pillow stretches grey of 2 and 4 bits to 0..255, which would turn class 1 into 85 or 17.
    stretch = {"L;2": 85, "L;4": 17}.get(rawmode, 1) if isinstance(rawmode, str) else 1
    return values if stretch == 1 else values // np.uint8(stretch)


def read_mask(path: Path, labels: Labels, table: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Reads a mask as (H, W) uint8 with classes 0..K-1 and void as 255.

    Args:
        path: an index PNG.
        labels: the classes and the void value on disk.
        table: (256,) uint8 from value on disk to value in memory, where it is not `labels.table()`.

    Raises:
        ValueError: as `read_indices`, or a value on disk is neither a class nor void.
    """
    values = read_indices(path)
    if table is None and labels.void in (None, IGNORE_INDEX):
        # nothing to change, and a look at the largest value says whether all is right: masks are read in every step
        past_void = np.uint8(labels.void is not None)  # 255 + 1 wraps to 0
        if int((values + past_void).max()) < labels.num_classes + past_void:
            return values
    return check_values(values, labels.table() if table is None else table, path, labels)


def check_values(
    values: NDArray[np.integer[Any]], table: NDArray[np.uint8], path: Path, labels: Labels
) -> NDArray[np.uint8]:
    """Turns values on disk into classes 0..K-1 and void 255.

    Args:
        values: (H, W) integers as stored in the file at `path`.
        table: uint8, one for each value on disk; `INVALID` marks those that must not occur.
        path: for the message.
        labels: for the message.

    Raises:
        ValueError: a value has no meaning.
    """
    if values.dtype == np.uint8 and len(table) == 256:
        # twice as fast as indexing the table
        mapped = values.tobytes().translate(table.tobytes())
        mask = np.frombuffer(mapped, dtype=np.uint8).reshape(values.shape)
        if INVALID not in mapped:
            return mask
        wrong = mask == INVALID
    else:
        known = (values >= 0) & (values < len(table))
        mask = np.take(table, np.where(known, values, 0))
        wrong = ~known | (mask == INVALID)
    if wrong.any():
        found = np.unique(values[wrong])
        shown = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
        allowed = ", ".join(_ranges(np.flatnonzero(table != INVALID)))
        void = "" if labels.void is None else f" (void {labels.void})"
        raise ValueError(f"{path}: mask holds {shown}; allowed: {allowed}{void}: mend the mask or the list of classes")
    return mask


def read_mat(path: Path, variable: str) -> Any:
    """Reads one variable of a MATLAB file.

    Raises:
        ValueError: the file is missing or unreadable, or lacks the variable.
    """
    from scipy.io import loadmat  # slow to import, and only two data sets need it

    if not path.is_file():
        raise ValueError(f"{path}: no such mask: restore it, or take it out of the list")
    try:
        content = loadmat(path, variable_names=[variable])
    except Exception as error:  # scipy raises whatever the broken bytes lead it to
        raise ValueError(f"{path}: unreadable or truncated mask ({error}): replace the file") from error
    if variable not in content:
        raise ValueError(f"{path}: has no variable '{variable}': give the data set's own MATLAB files")
    return content[variable]


def _ranges(values: NDArray[np.intp]) -> list[str]:
    """Sorted numbers as a few ranges: 0..10, 255."""
    runs = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return [str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs]


def read_pair(image: Path, mask: Path, labels: Labels, table: NDArray[np.uint8] | None = None) -> Pair:
    """Reads an image and its mask and makes sure that they lie on one grid.

    A picture with an EXIF orientation is turned upright; where the mask fits the stored pixels only, it was drawn on
    those, and the picture is left as stored.

    Raises:
        ValueError: as `read_image` and `read_mask`, or the sizes differ.
    """
    return fit(image, read_mask(mask, labels, table), mask)


def fit(image: Path, mask: NDArray[np.uint8], origin: Path) -> Pair:
    """Reads the image that belongs to a mask in memory; see `read_pair`.

    Args:
        image: the picture.
        mask: (H, W) uint8.
        origin: the file that the mask comes from, for the message.

    Raises:
        ValueError: as `read_image`, or the sizes differ.
    """
    pixels = read_image(image)
    if pixels.shape[:2] != mask.shape:
        stored = read_image(image, upright=False)
        if stored.shape[:2] != mask.shape:
            size = f"{mask.shape[1]}x{mask.shape[0]}"
            wanted = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise ValueError(
                f"{origin}: mask is {size}, its image {image.name} {wanted} (width x height): make them of one size"
            )
        pixels = stored
    return Pair(pixels, mask)


def _decode_jpeg(path: Path, upright: bool) -> NDArray[np.uint8] | None:
    """What torchvision makes of a JPEG, a quarter faster than Pillow; None where Pillow is to judge."""
    from torchvision.io import ImageReadMode, decode_jpeg  # torchvision is slow to import

    try:
        content = torch.from_numpy(np.fromfile(path, dtype=np.uint8))
        planes = decode_jpeg(content, ImageReadMode.RGB, apply_exif_orientation=upright)
    except (OSError, RuntimeError, AttributeError):  # unreadable, unusual, or torchvision lacks its decoders
        return None
    pixels: NDArray[np.uint8] = planes.permute(1, 2, 0).numpy()
    return pixels


class ColourMaskError(ValueError):
    """A mask with colours where class indices are needed."""


class _Refused(Exception):
    """What is wrong with a picture that Pillow can read, and the type of the error that says so."""

    def __init__(self, message: str, kind: type[ValueError] = ValueError) -> None:
        super().__init__(message)
        self.kind = kind


@contextmanager
def _opened(path: Path, what: str) -> Iterator[ImageFile.ImageFile]:
    """A picture whose header is read and found good; whatever goes wrong with it from then on becomes a ValueError."""
    try:
        if not path.is_file():
            raise _Refused(f"no such {what}: restore it, or take it out of the list")
        with _open(path) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise _Refused(f"{what} of {width} x {height} pixels, more than {MAX_PIXELS}: cut it into parts")
            if picture.format in ("GIF", "PNG", "WEBP") and getattr(picture, "is_animated", False):
                raise _Refused(f"animated {what}: save the frame that is meant, alone")
            yield picture
    except _Refused as error:
        raise error.kind(f"{path}: {error}") from None
    except _UNREADABLE as error:
        reason = one_line(str(error).replace(f" {str(path)!r}", ""))
        raise ValueError(f"{path}: unreadable or truncated {what} ({reason}): replace the file") from error


def _open(path: Path) -> ImageFile.ImageFile:
    # Pillow's own limit is below ours, and can be set for the whole process only
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _load(picture: Image.Image, path: Path) -> None:
    """Decodes the pixels. Raises _Refused for a PNG without its last rows, which Pillow leaves at 0."""
    interlaced = bool(picture.info.get("interlace"))
    picture.load()
    if picture.format != "PNG":
        return
    width, height = picture.size
    last = picture.crop((0, height - 1, width, height))
    # to inflate the pixels once more takes time, so only where something might be missing
    if (interlaced or not last.getbbox(alpha_only=False)) and not is_whole(path):
        raise _Refused("unreadable or truncated picture (rows are missing): replace the file")


def _orientation(picture: Image.Image) -> int:
    """1 to 8; 1, upright, where the picture does not say, or nothing that makes sense."""
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except _UNREADABLE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8; strip by strip, since Pillow holds a large picture twice over while it hands it out whole."""
    width, height = picture.size
    if width * height <= _STRIP:
        return np.asarray(picture)
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(picture.crop((0, top, width, bottom)))
    return pixels
