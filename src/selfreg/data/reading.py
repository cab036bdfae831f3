"""Reading one image or one mask from disk, strictly: what cannot be right is refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from selfreg.data.labels import IGNORE_INDEX, INVALID, Labels
from selfreg.data.source import Pair

_ORIENTATION = 0x0112
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def read_image(path: Path, *, upright: bool = True) -> NDArray[np.uint8]:
    """Reads a picture as (H, W, 3) uint8 RGB; grey, palette and CMYK pictures are converted, transparency is dropped.

    Args:
        path: a JPEG or PNG of 8 bits per channel.
        upright: turn the picture as its EXIF orientation says, as viewers and annotation tools do.

    Raises:
        ValueError: the file is missing, unreadable, truncated, or has more than 8 bits per channel.
    """
    pixels = _decode(path, upright)
    if pixels is not None:
        return pixels
    picture = _open(path, "image")
    if upright and picture.getexif().get(_ORIENTATION, 1) != 1:
        picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        raise ValueError(f"{path}: image of mode {picture.mode}: save it with 8 bits per channel")
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def is_turned(path: Path) -> bool:
    """Whether the EXIF orientation of a readable picture says that viewers are to turn or mirror it."""
    with Image.open(path) as picture:
        return bool(picture.getexif().get(_ORIENTATION, 1) != 1)


def read_indices(path: Path) -> NDArray[np.uint8]:
    """Reads the values of an index mask, (H, W) uint8, exactly as stored: grey or palette PNG of 1, 2, 4 or 8 bits.

    Raises:
        ValueError: the file is missing, unreadable or truncated, or it is a colour picture or has 16 bits.
    """
    picture = _open(path, "mask")
    if picture.mode not in ("L", "P", "1"):
        what = "colours" if picture.mode in ("RGB", "RGBA", "LA", "CMYK") else f"mode {picture.mode}"
        raise ValueError(f"{path}: mask holds {what}: save class indices as an 8-bit grey or palette PNG")
    values = np.asarray(picture, dtype=np.uint8)
    # Pillow stretches grey of 2 and 4 bits to 0..255, which would turn class 1 into 85 or 17.
    stretch = {"L;2": 85, "L;4": 17}.get(picture.info["rawmode"], 1)
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


def _decode(path: Path, upright: bool) -> NDArray[np.uint8] | None:
    """What torchvision makes of a picture, a quarter faster than Pillow; None where Pillow is to judge."""
    from torchvision.io import ImageReadMode, decode_image  # torchvision is slow to import

    try:
        content = torch.from_numpy(np.fromfile(path, dtype=np.uint8))
        planes = decode_image(content, ImageReadMode.RGB, apply_exif_orientation=upright)
    except (OSError, RuntimeError, AttributeError):  # unreadable, unusual, or torchvision lacks its decoders
        return None
    return planes.permute(1, 2, 0).numpy() if planes.dtype == torch.uint8 and planes.shape[0] == 3 else None


def _open(path: Path, what: str) -> Image.Image:
    if not path.is_file():
        raise ValueError(f"{path}: no such {what}: restore it, or take it out of the list")
    try:
        with Image.open(path) as picture:
            rawmode = picture.tile[0].args if picture.tile else None
            picture.load()
    except _UNREADABLE as error:
        reason = str(error).replace(f" {str(path)!r}", "")
        raise ValueError(f"{path}: unreadable or truncated {what} ({reason}): replace the file") from error
    picture.info["rawmode"] = rawmode if isinstance(rawmode, str) else None
    return picture
