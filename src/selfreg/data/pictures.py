"""Opening pictures with Pillow, strictly: every problem with a file becomes an error message of one line."""

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageFile

from selfreg.data.png import is_whole
from selfreg.input_files import PICTURE_LIMIT, check_file, read_bytes
from selfreg.messages import one_line

MAX_PIXELS = 2**29
"""The largest picture that is opened, 536,870,912 pixels (some 23,000 x 23,000): decoded, it takes 2 GiB."""

_ORIENTATION = 0x0112
_MOST_SCANS = 100
# Only these decoders of Pillow are used: every decoder can be attacked by malicious files, and EPS starts a program.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, IndexError, struct.error, OverflowError)
_pillow_limit = threading.Lock()


class Refused(Exception):
    """The reason why a picture is rejected, and the type of the error to raise."""

    def __init__(self, message: str, kind: type[ValueError] = ValueError) -> None:
        super().__init__(message)
        self.kind = kind


@contextmanager
def opened(path: Path, what: str) -> Iterator[ImageFile.ImageFile]:
    """Open a picture and check its header; errors until the end of the block become a ValueError.

    Args:
        path: The file.
        what: "image" or "mask", for messages.
    """
    with refusing(path, what), _open(path) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise Refused(f"{what} of {width} x {height} pixels, more than {MAX_PIXELS}: cut it into parts")
        if picture.format in ("GIF", "PNG", "WEBP") and getattr(picture, "is_animated", False):
            raise Refused(f"animated {what}: save the intended frame alone")
        # each scan of a JPEG is decoded over the whole picture; encoders write about ten
        if picture.format in ("JPEG", "MPO") and read_bytes(path, PICTURE_LIMIT).count(b"\xff\xda") > _MOST_SCANS:
            raise Refused(f"{what} of more than {_MOST_SCANS} scans: save it again")
        yield picture


@contextmanager
def refusing(path: Path, what: str) -> Iterator[None]:
    """Turn any error while a file is read into a ValueError of one line that names the file."""
    try:
        if not path.is_file():
            raise Refused(f"no such {what}: restore it, or remove it from the list")
        yield
    except Refused as error:
        raise error.kind(f"{path}: {error}") from None
    except UNREADABLE as error:
        reason = one_line(str(error).replace(f" {str(path)!r}", ""))
        raise ValueError(f"{path}: unreadable or truncated {what} ({reason}): replace the file") from error


def _open(path: Path) -> ImageFile.ImageFile:
    check_file(path, PICTURE_LIMIT)
    with _without_pillow_limit():
        return Image.open(path, formats=_FORMATS)


@contextmanager
def _without_pillow_limit() -> Iterator[None]:
    # Pillow's own limit is lower and can only be set for the whole process
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def load(picture: Image.Image, path: Path) -> None:
    """Decode the pixels; raise Refused for a PNG whose last rows are missing, which Pillow sets to 0."""
    interlaced = bool(picture.info.get("interlace"))
    if picture.format == "TIFF":  # the only format for which Pillow checks its limit again
        with _without_pillow_limit():
            picture.load()
        return
    picture.load()
    if picture.format != "PNG":
        return
    width, height = picture.size
    last = picture.crop((0, height - 1, width, height))
    # inflating the pixels again takes time, so do it only if something may be missing
    if (interlaced or not last.getbbox(alpha_only=False)) and not is_whole(path):
        raise Refused("unreadable or truncated picture (rows are missing): replace the file")


def orientation(picture: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 (upright) if the picture has none or an invalid one."""
    try:
        value = picture.getexif().get(_ORIENTATION, 1)
    except UNREADABLE:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
