"""Pixel values of images with 16 bits per channel or a number of bands other than three."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from selfreg.data.pictures import MAX_PIXELS, UNREADABLE, Refused, load, orientation
from selfreg.input_files import PICTURE_LIMIT, check_file, read_start
from selfreg.messages import one_line

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# number of bands of each mode of Pillow; colours that are not RGB are converted to RGB
_MODES = {"1": "L", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB"}
_MIN_IS_WHITE = 0
"""Photometric interpretation of a TIFF that only Pillow turns round, and only with 8 bits or 1."""
# bands beyond the expected ones, such as transparency, that are read and dropped
_MOST_BANDS = 4
_AS_THEY_ARE = ("RGB", "RGBA", "RGBX", "I;16", "I;16B", "I;16L")


def is_tiff(path: Path) -> bool:
    """Whether a file is a TIFF, by its first bytes."""
    try:
        return read_start(path, 4) in _TIFF_STARTS
    except (OSError, ValueError):
        return False


def is_deep(picture: ImageFile.ImageFile) -> bool:
    """Whether a picture has 16 bits per channel, before it is decoded."""
    modes = [str(tile.args) for tile in picture.tile]
    bits = picture.tag_v2.get(258, (8,)) if picture.format == "TIFF" else (8,)  # type: ignore[attr-defined]
    # a signed byte counts as deep: it does not fit into a picture of 0..255
    signed = picture.format == "TIFF" and 2 in picture.tag_v2.get(339, ())  # type: ignore[attr-defined]
    return signed or picture.mode.startswith("I") or any("16" in mode for mode in modes) or max(bits) > 8


def read_values(picture: ImageFile.ImageFile, path: Path, *, upright: bool) -> NDArray[Any]:
    """Decode a PNG, JPEG, WebP, BMP, GIF or PPM as (H, W, C), uint8 or uint16."""
    if isinstance(picture.tile[0].args if picture.tile else None, str) and picture.tile[0].args in _HALVES:
        values = _read_deep_colours(picture, path)
    else:
        load(picture, path)
        mode = _MODES.get(picture.mode, picture.mode)
        if mode not in ("L", "LA", *_AS_THEY_ARE):
            raise Refused(f"image of mode {picture.mode}: save it with 8 or 16 bits per channel")
        values = np.asarray(picture if mode == picture.mode else picture.convert(mode))
    values = values.reshape(*values.shape[:2], -1)
    return turn_upright(values, orientation(picture)) if upright else values


# Pillow keeps only the high byte of each value; with the opposite byte order it keeps the low byte
_HALVES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}


def _read_deep_colours(picture: ImageFile.ImageFile, path: Path) -> NDArray[np.uint16]:
    """Decode a PNG with colours of 16 bits, (H, W, C) uint16: its high bytes, then its low bytes."""
    check_file(path, PICTURE_LIMIT)
    with Image.open(path, formats=("PNG",)) as second:
        second.tile = [tile._replace(args=_HALVES[str(tile.args)]) for tile in second.tile]
        load(picture, path)
        load(second, path)
        low = np.asarray(second)
    values: NDArray[np.uint16] = (np.asarray(picture).astype(np.uint16) << 8 | low).astype(np.uint16)
    return values


def read_tiff(path: Path, bands: int, *, upright: bool) -> NDArray[Any]:
    """Decode the first picture of a TIFF as (H, W, C); pages of one band each are taken together if C is their number.

    Raises:
        Refused: If the file cannot be decoded, or its picture is too large.
    """
    import tifffile

    try:
        check_file(path, PICTURE_LIMIT)
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            if int(page.photometric) == _MIN_IS_WHITE:
                raise Refused("image whose lowest value is white, not black: save it the other way round")
            together = bands > 1 and page.ndim == 2 and len(file.pages) == bands
            if not together and len(file.pages) > 1 and file.pages[1].shape == page.shape:
                raise Refused(several_pages(len(file.pages), one_band=page.ndim == 2))
            found = file.series[0] if together else page
            shape, axes = found.shape, found.axes
            if int(np.prod([size for size, axis in zip(shape, axes, strict=True) if axis in "YX"])) > MAX_PIXELS:
                raise Refused(f"image of {shape} values, more than {MAX_PIXELS} pixels: cut it into parts")
            if int(np.prod(shape)) > MAX_PIXELS * max(bands, _MOST_BANDS):
                raise Refused(f"image of {shape} values, which has more bands than {max(bands, _MOST_BANDS)}")
            values = np.asarray(found.asarray(maxworkers=1))
            tag = page.tags.get(274)
    except (*UNREADABLE, tifffile.TiffFileError, RuntimeError, ImportError, MemoryError) as error:
        if "imagecodecs" in str(error):
            raise Refused(
                "compressed in a way that needs the package imagecodecs: pip install 'selfreg[tiff]'"
            ) from error
        reason = one_line(str(error).replace(str(path), ""))
        raise Refused(f"unreadable or truncated image ({reason}): replace the file") from error
    order = [axes.index("Y"), axes.index("X"), *(place for place, axis in enumerate(axes) if axis not in "YX")]
    values = values.transpose(order).reshape(values.shape[order[0]], values.shape[order[1]], -1)
    return turn_upright(values, int(tag.value)) if upright and tag is not None else values


def several_pages(pages: int, *, one_band: bool) -> str:
    """What is wrong with a TIFF of several pictures of one size, of which only the first would be read."""
    if one_band:
        return f"image with {pages} pages of one band: set data.bands: {pages}, or save one page alone"
    return f"image with {pages} pages: save one page alone"


def has_alpha(path: Path) -> bool:
    """Whether the last band of a picture with one band more than its colours is transparency; a TIFF says so."""
    if not is_tiff(path):
        return True
    import tifffile

    check_file(path, PICTURE_LIMIT)
    with tifffile.TiffFile(path) as file:
        kinds = tuple(getattr(file.pages.first, "extrasamples", ()))
    return bool(kinds) and int(kinds[-1]) in (1, 2)


def tiff_orientation(path: Path) -> int:
    """EXIF orientation of the first picture of a TIFF, 1 to 8."""
    import tifffile

    check_file(path, PICTURE_LIMIT)
    with tifffile.TiffFile(path) as file:
        tag = file.pages.first.tags.get(274)
        return 1 if tag is None else int(tag.value)


def turn_upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror (H, W, C) as an EXIF orientation of 2 to 8 says."""
    if orientation in (5, 6, 7, 8):
        values = values.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)
