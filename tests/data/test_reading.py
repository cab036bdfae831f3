import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fixtures.folder import patches, photograph
from selfreg.data.labels import Labels
from selfreg.data.masks import read_indices, read_mask
from selfreg.data.reading import read_image, read_pair


def write_grey_png(path: Path, values: NDArray[np.uint8], bits: int) -> None:
    """An independent encoder of grey PNGs of 1, 2, 4 or 8 bits: eight bits are no choice of Pillow's."""
    height, width = values.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b""
    for row in values:
        digits = "".join(f"{value:0{bits}b}" for value in row)
        digits += "0" * (-len(digits) % 8)
        rows += b"\0" + bytes(int(digits[i : i + 8], 2) for i in range(0, len(digits), 8))
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_masks_of_any_depth_keep_their_indices(tmp_path: Path, bits: int) -> None:
    values = patches(13, 11, list(range(min(2**bits, 16))))
    write_grey_png(tmp_path / "m.png", values, bits)
    np.testing.assert_array_equal(read_indices(tmp_path / "m.png"), values)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_masks_keep_their_indices_whatever_the_colours(tmp_path: Path, bits: int) -> None:
    values = patches(13, 11, list(range(min(2**bits, 16))))
    picture = Image.fromarray(values)
    picture.putpalette([255 - i for i in range(256) for _ in range(3)])
    picture.save(tmp_path / "m.png", bits=bits)
    np.testing.assert_array_equal(read_indices(tmp_path / "m.png"), values)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_every_usual_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(photograph(9, 7)).convert(mode)
    path = tmp_path / ("i.jpg" if mode == "CMYK" else "i.png")
    picture.save(path)
    np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path).convert("RGB")))


def test_sixteen_bit_images_and_masks_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 300, dtype=np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="8 bits per channel"):
        read_image(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="8-bit grey or palette"):
        read_indices(tmp_path / "deep.png")


def test_colour_masks_are_refused_with_the_mend(tmp_path: Path) -> None:
    Image.fromarray(photograph(4, 4)).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match="holds colours: save class indices"):
        read_indices(tmp_path / "m.png")


def test_void_becomes_255_and_a_value_out_of_range_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1, 11]], dtype=np.uint8)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", Labels(("a", "b"), 11)).tolist() == [[0, 1, 255]]
    with pytest.raises(ValueError, match=r"m.png: mask holds 11; allowed: 0..1, 255 \(void 255\)"):
        read_mask(tmp_path / "m.png", Labels(("a", "b"), 255))
    Image.fromarray(np.array([[0, 1, 255]], dtype=np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match='if 255 marks pixels without a label, add "void": 255'):
        read_mask(tmp_path / "m.png", Labels(("a", "b")))


@pytest.mark.parametrize("void", [None, 3, 255])
def test_every_value_of_a_mask_is_checked(tmp_path: Path, void: int | None) -> None:
    for value in range(256):
        Image.fromarray(np.array([[0, 1, 2, value]], dtype=np.uint8)).save(tmp_path / "m.png")
        if value < 3 or value == void:
            expected = [[0, 1, 2, value if value < 3 else 255]]
            assert read_mask(tmp_path / "m.png", Labels(("a", "b", "c"), void)).tolist() == expected
        else:
            with pytest.raises(ValueError, match=f"mask holds {value}; allowed"):
                read_mask(tmp_path / "m.png", Labels(("a", "b", "c"), void))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.6])
def test_truncated_files_are_refused_by_name(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"x{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ValueError, match="unreadable or truncated image") as error:
        read_image(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_text_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such image"):
        read_image(tmp_path / "none.jpg")
    (tmp_path / "text.jpg").write_text("hello", encoding="utf-8")
    with pytest.raises(ValueError, match="unreadable"):
        read_image(tmp_path / "text.jpg")


def save_turned(path: Path, pixels: NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: viewers turn it clockwise
    Image.fromarray(pixels).save(path, exif=exif)


def test_a_turned_photograph_is_read_as_viewers_show_it(tmp_path: Path) -> None:
    pixels = photograph(8, 12)
    save_turned(tmp_path / "i.png", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "i.png"), np.rot90(pixels, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_all_orientations_are_turned_as_pillow_turns_them(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"i{suffix}"
    Image.fromarray(photograph(8, 12)).save(path, exif=exif)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(read_image(path), np.asarray(ImageOps.exif_transpose(picture)))
        np.testing.assert_array_equal(read_image(path, upright=False), np.asarray(picture))


def test_colours_of_sixteen_bits_are_brought_to_eight(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + struct.pack(">6H", 0, 256, 65535, 4096, 40000, 255) for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )
    (tmp_path / "i.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert read_image(tmp_path / "i.png").tolist() == [[[0, 1, 255], [16, 156, 0]]] * 2


@pytest.mark.parametrize("upright", [True, False])
def test_a_mask_drawn_on_either_side_of_the_turn_fits(tmp_path: Path, upright: bool) -> None:
    pixels = photograph(8, 12)
    save_turned(tmp_path / "i.png", pixels)
    mask = np.zeros((12, 8) if upright else (8, 12), dtype=np.uint8)
    Image.fromarray(mask).save(tmp_path / "m.png")
    pair = read_pair(tmp_path / "i.png", tmp_path / "m.png", Labels(("a",)))
    np.testing.assert_array_equal(pair.image, np.rot90(pixels, -1) if upright else pixels)


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path: Path) -> None:
    Image.fromarray(photograph(8, 12)).save(tmp_path / "i.png")
    Image.fromarray(np.zeros((6, 5), dtype=np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match=r"m.png: mask is 5x6, its image i.png 12x8"):
        read_pair(tmp_path / "i.png", tmp_path / "m.png", Labels(("a",)))
