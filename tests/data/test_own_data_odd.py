"""Folders of pictures and masks as people have them: each is read right, or refused in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from fixtures.folder import photograph, write_folder
from selfreg.data import Folder, read_image
from selfreg.data.kinds import find_splits
from selfreg.data.reading import ImageFormat
from tiny import selfreg

PALETTE = np.zeros((256, 3), np.uint8)
PALETTE[:3] = [[70, 130, 180], [128, 64, 128], [0, 0, 142]]
PALETTE[255] = 255


def rewrite(root: Path, change: Callable[[NDArray[np.uint8]], NDArray[Any]]) -> Path:
    for path in (root / "masks").rglob("*.png"):
        Image.fromarray(change(np.asarray(Image.open(path)))).save(path)
    return root


def counts(root: Path, masks: Any = "masks") -> dict[int, int]:
    source = Folder(root, "train", masks)
    values, numbers = np.unique([source.read(index).mask for index in range(len(source))], return_counts=True)
    return dict(zip(values.tolist(), numbers.tolist(), strict=True))


# pictures


def save_pages(path: Path, mode: str) -> None:
    picture = Image.fromarray(photograph(24, 32)).convert(mode)
    picture.save(path, save_all=True, append_images=[picture.rotate(180)])


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_a_tiff_of_several_pages_is_never_read_by_its_first_page_alone(
    tmp_path: Path, mode: str, bands: int, scaled: bool
) -> None:
    save_pages(tmp_path / "a.tif", mode)
    with pytest.raises(ValueError, match=r"a\.tif: image with 2 pages"):
        read_image(tmp_path / "a.tif", ImageFormat(bands, (0, 255) if scaled else None))


def test_a_small_second_page_is_a_preview_and_not_refused(tmp_path: Path) -> None:
    picture = Image.fromarray(photograph(24, 32))
    picture.save(tmp_path / "a.tif", save_all=True, append_images=[picture.resize((16, 12))])
    assert (read_image(tmp_path / "a.tif") == photograph(24, 32)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("found", "wanted"), [(4, 3), (2, 1), (2, 3)])
def test_a_band_that_is_not_transparency_is_not_dropped(tmp_path: Path, dtype: Any, found: int, wanted: int) -> None:
    values = np.dstack([photograph(24, 32), photograph(24, 32, 1)])[..., :found].astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", planarconfig="contig")
    for value_range in [(0.0, 255.0), None] if dtype == np.uint8 else [(0.0, 255.0)]:
        with pytest.raises(ValueError, match=f"image with {found} bands.*: set data.bands: {found}"):
            read_image(tmp_path / "a.tif", ImageFormat(wanted, value_range))
    assert read_image(tmp_path / "a.tif", ImageFormat(found, (0, 255))).shape == (24, 32, found)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_transparency_is_dropped_whatever_the_range(tmp_path: Path, suffix: str) -> None:
    picture = Image.fromarray(photograph(24, 32))
    picture.putalpha(100)
    picture.save(tmp_path / f"a{suffix}", lossless=True)
    assert (read_image(tmp_path / f"a{suffix}") == photograph(24, 32)).all()
    scaled = read_image(tmp_path / f"a{suffix}", ImageFormat(3, (0, 255)))
    assert (scaled == photograph(24, 32).astype(np.uint16) * 257).all()
    assert (read_image(tmp_path / f"a{suffix}", ImageFormat(4))[..., 3] == 100).all()


def test_signed_bytes_need_a_range_instead_of_wrapping(tmp_path: Path) -> None:
    values = np.array([[-3, 100], [0, 7]], np.int8)
    tifffile.imwrite(tmp_path / "a.tif", values)
    with pytest.raises(ValueError, match=r"values -3 to 100: .* data\.range: \[-3, 100\]"):
        read_image(tmp_path / "a.tif", ImageFormat(1))
    scaled = read_image(tmp_path / "a.tif", ImageFormat(1, (-3, 100)))[..., 0]
    assert scaled.tolist() == [[0, 65535], [1909, 6363]]


def test_cmyk_and_float_pictures_have_the_right_colours(tmp_path: Path) -> None:
    colours = photograph(24, 32)
    Image.fromarray(colours).convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - colours).mean() < 1
    tifffile.imwrite(tmp_path / "a.tif", (colours / 255).astype(np.float32))
    assert (read_image(tmp_path / "a.tif", ImageFormat(3, (0, 1))) == colours.astype(np.uint16) * 257).all()
    with pytest.raises(ValueError, match=r"32 bits: set data\.bands: 3 and data\.range"):
        read_image(tmp_path / "a.tif")


# masks


def coloured(root: Path, void: Any) -> Path:
    rewrite(write_folder(root), lambda mask: PALETTE[mask])
    content = {"classes": ["sky", "road", "car"], "palette": PALETTE[:3].tolist(), "void": void}
    (root / "labels.json").write_text(json.dumps(content))
    return root


def test_a_colour_of_void_and_a_class_is_refused_by_name(tmp_path: Path) -> None:
    root = coloured(tmp_path / "a", [70, 130, 180])
    with pytest.raises(ValueError, match=r"colour \(70, 130, 180\) stands for several classes, void, sky"):
        Folder(root, "train").read(0)


def test_several_void_labels_of_cvat_are_void(tmp_path: Path) -> None:
    root = rewrite(write_folder(tmp_path / "a"), lambda mask: PALETTE[mask])
    (root / "labels.json").unlink()
    rows = "void:255,255,255::\nignored:1,1,1::\nsky:70,130,180::\nroad:128,64,128::\ncar:0,0,142::\n"
    (root / "labelmap.txt").write_text(rows)
    expected = counts(write_folder(tmp_path / "b"))
    assert counts(root) == expected


def test_the_option_map_does_not_pass_over_colour_masks_in_silence(tmp_path: Path) -> None:
    root = coloured(tmp_path / "a", [255, 255, 255])
    with pytest.raises(ValueError, match=r"holds colours, and the option masks\.map renumbers indices"):
        counts(root, {"map": {0: 1, 1: 0, 2: 2, 255: "void"}})


@pytest.mark.parametrize(
    ("option", "message"),
    [({"map": {}}, "masks.map is {}"), ({"map": {0: 0, "0": 1}}, "masks.map: 0 is given twice")],
)
def test_a_map_that_leaves_values_open_is_refused(tmp_path: Path, option: Any, message: str) -> None:
    root = write_folder(tmp_path / "a")
    with pytest.raises(ValueError, match=message):
        Folder(root, "train", option)


def test_palette_masks_with_transparency_keep_their_indices(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "a")
    expected = counts(root)
    for path in (root / "masks").rglob("*.png"):
        picture = Image.fromarray(np.asarray(Image.open(path)), "P")
        picture.putpalette(PALETTE.ravel().tolist())
        picture.save(path, transparency=0)
    assert counts(root) == expected


# files


def test_hidden_folders_are_not_read_and_are_no_split(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "a")
    for kind, name in (("images", "t0.jpg"), ("masks", "t0.png")):
        hidden = root / kind / "train/.ipynb_checkpoints"
        hidden.mkdir()
        shutil.copy(root / kind / "train" / name, hidden / name)
        (root / kind / ".ipynb_checkpoints").mkdir()
    with pytest.warns(UserWarning, match="a hidden file or folder"):
        source = Folder(root, "train")
    assert source.ids == ("t0", "t1", "t2")
    assert find_splits("folder", root) == ["train", "val"]


def test_what_lies_beside_the_folders_of_the_splits_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "a")
    shutil.copy(root / "images/train/t0.jpg", root / "images/x.jpg")
    shutil.copy(root / "masks/train/t0.png", root / "masks/x.png")
    shutil.copytree(root / "masks/train", root / "masks/test")
    assert selfreg("check-data", root, "--json") == 0
    messages = [finding["message"] for finding in json.loads(capsys.readouterr().out)["findings"]]
    named = [message.removeprefix(f"{root}/") for message in messages if "not used" in message]
    assert sorted(named) == [
        "images/x.jpg: not in the folder of a split: not used",
        "masks/test: a split without the folder images/test: not used",
        "masks/x.png: not in the folder of a split: not used",
    ]


def test_images_without_folders_of_splits_are_found_and_told_where_to_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "a", splits={"train": 2})
    for kind in ("images", "masks"):
        for path in list((root / kind / "train").iterdir()):
            path.rename(root / kind / path.name)
        (root / kind / "train").rmdir()
    assert selfreg("check-data", root) == 2
    assert "2 images are in" in capsys.readouterr().err


def test_a_split_of_another_file_type_says_what_is_there(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "a")
    for path in list((root / "images/train").iterdir()):
        path.rename(path.with_suffix(".gif"))
    with pytest.raises(ValueError, match=r"the split is empty.*found: t0\.gif, t1\.gif, t2\.gif"):
        Folder(root, "train")


def test_a_wrong_suffix_is_told_to_be_taken_away(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "a")
    with pytest.raises(ValueError, match=r"t0\.png exists: take masks\.suffix out"):
        Folder(root, "train", {"suffix": "_mask"})


# classes


@pytest.mark.parametrize("name", ["background", "Background", "_background_", "__background__", "BACKGROUND"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_background_is_found_in_any_spelling_at_any_index(tmp_path: Path, name: str, index: int) -> None:
    classes = ["road", "car"]
    classes.insert(index, name)
    root = write_folder(tmp_path / "a", classes=(classes[0], classes[1], classes[2]))
    assert Folder(root, "train").labels.background == index


@pytest.mark.parametrize(("key", "index"), [(None, None), ("bg", 1)])
def test_the_key_background_decides_against_every_name(tmp_path: Path, key: str | None, index: int | None) -> None:
    root = write_folder(tmp_path / "a", classes=("background", "bg", "car"), extra={"background": key})
    assert Folder(root, "train").labels.background == index


def test_unreadable_images_do_not_make_a_class_rare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_folder(tmp_path / "a", splits={"train": 4, "val": 3})
    (root / "images/train/t0.jpg").write_bytes(b"no picture")
    assert selfreg("check-data", root, "--json") == 1
    assert "rare" not in capsys.readouterr().out


@pytest.mark.parametrize(("dtype", "bands"), [(np.uint8, 1), (np.uint8, 3), (np.uint16, 1), (np.uint16, 3)])
def test_a_tiff_whose_lowest_value_is_white_is_turned_round_or_refused(dtype: Any, bands: int, tmp_path: Path) -> None:
    path = tmp_path / "white.tif"
    tifffile.imwrite(path, np.array([[0, 255]], dtype), photometric="miniswhite")
    image_format = ImageFormat(bands, None if dtype == np.uint8 else (0, 255))
    if dtype == np.uint8:
        assert read_image(path, image_format)[0, :, 0].tolist() == [255, 0]
    else:
        with pytest.raises(ValueError, match=r"white\.tif: image whose lowest value is white"):
            read_image(path, image_format)
