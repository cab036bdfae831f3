"""Pictures."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from malformed.pieces import (
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
from selfreg.data.pictures import MAX_PIXELS
from selfreg.data.reading import read_image

RGB = Image.fromarray(COLOURS)
GREY = RGB.convert("L")
PNG, JPEG = saved(RGB, "PNG"), saved(RGB, "JPEG", quality=90)
BMP, TIFF, GIF = saved(RGB, "BMP"), saved(RGB, "TIFF"), saved(RGB, "GIF")
WEBP = saved(RGB, "WEBP", lossless=True)
ANIMATION = {"save_all": True, "append_images": [RGB.rotate(90), RGB.rotate(180)]}
MASK_OF_ALPHA = Image.fromarray(np.arange(24 * 32, dtype=np.uint8).reshape(24, 32))


def pillow(data: bytes, *, upright: bool = False) -> NDArray[np.uint8]:
    """What Pillow alone makes of a sound picture."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray((ImageOps.exif_transpose(picture) if upright else picture).convert("RGB"))


def with_alpha(mode: str) -> Image.Image:
    picture = (RGB if mode == "RGBA" else GREY).convert(mode)
    picture.putalpha(MASK_OF_ALPHA)
    return picture


def jpeg_header(width: int, height: int) -> bytes:
    """A JPEG that says that it has another size."""
    place = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:place] + struct.pack(">HH", height, width) + JPEG[place + 4 :]


def bmp_header(width: int, height: int) -> bytes:
    return BMP[:18] + struct.pack("<ii", width, height) + BMP[26:]


def gif_header(width: int, height: int) -> bytes:
    return GIF[:6] + struct.pack("<HH", width, height) + GIF[10:]


def exif_jpeg(exif: bytes) -> bytes:
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:]


PALETTE = RGB.quantize(17)
ONE_BY_ONE = saved(RGB.crop((0, 0, 1, 1)), "PNG")
TEXT_BOMB = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 20_000_000, 9))

RIGHT: dict[str, bytes] = {
    **{f"PNG of mode {mode}": saved(RGB.convert(mode), "PNG") for mode in ("1", "L", "P", "RGB")},
    **{f"PNG of mode {mode} with alpha": saved(with_alpha(mode), "PNG") for mode in ("LA", "RGBA")},
    **{f"palette PNG of {bits} bits": saved(RGB.quantize(2**bits), "PNG", bits=bits) for bits in (1, 2, 4, 8)},
    "palette PNG with one transparent colour": saved(PALETTE, "PNG", transparency=3),
    "palette PNG with many transparencies": saved(PALETTE, "PNG", transparency=bytes(range(0, 170, 10))),
    "grey PNG with a transparent value": saved(GREY, "PNG", transparency=7),
    "RGB PNG with a transparent colour": saved(RGB, "PNG", transparency=(1, 2, 3)),
    "PNG of one pixel": ONE_BY_ONE,
    "PNG of one row": saved(RGB.crop((0, 0, 32, 1)), "PNG"),
    "PNG of one column": saved(RGB.crop((0, 0, 1, 24)), "PNG"),
    "interlaced PNG": png(1, 1, b"\0\x07", interlace=1),
    "PNG with bytes after its end": PNG + b"trailing bytes",
    "PNG named .jpg": PNG,
    "PNG with an unknown chunk": png(32, 24, grey_rows(np.asarray(GREY)), before=chunk(b"abCd", b"x" * 99)),
    "PNG with a colour profile that is none": png(
        32, 24, grey_rows(np.asarray(GREY)), before=chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile"))
    ),
    "PNG with a wrong checksum of its pixels, which have another": flipped(PNG, len(PNG) - 14),
    "black PNG": png(32, 24, bytes(33 * 24)),
    "black PNG of one bit": png(33, 24, bytes(6 * 24), depth=1),
    "black interlaced PNG of colours": png(2, 2, bytes(4 + 4 + 7), colour=2, interlace=1),
    "PNG with gamma": png(32, 24, grey_rows(np.asarray(GREY)), before=chunk(b"gAMA", struct.pack(">I", 99999))),
    "PNG with broken EXIF": saved(RGB, "PNG", exif=b"Exif\0\0MM\0*garbage"),
    "JPEG": JPEG,
    "grey JPEG": saved(GREY, "JPEG"),
    "CMYK JPEG": saved(RGB.convert("CMYK"), "JPEG", quality=95),
    "progressive JPEG": saved(RGB, "JPEG", progressive=True),
    "JPEG of full colour resolution": saved(RGB, "JPEG", subsampling=0),
    "JPEG with restarts": saved(RGB, "JPEG", restart_marker_blocks=2),
    "JPEG of one pixel": saved(RGB.crop((0, 0, 1, 1)), "JPEG"),
    "JPEG with bytes after its end": JPEG + b"trailing bytes",
    "JPEG with a comment": saved(RGB, "JPEG", comment="x" * 5000),
    "JPEG of two pictures": saved(RGB, "MPO", save_all=True, append_images=[RGB.rotate(90)]),
    "JPEG with EXIF that is none": exif_jpeg(b"Exif\0\0garbage"),
    "JPEG with empty EXIF": exif_jpeg(b"Exif\0\0"),
    "JPEG with EXIF that points out of itself": exif_jpeg(b"Exif\0\0MM\0*\xff\xff\xff\xf0"),
    "BMP": BMP,
    "grey BMP": saved(GREY, "BMP"),
    "TIFF": TIFF,
    "CMYK TIFF": saved(RGB.convert("CMYK"), "TIFF"),
    "TIFF with alpha": saved(with_alpha("RGBA"), "TIFF"),
    "compressed TIFF": saved(RGB, "TIFF", compression="tiff_lzw"),
    "WebP": WEBP,
    "WebP with alpha": saved(with_alpha("RGBA"), "WEBP", lossless=True),
    "GIF of one frame": GIF,
    "PPM": saved(RGB, "PPM"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_an_odd_picture_is_read_as_pillow_reads_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(RIGHT[name])
    pixels = read_image(path)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, pillow(RIGHT[name]))


TURNED: dict[str, bytes] = {
    f"{format} of orientation {value}": saved(RGB, format, exif=turned(value))
    for format in ("JPEG", "PNG", "TIFF", "WEBP")
    for value in (*range(1, 9), *((0, 9, 255) if format in ("JPEG", "PNG") else ()))
}


@pytest.mark.parametrize("name", TURNED)
def test_a_turned_picture_is_read_upright(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(TURNED[name])
    np.testing.assert_array_equal(read_image(path), pillow(TURNED[name], upright=True))
    np.testing.assert_array_equal(read_image(path, upright=False), pillow(TURNED[name]))


def test_sixteen_bits_of_colour_become_eight(tmp_path: Path) -> None:
    deep = (COLOURS.astype(np.uint16) * 256 + 77).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    (tmp_path / "x.png").write_bytes(png(32, 24, rows, depth=16, colour=2))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), COLOURS)


def fifo(path: Path) -> None:
    os.mkfifo(path)


REFUSED: dict[str, tuple[Write, str]] = {
    **{
        f"{name} cut to {share:.0%}": (content(cut(data, share)), "unreadable or truncated image")
        for name, data in {"PNG": PNG, "JPEG": JPEG, "BMP": BMP, "TIFF": TIFF, "WebP": WEBP, "GIF": GIF}.items()
        for share in (0.01, 0.1, 0.5, 0.9)
    },
    "grey PNG of 16 bits": (content(saved(np.full((4, 4), 300, np.uint16), "PNG")), "8 bits per channel"),
    "TIFF of 16 bits": (content(saved(np.full((4, 4), 300, np.uint16), "TIFF")), "8 bits per channel"),
    "TIFF of 32 bits": (content(saved(np.full((4, 4), 300, np.int32), "TIFF")), "8 bits per channel"),
    "TIFF of fractions": (content(saved(np.full((4, 4), 0.5, np.float32), "TIFF")), "8 bits per channel"),
    "TIFF of NaN": (content(saved(np.full((4, 4), np.nan, np.float32), "TIFF")), "8 bits per channel"),
    "LAB TIFF": (content(saved(Image.new("LAB", (4, 4)), "TIFF")), "save it as RGB"),
    "animated GIF": (content(saved(RGB, "GIF", **ANIMATION)), "animated image"),
    "animated PNG": (content(saved(RGB, "PNG", **ANIMATION)), "animated image"),
    "animated WebP": (content(saved(RGB, "WEBP", **ANIMATION)), "animated image"),
    "PNG that says 100,000 x 100,000": (content(png(100_000, 100_000, b"\0")), f"more than {MAX_PIXELS}"),
    "PNG that says 2**31 - 1 squared": (content(png(2**31 - 1, 2**31 - 1, b"\0")), "image"),
    "PNG one pixel over the limit": (content(png(MAX_PIXELS + 1, 1, b"\0", depth=1)), f"more than {MAX_PIXELS}"),
    "PNG of no width": (content(png(0, 4, b"\0")), "unreadable"),
    "PNG of no height": (content(png(4, 0, b"\0")), "unreadable"),
    "PNG of 3 bits": (content(png(4, 4, b"\0" * 99, depth=3)), "unreadable"),
    "PNG of colour type 5": (content(png(4, 4, b"\0" * 99, colour=5)), "unreadable"),
    "PNG with a metadata bomb": (content(png(1, 1, b"\0\0", before=TEXT_BOMB)), "unreadable"),
    "JPEG that says 65,500 x 65,500": (content(jpeg_header(65_500, 65_500)), f"more than {MAX_PIXELS}"),
    "JPEG of no width": (content(jpeg_header(0, 24)), "unreadable"),
    "BMP that says 2**30 x 2**30": (content(bmp_header(2**30, 2**30)), f"more than {MAX_PIXELS}"),
    "GIF that says 65,535 x 65,535": (content(gif_header(65_535, 65_535)), f"more than {MAX_PIXELS}"),
    "PNG with a wrong checksum of its header": (content(flipped(PNG, 30)), "unreadable"),
    "PNG with a wrong bit in its pixels": (content(flipped(saved(RGB, "PNG", compress_level=0), 700)), "unreadable"),
    "PNG without pixels": (content(PNG[:33] + chunk(b"IEND", b"")), "unreadable"),
    "PNG with too few rows": (content(png(32, 24, grey_rows(np.asarray(GREY)[:20]))), "rows are missing"),
    "PNG with a row filter of 9": (content(png(2, 1, b"\x09\0\0")), "unreadable"),
    "interlaced PNG with too few passes": (content(png(9, 9, b"\0\7" * 2, interlace=1)), "unreadable or truncated"),
    "palette PNG without palette": (content(png(4, 4, b"\0" * 20, colour=3)), "without the palette"),
    "JPEG without tables": (content(JPEG[:2] + JPEG[JPEG.index(b"\xff\xc0") :]), "unreadable"),
    "empty file": (content(b""), "unreadable"),
    "one byte": (content(b"\x89"), "unreadable"),
    "signature of a PNG alone": (content(PNG[:8]), "unreadable"),
    "zeros": (content(b"\0" * 4096), "unreadable"),
    "noise": (content(np.random.default_rng(2).bytes(4096)), "unreadable"),
    "text": (text("not a picture"), "unreadable"),
    "SVG": (text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'), "unreadable"),
    "EPS, which needs another program": (
        text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n"),
        "unreadable",
    ),
    "ZIP": (content(b"PK\x03\x04" + b"\0" * 200), "unreadable"),
    "PDF": (text("%PDF-1.7\n"), "unreadable"),
    "folder in its place": (folder, "no such image"),
    "dangling link": (dangling, "no such image"),
    "link to itself": (loop, "no such image"),
    "link to an endless device": (lambda path: path.symlink_to("/dev/zero"), "no such image"),
    "pipe that nobody writes to": (fifo, "no such image"),
    "nothing": (str, "no such image"),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_picture_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.png"
    write, message = REFUSED[name]
    write(path)
    assert message in refusal(lambda: read_image(path), path)


def test_a_picture_that_may_not_be_read_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(PNG)
    path.chmod(0)
    if os.access(path, os.R_OK):  # root reads everything
        np.testing.assert_array_equal(read_image(path), COLOURS)
    else:
        assert "unreadable" in refusal(lambda: read_image(path), path)


def test_a_name_too_long_for_the_disk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300 + ".png")
    assert "image" in refusal(lambda: read_image(path), path)
