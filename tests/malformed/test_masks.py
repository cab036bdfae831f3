"""Masks, and masks beside their pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from malformed.pieces import (
    CLASSES,
    COLOURS,
    Write,
    chunk,
    content,
    cut,
    dangling,
    flipped,
    folder,
    grey_rows,
    loop,
    png,
    refusal,
    saved,
    text,
    turned,
)
from selfreg.data.labels import Labels
from selfreg.data.masks import ColourMaskError, read_mask
from selfreg.data.pictures import MAX_PIXELS
from selfreg.data.reading import read_pair

LABELS = Labels(("a", "b", "c"), 255)
GREY = Image.fromarray(CLASSES)
MASK = saved(GREY, "PNG")
STORED = saved(GREY, "PNG", compress_level=0)
WITH_VOID = np.where(CLASSES == 1, 255, CLASSES).astype(np.uint8)


def palette_mask(colours: list[int], **options: Any) -> bytes:
    picture = Image.fromarray(CLASSES)
    picture.putpalette(colours)
    return saved(picture, "PNG", **options)


RIGHT: dict[str, tuple[bytes, NDArray[np.uint8]]] = {
    "grey": (MASK, CLASSES),
    "void": (saved(WITH_VOID, "PNG"), WITH_VOID),
    "void throughout": (saved(np.full((4, 4), 255, np.uint8), "PNG"), np.full((4, 4), 255, np.uint8)),
    "one class": (saved(np.zeros((4, 4), np.uint8), "PNG"), np.zeros((4, 4), np.uint8)),
    "one pixel": (saved(np.array([[2]], np.uint8), "PNG"), np.array([[2]], np.uint8)),
    "one row": (saved(CLASSES[:1], "PNG"), CLASSES[:1]),
    "one column": (saved(CLASSES[:, :1].copy(), "PNG"), CLASSES[:, :1]),
    "black and white": (saved(GREY.point([0, 1, 1] + [1] * 253, "1"), "PNG"), (CLASSES > 0).astype(np.uint8)),
    "palette without order": (palette_mask([9, 9, 9, 200, 0, 0, 0, 0, 0]), CLASSES),
    "palette of one colour throughout": (palette_mask([7] * 768), CLASSES),
    "palette of one colour": (
        png(32, 24, grey_rows(CLASSES), colour=3, before=chunk(b"PLTE", b"abc")),
        CLASSES,
    ),
    "palette with transparency": (palette_mask([0] * 768, transparency=bytes([0, 128, 255])), CLASSES),
    "palette of two bits": (palette_mask([0] * 12, bits=2), CLASSES),
    "no palette though it says so": (png(32, 24, grey_rows(CLASSES), colour=3), CLASSES),
    "grey with a transparent value": (saved(GREY, "PNG", transparency=0), CLASSES),
    "unused chunks": (png(32, 24, grey_rows(CLASSES), before=chunk(b"gAMA", b"\0\0\0\1")), CLASSES),
    "bytes after its end": (MASK + b"more", CLASSES),
    "upright by EXIF": (saved(GREY, "PNG", exif=turned(1)), CLASSES),
    "uncompressed": (STORED, CLASSES),
}


@pytest.mark.parametrize("name", RIGHT)
def test_an_odd_mask_keeps_its_indices(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.png"
    data, expected = RIGHT[name]
    path.write_bytes(data)
    mask = read_mask(path, LABELS)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, expected)


MODES = "save class indices as an 8-bit grey or palette PNG"

REFUSED: dict[str, tuple[Write, str]] = {
    **{f"cut to {share:.0%}": (content(cut(MASK, share)), "unreadable") for share in (0, 0.05, 0.2, 0.4, 0.6, 0.8)},
    **{f"uncompressed, cut to {share:.0%}": (content(cut(STORED, share)), "unreadable") for share in (0.3, 0.7, 0.95)},
    **{f"mode {mode}": (content(saved(GREY.convert(mode), "PNG")), MODES) for mode in ("RGB", "RGBA", "LA")},
    "mode I;16": (content(saved(CLASSES.astype(np.uint16), "PNG")), MODES),
    "colours of 16 bits": (content(png(1, 1, bytes(7), depth=16, colour=2)), MODES),
    **{
        f"{format}, which keeps no indices": (content(saved(GREY, format)), f"mask is a {format}")
        for format in ("JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
    },
    "animated PNG": (content(saved(GREY, "PNG", save_all=True, append_images=[GREY.rotate(180)])), "animated mask"),
    **{
        f"turned by EXIF {value}": (content(saved(GREY, "PNG", exif=turned(value))), "EXIF orientation")
        for value in range(2, 9)
    },
    "value without meaning": (content(saved(np.array([[0, 3]], np.uint8), "PNG")), "mask holds 3; allowed: 0..2, 255"),
    "value 254": (content(saved(np.array([[0, 254]], np.uint8), "PNG")), "mask holds 254"),
    "classes as shades of grey": (content(saved(CLASSES * np.uint8(100), "PNG")), "mask holds 100, 200"),
    "all 256 values": (content(saved(np.arange(256, dtype=np.uint8).reshape(16, 16), "PNG")), "mask holds 3, 4, 5"),
    "a wrong bit in its pixels": (content(flipped(STORED, 100)), "unreadable"),
    "a wrong checksum of its header": (content(flipped(MASK, 30)), "unreadable"),
    "too few rows": (content(png(32, 24, grey_rows(CLASSES[:20]))), "rows are missing"),
    "no row at all": (content(png(32, 24, b"")), "unreadable or truncated"),
    "half a row too few": (content(png(32, 24, grey_rows(CLASSES)[:-16])), "unreadable or truncated"),
    "a size of 100,000 x 100,000": (content(png(100_000, 100_000, b"\0")), f"more than {MAX_PIXELS}"),
    "no width": (content(png(0, 3, b"\0")), "unreadable"),
    "text": (text("0 1 2"), "unreadable"),
    "folder": (folder, "no such mask"),
    "dangling link": (dangling, "no such mask"),
    "link to itself": (loop, "no such mask"),
}

COLOURED = {"mode RGB", "mode RGBA", "mode LA", "colours of 16 bits"}
"""The masks that are refused because they hold colours."""


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_mask_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.png"
    write, message = REFUSED[name]
    write(path)
    kind = ColourMaskError if name in COLOURED else ValueError
    assert message in refusal(lambda: read_mask(path, LABELS), path, kind)


@pytest.mark.parametrize("stored", [False, True], ids=["drawn upright", "drawn on the stored pixels"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_meets_its_turned_picture(tmp_path: Path, orientation: int, stored: bool) -> None:
    image, mask = tmp_path / "i.jpg", tmp_path / "m.png"
    image.write_bytes(saved(COLOURS, "PNG", exif=turned(orientation)))
    sideways = orientation > 4
    shape = (24, 32) if stored or not sideways else (32, 24)
    drawn = np.resize(CLASSES, shape)
    mask.write_bytes(saved(drawn, "PNG"))
    pair = read_pair(image, mask, LABELS)
    np.testing.assert_array_equal(pair.mask, drawn)
    # rows and columns of the stored picture, as EXIF counts them
    upright = {
        1: COLOURS,
        2: COLOURS[:, ::-1],
        3: COLOURS[::-1, ::-1],
        4: COLOURS[::-1],
        5: COLOURS.transpose(1, 0, 2),
        6: COLOURS[::-1].transpose(1, 0, 2),
        7: COLOURS[::-1, ::-1].transpose(1, 0, 2),
        8: COLOURS[:, ::-1].transpose(1, 0, 2),
    }[orientation]
    # a mask of the stored size can only be told from an upright one where the picture lies on its side
    np.testing.assert_array_equal(pair.image, COLOURS if stored and sideways else upright)


@pytest.mark.parametrize("size", [(24, 31), (23, 32), (1, 1), (48, 64), (32, 24)])
def test_a_mask_of_another_size_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    image, mask = tmp_path / "i.png", tmp_path / "m.png"
    image.write_bytes(saved(COLOURS, "PNG"))
    mask.write_bytes(saved(np.zeros(size, np.uint8), "PNG"))
    message = refusal(lambda: read_pair(image, mask, LABELS), mask)
    assert f"mask is {size[1]}x{size[0]}, its image i.png 32x24" in message
