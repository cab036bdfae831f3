"""Reading an image, and its mask next to it; invalid files are rejected with a message that names them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from selfreg.data.bands import has_alpha, is_deep, is_tiff, read_tiff, read_values, several_pages, tiff_orientation
from selfreg.data.labels import Labels
from selfreg.data.masks import read_mask
from selfreg.data.pictures import Refused, load, opened, orientation, refusing
from selfreg.data.source import Pair, Source
from selfreg.input_files import PICTURE_LIMIT, check_file

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
# photometric interpretation of a TIFF to the number of its colours, where that is not 1: RGB, CMYK, YCbCr, CIE L*a*b*
_SAMPLES = {2: 3, 5: 4, 6: 3, 8: 3}
# pixels of a picture that Pillow hands out at once, and of the strips of a larger one
_WHOLE, _STRIP = 2**24, 2**20
# a larger share of values outside the range means that the range is wrong
_MOST_OUTSIDE = 0.9


@dataclass(frozen=True)
class ImageFormat:
    """What the image files of a data set hold, and how their values are scaled.

    Attributes:
        bands: Number of bands C. With 3, grey and palette pictures become RGB.
        value_range: Values on disk that become 0 and 1; needed for more than 8 bits. Values outside are clipped.
        shown: Indices of the bands that pages show as red, green and blue; the first three (or the only one) if None.

    Raises:
        ValueError: If a number is out of range.
    """

    bands: int = 3
    value_range: tuple[float, float] | None = None
    shown: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.bands < 1:
            raise ValueError(f"data.bands is {self.bands}: give a number of bands of at least 1")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"data.range is {self.value_range}: give (lowest, highest) with lowest < highest")
        if self.shown is not None and not all(0 <= band < self.bands for band in self.shown):
            raise ValueError(f"data.shown_bands is {self.shown}: give three indices of 0..{self.bands - 1}")

    def to_rgb(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """Show an image (H, W, C) uint8 or uint16 as RGB (H, W, 3) uint8."""
        if image.dtype == np.uint8 and image.shape[2] == 3 and self.shown is None:
            return image
        last = image.shape[2] - 1
        shown = image[..., list(self.shown or (0, min(1, last), min(2, last) if last != 1 else 0))]
        return shown if shown.dtype == np.uint8 else (shown >> 8).astype(np.uint8)


RGB = ImageFormat()
"""Pictures of three bands and 8 bits."""


def image_format_of(source: Source) -> ImageFormat:
    """Bands and range of the images of a source; 8-bit RGB unless it says otherwise (`image_format`)."""
    found = getattr(source, "image_format", RGB)
    return found if isinstance(found, ImageFormat) else RGB


def read_image(path: Path, image_format: ImageFormat = RGB, *, upright: bool = True) -> NDArray[Any]:
    """Read an image.

    Args:
        path: A JPEG, PNG, WebP, TIFF, BMP, GIF or PPM. Of a TIFF or a stereo JPEG with several pictures the first is
            read; pages of one band each count as bands.
        image_format: Bands and range of values. As RGB with 8 bits, grey, palette and CMYK pictures are converted and
            transparency is dropped; so are PNGs that use all 16 bits.
        upright: Turn the picture as its EXIF orientation says, as viewers and annotation tools do.

    Returns:
        (H, W, C) uint8; uint16 if the format has a range, whose ends become 0 and 65535.

    Raises:
        ValueError: If the file is missing, unreadable, truncated or animated, has more than `MAX_PIXELS` pixels,
            another number of bands, or more than 8 bits per channel without a range.
    """
    if image_format.bands == 3 and image_format.value_range is None:
        return _read_rgb(path, upright)
    with refusing(path, "image"):
        values = _with_bands(_values(path, image_format.bands, upright), image_format.bands, path)
        if image_format.value_range is not None:
            return _scale(values, *image_format.value_range)
        if values.dtype != np.uint8:
            raise Refused(_needs_range(values))
        return values


def is_turned(path: Path) -> bool:
    """Whether the EXIF orientation of a readable picture says that viewers are to turn or mirror it."""
    if is_tiff(path):
        with refusing(path, "image"):
            return tiff_orientation(path) != 1
    with opened(path, "image") as picture:
        return orientation(picture) != 1


def read_pair(
    image: Path,
    mask: Path,
    labels: Labels,
    table: NDArray[np.uint8] | None = None,
    image_format: ImageFormat = RGB,
) -> Pair:
    """Read an image and its mask and check that their sizes match.

    A picture with an EXIF orientation is rotated upright. If the mask fits only the stored pixels, it was drawn on
    those, and the picture is not rotated.

    Raises:
        ValueError: As `read_image` and `read_mask`, or if the sizes differ.
    """
    return read_image_of_mask(image, read_mask(mask, labels, table), mask, image_format)


def read_image_of_mask(image: Path, mask: NDArray[np.uint8], origin: Path, image_format: ImageFormat = RGB) -> Pair:
    """Read the image that belongs to a mask in memory; see `read_pair`.

    Args:
        image: File of the picture.
        mask: (H, W) uint8.
        origin: File that the mask comes from, for the message.
        image_format: Bands and range of the picture.

    Raises:
        ValueError: As `read_image`, or if the sizes differ.
    """
    pixels = read_image(image, image_format)
    if pixels.shape[:2] != mask.shape:
        stored = read_image(image, image_format, upright=False)
        if stored.shape[:2] != mask.shape:
            size = f"{mask.shape[1]}x{mask.shape[0]}"
            wanted = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise ValueError(
                f"{origin}: mask is {size}, its image {image.name} {wanted} (width x height): resize one of them"
            )
        pixels = stored
    return Pair(pixels, mask)


def _read_rgb(path: Path, upright: bool) -> NDArray[np.uint8]:
    try:
        with opened(path, "image") as picture:
            if picture.format == "TIFF":
                _refuse_lost_bands(picture)
            if is_deep(picture):
                return _eight_bits(picture, path, upright)
            if picture.mode not in _MODES:
                raise Refused(f"image of mode {picture.mode}: save it as RGB with 8 bits per channel")
            # torchvision's decoder of PNG ends the whole process where a checksum is wrong; that of JPEG does not
            pixels = _decode_jpeg(path, upright) if picture.format in ("JPEG", "MPO") else None
            if pixels is not None:
                return pixels
            load(picture, path)
            if picture.mode == "P" and not picture.getpalette():
                raise Refused("image without the palette that it needs: save it as RGB")
            turned = ImageOps.exif_transpose(picture) if upright and orientation(picture) != 1 else picture
            return _pixels(turned if turned.mode == "RGB" else turned.convert("RGB"))
    except ValueError as error:
        if not (isinstance(error.__cause__, OSError) and is_tiff(path)):
            raise
        # Pillow cannot open it at all
        with refusing(path, "image"):
            values = read_tiff(path, 1, upright=False)
            bits = 8 * values.dtype.itemsize
            raise Refused(
                f"image with {values.shape[2]} bands of {bits} bits: set data.bands: {values.shape[2]}"
                + (f" and data.range: [{values.min()}, {values.max()}] or wider" if bits > 8 else "")
                + ", or save it as RGB with 8 bits per channel"
            ) from None


def _refuse_lost_bands(picture: ImageFile.ImageFile) -> None:
    """Refuse a TIFF of which RGB would be only a part: more bands than colours and alpha, or pages of one band."""
    samples = int(picture.tag_v2.get(277, 1))  # type: ignore[attr-defined]
    kinds = picture.tag_v2.get(338, ())  # type: ignore[attr-defined]
    extra = samples - _SAMPLES.get(picture.tag_v2.get(262), 1)  # type: ignore[attr-defined]
    if extra > len(kinds) or any(kind not in (1, 2) for kind in kinds):
        raise Refused(f"image with {samples} bands: set data.bands: {samples}, or save it as RGB")
    pages = getattr(picture, "n_frames", 1)
    if pages > 1:
        size = picture.size
        picture.seek(1)
        alike = picture.size == size
        picture.seek(0)
        if alike:
            raise Refused(several_pages(pages, one_band=picture.mode in ("1", "L", "I;16")))


def _eight_bits(picture: ImageFile.ImageFile, path: Path, upright: bool) -> NDArray[np.uint8]:
    """Bring colours of 16 bits to 8; refused if the highest bit is unused, because then the range is unknown."""
    if picture.format != "PNG" or picture.mode.startswith("I"):
        raise Refused(_needs_range(_values(path, 3, upright)))
    values = read_values(picture, path, upright=upright)[..., :3]
    if values.max() < 2**15:
        raise Refused(_needs_range(values))
    return (values >> 8).astype(np.uint8)


def _needs_range(values: NDArray[Any]) -> str:
    bits = 8 * values.dtype.itemsize
    low, high = values.min(), values.max()
    what = f"{bits} bits per channel, values {low} to {high}"
    return (
        f"image with {what}: give the range of the whole data set, such as data.range: [{min(0, low)}, {high}], "
        "or save it with 8 bits per channel"
    )


def _values(path: Path, bands: int, upright: bool) -> NDArray[Any]:
    if is_tiff(path):
        try:
            with opened(path, "image") as picture:
                simple = not is_deep(picture) and picture.tag_v2.get(277, 1) == len(picture.getbands())  # type: ignore[attr-defined]
                if simple and getattr(picture, "n_frames", 1) == 1:
                    return read_values(picture, path, upright=upright)
        except ValueError:
            pass  # Pillow knows few kinds of TIFF; tifffile says what is wrong
        return read_tiff(path, bands, upright=upright)
    with opened(path, "image") as picture:
        return read_values(picture, path, upright=upright)


def _with_bands(values: NDArray[Any], bands: int, path: Path) -> NDArray[Any]:
    found = values.shape[2]
    if found in (2, 4) and found != bands and has_alpha(path):
        values = np.ascontiguousarray(values[..., : found - 1])
    if bands == 3 and values.shape[2] == 1:
        return np.repeat(values, 3, axis=2)
    if values.shape[2] == bands:
        return values
    raise Refused(f"image with {found} bands, data.bands is {bands}: set data.bands: {found}, or remove the image")


def _scale(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint16]:
    """Map [low, high] to [0, 65535] and clip."""
    least, most = values.min(), values.max()
    if not (np.isfinite(least) and np.isfinite(most)):
        raise Refused("image with NaN or infinite values: fill them in")
    if least < low or most > high:
        outside = float(((values < low) | (values > high)).mean())
        if outside > _MOST_OUTSIDE:
            raise Refused(
                f"{outside:.0%} of the values are outside data.range [{low:g}, {high:g}]; they run from {least} to "
                f"{most}: set data.range to the range of the data"
            )
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        steps = np.arange(np.iinfo(values.dtype).max + 1, dtype=np.float64)
        return np.take(_scaled(steps, low, high), values)
    return _scaled(values, low, high)


def _scaled(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint16]:
    return ((values.astype(np.float64) - low) * (65535 / (high - low))).clip(0, 65535).round().astype(np.uint16)


def _decode_jpeg(path: Path, upright: bool) -> NDArray[np.uint8] | None:
    """Decode a JPEG with torchvision, a quarter faster than Pillow; None if Pillow must be used."""
    from torchvision.io import ImageReadMode, decode_jpeg  # torchvision is slow to import

    try:
        check_file(path, PICTURE_LIMIT)
        content = torch.from_numpy(np.fromfile(path, dtype=np.uint8))
        planes = decode_jpeg(content, ImageReadMode.RGB, apply_exif_orientation=upright)
    except (OSError, RuntimeError, AttributeError):  # unreadable, unusual, or torchvision lacks its decoders
        return None
    pixels: NDArray[np.uint8] = planes.permute(1, 2, 0).numpy()
    return pixels


def _pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """Hand out (H, W, 3) uint8 in strips, since Pillow holds a large picture twice while it hands it out whole."""
    width, height = picture.size
    if width * height <= _WHOLE:
        return np.asarray(picture)
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = np.asarray(picture.crop((0, top, width, bottom)))
    return pixels
