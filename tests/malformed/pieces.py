"""What malformed inputs are made of, and how their refusal is held to its form."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Write = Callable[[Path], object]
"""Makes an input at a path."""

COLOURS: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
"""A picture of noise, (24, 32, 3)."""
CLASSES: NDArray[np.uint8] = np.random.default_rng(1).integers(0, 3, (24, 32)).astype(np.uint8)
"""A mask of classes 0..2, (24, 32)."""


def refusal(read: Callable[[], object], path: Path, kind: type[ValueError] = ValueError) -> str:
    """The message of the error of this very kind that `read` must end in: in one line, naming the file."""
    with pytest.raises(ValueError) as caught:
        read()
    message = str(caught.value)
    assert type(caught.value) is kind
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 600 + len(str(path))
    return message


def saved(values: NDArray[Any] | Image.Image, format: str, **options: Any) -> bytes:
    """A picture as Pillow encodes it."""
    picture = values if isinstance(values, Image.Image) else Image.fromarray(values)
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


def content(data: bytes) -> Write:
    """Writes these bytes."""
    return lambda path: path.write_bytes(data)


def text(data: str) -> Write:
    """Writes this text in UTF-8."""
    return lambda path: path.write_text(data, encoding="utf-8")


def folder(path: Path) -> None:
    """Makes a folder in the place of a file."""
    path.mkdir()


def dangling(path: Path) -> None:
    """Makes a link to nothing."""
    path.symlink_to(path.with_name("nothing"))


def loop(path: Path) -> None:
    """Makes a link to itself."""
    path.symlink_to(path)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    rows: bytes,
    *,
    depth: int = 8,
    colour: int = 0,
    interlace: int = 0,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A PNG by hand: `rows` with their filter bytes, more chunks before and after them."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    parts = (chunk(b"IHDR", header), before, chunk(b"IDAT", zlib.compress(rows)), after, chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def grey_rows(values: NDArray[np.uint8]) -> bytes:
    """The rows of an 8-bit grey PNG, unfiltered."""
    return b"".join(b"\0" + row.tobytes() for row in values)


def flipped(data: bytes, place: int, bit: int = 1) -> bytes:
    """The bytes with one bit turned."""
    changed = bytearray(data)
    changed[place] ^= bit
    return bytes(changed)


def cut(data: bytes, share: float) -> bytes:
    """The first part of the bytes."""
    return data[: int(len(data) * share)]


def turned(orientation: Any) -> Image.Exif:
    """EXIF data with an orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif
