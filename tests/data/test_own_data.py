"""Folders as people and their tools leave them, through the command."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from numpy.typing import NDArray
from PIL import Image

from selfreg.data import Folder, open_source
from tiny import QUICK_TO_EXPORT, TINY, selfreg

PALETTE = np.array([[70, 130, 180], [128, 64, 128], [0, 0, 142]], np.uint8)
CLASSES = ("sky", "road", "car")


def labels_of(number: int) -> NDArray[np.uint8]:
    """A mask (64, 96) of sky above road, with a car of 16 x 16 pixels on them."""
    mask = np.zeros((64, 96), np.uint8)
    mask[32:] = 1
    mask[20 + 3 * number : 36 + 3 * number, 8 * number : 8 * number + 16] = 2
    return mask


def write_images(
    root: Path,
    *,
    image: Callable[[NDArray[np.uint8]], NDArray[Any]] = lambda image: image,
    mask: Callable[[NDArray[np.uint8]], NDArray[Any]] = lambda mask: mask,
    image_name: str = "images/{split}/{name}.png",
    mask_name: str = "masks/{split}/{name}.png",
) -> Path:
    """Write four images to train on and two to validate on, with their masks."""
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            place = {"split": split, "name": f"{split}{number}"}
            labels = labels_of(number)
            noise = np.random.default_rng([number, len(split)]).integers(0, 30, (64, 96, 3))
            colours = (np.array([[90, 140, 220], [120, 120, 120], [200, 60, 40]])[labels] + noise).astype(np.uint8)
            for path, values in ((image_name, image(colours)), (mask_name, mask(labels))):
                target = root / path.format(**place)
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.suffix == ".tif":
                    tifffile.imwrite(
                        target, values, photometric="minisblack", planarconfig="contig", compression="zlib"
                    )
                else:
                    Image.fromarray(values).save(target)
    return root


def write_labels(root: Path, classes: tuple[str, ...] = CLASSES, void: Any = 255, **more: Any) -> Path:
    (root / "labels.json").write_text(json.dumps({"classes": classes, "void": void, **more}), encoding="utf-8")
    return root


def config_of(root: Path, **data: Any) -> Path:
    content = {
        **TINY,
        "network": QUICK_TO_EXPORT,
        "data": {"root": str(root), "crop_size": [64, 64], "scale": [1, 1], **data},
    }
    content["training"] = {**TINY["training"], "epochs": 1, "batch_size": 2}
    path = root / "config.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def pixels_of(source: Folder) -> list[int]:
    """Pixels of sky, road, car and void over the split."""
    counts = np.bincount(
        np.concatenate([source.read(index).mask.ravel() for index in range(len(source))]), minlength=256
    )
    return [int(counts[value]) for value in (0, 1, 2, 255)]


def test_binary_masks_with_void_255_are_refused_with_the_option_that_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_images(tmp_path / "set", mask=lambda mask: ((mask == 2) * 255).astype(np.uint8))
    write_labels(root, ("background", "object"))
    assert selfreg("train", config_of(root), "-o", tmp_path / "run", "-q") == 2
    message = one_line(capsys)
    assert "all labelled pixels are 'background'" in message
    assert "set data.options.masks: {map: {0: 0, 255: 1}}" in message
    assert selfreg("check-data", root) == 1
    config = config_of(root, options={"masks": {"map": {0: 0, 255: 1}}})
    assert selfreg("check-data", config) == 0
    source = open_source("folder", root, "train", masks={"map": {0: "background", 255: "object"}})
    assert [np.bincount(source.read(index).mask.ravel()).tolist() for index in range(2)] == [[5888, 256], [5888, 256]]


def test_a_split_without_a_labelled_pixel_is_not_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_labels(write_images(tmp_path / "set", mask=lambda mask: np.full_like(mask, 255)))
    assert selfreg("train", config_of(root), "-o", tmp_path / "run", "-q") == 2
    assert "no pixel is labelled" in one_line(capsys)
    assert not (tmp_path / "run").exists()


def test_training_warns_of_classes_that_never_occur(tmp_path: Path) -> None:
    root = write_labels(write_images(tmp_path / "set"), (*CLASSES, "tram", "boat"))
    with pytest.warns(UserWarning, match="training data: 2 of 5 classes never occur: tram, boat"):
        assert selfreg("train", config_of(root), "-o", tmp_path / "run", "-q") == 0


def test_masks_are_renumbered_by_the_option_map(tmp_path: Path) -> None:
    root = write_labels(write_images(tmp_path / "set", mask=lambda mask: np.where(mask == 2, 0, mask + 1)), void=0)
    with pytest.raises(ValueError, match=r"void 0 is not free.*masks: \{map: \{0: void"):
        Folder(root, "train")
    expected = pixels_of(Folder(write_labels(write_images(tmp_path / "plain")), "train"))
    source = Folder(root, "train", {"map": {0: "void", 1: 0, 2: "road"}})
    assert pixels_of(source) == [expected[0], expected[1], 0, expected[2]]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"map": {0: "void", 1: 0}}, "mask holds 2; allowed: 0..1"),
        ({"map": {0: "tram"}}, "'tram': give void, a class name"),
        ({"map": {999: 0}}, "999 is not a value of a mask"),
        ({"sufix": "_mask"}, "a mapping of folder, suffix, map"),
        (7, "the option masks is 7"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(tmp_path: Path, option: Any, message: str) -> None:
    root = write_labels(write_images(tmp_path / "set"))
    with pytest.raises(ValueError, match=re.escape(message)):
        Folder(root, "train", option).read(0)


def test_nested_folders_are_read_and_every_file_that_is_not_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_labels(
        write_images(
            tmp_path / "set",
            image_name="images/{split}/city/{name}.png",
            mask_name="masks/{split}/city/{name}.png",
        )
    )
    for name in ("images/train/0.png", "masks/train/0.png"):
        shutil.copy(root / name.replace("0.png", "city/train0.png"), root / name)
    for name in ("images/train/notes.txt", "images/train/city/a.HEIC", "masks/train/city/b.jpg"):
        (root / name).write_bytes(b"")
    shutil.copy(root / "masks/train/0.png", root / "masks/train/lost.png")
    with pytest.warns(UserWarning, match=r"not an image .*2 such: notes.txt"):
        source = Folder(root, "train")
    assert source.ids == ("0", "city/train0", "city/train1", "city/train2", "city/train3")
    assert source.files(1).mask == root / "masks/train/city/train0.png"
    unread = {str(file.path.relative_to(root)): file.reason for file in source.unread}
    assert set(unread) == {
        *("images/train/notes.txt", "images/train/city/a.HEIC", "masks/train/city/b.jpg", "masks/train/lost.png")
    }
    assert unread["masks/train/lost.png"] == "a mask without an image"
    assert selfreg("check-data", root, "--json") == 0
    told = capsys.readouterr().out
    assert all(name.rsplit("/")[-1] in told for name in unread)


def test_two_images_of_one_id_are_refused_in_nested_folders_too(tmp_path: Path) -> None:
    root = write_labels(write_images(tmp_path / "set"))
    for folder in ("a", "b"):
        for kind in ("images", "masks"):
            (root / kind / "train" / folder).mkdir()
            shutil.copy(root / kind / "train/train0.png", root / kind / "train" / folder / "0001.png")
    assert {"a/0001", "b/0001"} < set(Folder(root, "train").ids)
    shutil.copy(root / "images/train/a/0001.png", root / "images/train/a/0001.bmp")
    with pytest.raises(ValueError, match=r"a/0001.png: shares its id with 0001.bmp"):
        Folder(root, "train")


@pytest.mark.parametrize("suffix", [".PNG", ".webp", ".bmp", ".tiff", ".TIF"])
def test_images_of_other_types_are_read(tmp_path: Path, suffix: str) -> None:
    root = write_labels(write_images(tmp_path / "set"))
    for path in sorted((root / "images/train").iterdir()):
        Image.open(path).save(path.with_suffix(suffix))
        path.unlink()
    source = Folder(root, "train")
    assert len(source) == 4
    np.testing.assert_array_equal(source.read(3).mask, labels_of(3))


def test_names_match_whether_composed_or_decomposed(tmp_path: Path) -> None:
    root = write_labels(write_images(tmp_path / "set"))
    (root / "images/train/train0.png").rename(root / "images/train/Stra\u00dfe u\u0308ber.png")
    (root / "masks/train/train0.png").rename(root / "masks/train/Stra\u00dfe \u00fcber.png")
    source = Folder(root, "train")
    assert source.ids[0] == "Stra\u00dfe \u00fcber"
    np.testing.assert_array_equal(source.read(0).mask, labels_of(0))


@pytest.mark.parametrize("mask_name", ["masks/{split}/{name}_mask.png", "images/{split}/{name}_mask.png"])
def test_a_missing_suffix_names_the_option_that_finds_the_masks(tmp_path: Path, mask_name: str) -> None:
    root = write_labels(write_images(tmp_path / "set", mask_name=mask_name))
    with pytest.raises(ValueError, match="set data.options.masks: {.*suffix: _mask}") as caught:
        Folder(root, "train")
    option = yaml.safe_load(str(caught.value).partition("set data.options.masks: ")[2])
    source = Folder(root, "train", option)
    assert source.ids == tuple(f"train{number}" for number in range(4))
    assert not source.unread
    np.testing.assert_array_equal(source.read(2).mask, labels_of(2))


def test_masks_beside_jpegs_need_no_suffix(tmp_path: Path) -> None:
    root = write_images(tmp_path / "set", image_name="images/{split}/{name}.jpg", mask_name="images/{split}/{name}.png")
    with pytest.raises(ValueError, match="set data.options.masks: {folder: images}"):
        Folder(write_labels(root), "train")
    source = Folder(root, "train", {"folder": "images"})
    assert source.files(0).image.suffix == ".jpg"
    np.testing.assert_array_equal(source.read(2).mask, labels_of(2))


def write_labelmap(root: Path) -> Path:
    lines = ["# label:color_rgb:parts:actions", "void:0,0,0::"]
    lines += [f"{name}:{','.join(map(str, colour))}::" for name, colour in zip(CLASSES, PALETTE.tolist(), strict=True)]
    (root / "labelmap.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.mark.parametrize("declare", [lambda root: write_labels(root, palette=PALETTE.tolist()), write_labelmap])
def test_colour_masks_are_read_by_their_exact_colours(tmp_path: Path, declare: Callable[[Path], Path]) -> None:
    root = declare(write_images(tmp_path / "set", mask=lambda mask: PALETTE[mask]))
    source = Folder(root, "train")
    assert source.labels.class_names == CLASSES
    np.testing.assert_array_equal(source.read(1).mask, labels_of(1))
    path = root / "masks/train/train1.png"
    wrong = np.array(Image.open(path))
    wrong[5, 7] = (128, 64, 127)
    Image.fromarray(wrong).save(path)
    message = r"train1.png: colour \(128, 64, 127\) is not in the palette, the nearest is .*'road' \(first at x 7, y 5"
    with pytest.raises(ValueError, match=message):
        source.read(1)


def test_void_has_a_colour_too(tmp_path: Path) -> None:
    void = [0, 0, 0]
    colours = np.array([*PALETTE[:2].tolist(), void], np.uint8)
    root = write_images(tmp_path / "set", mask=lambda mask: colours[mask])
    source = Folder(write_labels(root, palette=PALETTE.tolist(), void=void), "train")
    np.testing.assert_array_equal(source.read(1).mask, np.where(labels_of(1) == 2, 255, labels_of(1)))
    assert Folder(write_labelmap(root), "train").ids == source.ids


def test_palette_masks_of_cvat_are_read_by_colour_whatever_their_indices(tmp_path: Path) -> None:
    root = write_labelmap(write_images(tmp_path / "set", mask=lambda mask: PALETTE[mask]))
    for path in (root / "masks/train").iterdir():
        Image.open(path).quantize(17).save(path)
    np.testing.assert_array_equal(Folder(root, "train").read(3).mask, labels_of(3))


def test_a_colour_of_two_classes_is_refused(tmp_path: Path) -> None:
    root = write_images(tmp_path / "set", mask=lambda mask: PALETTE[np.minimum(mask, 1)])
    write_labels(root, palette=[PALETTE[0].tolist(), PALETTE[1].tolist(), PALETTE[1].tolist()])
    with pytest.raises(ValueError, match="stands for several classes, road, car"):
        Folder(root, "train").read(0)


def test_classes_txt_names_the_classes(tmp_path: Path) -> None:
    root = write_images(tmp_path / "set")
    (root / "classes.txt").write_text("_Background_\nroad\n\ncar\n", encoding="utf-8-sig")
    source = Folder(root, "train")
    assert source.labels.class_names == ("_Background_", "road", "car")
    assert (source.labels.background, source.labels.void) == (0, None)


def test_a_missing_root_a_missing_split_and_an_unknown_layout_differ(tmp_path: Path) -> None:
    root = write_labels(write_images(tmp_path / "camvid"))
    with pytest.raises(ValueError, match="camvit: no such folder: .*did you mean .*camvid"):
        Folder(tmp_path / "camvit", "train")
    with pytest.raises(ValueError, match="images/valid: no such folder.*splits found: train, val.*did you mean val"):
        Folder(root, "valid")
    (root / "masks").rename(root / "annotations")
    with pytest.raises(ValueError, match="annotations/train has PNGs: set data.options.masks: annotations"):
        Folder(root, "train")
    (tmp_path / "other" / "stuff").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"other: no known data set: looked for images/SPLIT.*found stuff/"):
        Folder(tmp_path / "other", "train")
    (tmp_path / "voc" / "SegmentationClass").mkdir(parents=True)
    with pytest.raises(ValueError, match="this looks like voc.*set data.kind: voc"):
        Folder(tmp_path / "voc", "train")


def test_many_missing_masks_are_one_line_with_three_examples(tmp_path: Path) -> None:
    root = write_labels(write_images(tmp_path / "set"))
    for path in (root / "masks/train").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"4 of 4 images have none: train0, train1, train2, \.\.\.") as caught:
        Folder(root, "train")
    assert "\n" not in str(caught.value)


def test_twelve_bits_in_sixteen_are_scaled_by_the_range_or_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_labels(write_images(tmp_path / "set", image=lambda image: image[..., 0].astype(np.uint16) * 16))
    assert selfreg("train", config_of(root), "-o", tmp_path / "run", "-q") == 2
    assert "16 bits per channel" in (message := one_line(capsys))
    assert "data.range" in message
    assert selfreg("train", config_of(root, range=[0, 4095]), "-o", tmp_path / "run", "-q") == 0
    from selfreg.run import Run

    stored = np.array(Image.open(root / "images/train/train0.png"))
    image = Run.open(tmp_path / "run").source("train").read(0).image
    assert image.shape == (64, 96, 3)
    np.testing.assert_array_equal(image[..., 1], np.round(stored / 4095 * 65535))


@pytest.mark.slow
def test_six_bands_of_sixteen_bits_train_predict_in_tiles_and_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def six(image: NDArray[np.uint8]) -> NDArray[np.uint16]:
        return np.concatenate([image, image[..., ::-1]], axis=2).astype(np.uint16) * 39

    root = write_labels(write_images(tmp_path / "set", image=six, image_name="images/{split}/{name}.tif"))
    assert selfreg("train", config_of(root), "-o", tmp_path / "run", "-q") == 2
    assert "6 bands of 16 bits: set data.bands: 6" in one_line(capsys)
    bands = {"bands": 6, "range": [0, 10000], "mean": [0.5] * 6, "std": [0.25] * 6, "shown_bands": [2, 1, 0]}
    config = config_of(root, **bands)
    assert selfreg("check-data", config, "--html", tmp_path / "data.html") == 0
    assert selfreg("train", config, "--dry-run") == 0
    assert selfreg("train", config, "-o", tmp_path / "run", "-q") == 0
    assert selfreg("evaluate", tmp_path / "run") == 0
    large = np.tile(tifffile.imread(root / "images/val/val0.tif"), (3, 2, 1))
    (tmp_path / "photos").mkdir()
    tifffile.imwrite(tmp_path / "photos/large.tif", large, photometric="minisblack", planarconfig="contig")
    arguments = ("-o", tmp_path / "masks", "--overlay", "--tile", "128")
    assert selfreg("predict", tmp_path / "run", tmp_path / "photos", *arguments) == 0
    assert Image.open(tmp_path / "masks/large.png").size == (192, 192)
    overlay = Image.open(tmp_path / "masks/overlays/large.jpg")
    assert overlay.width == 192
    assert overlay.height > 192  # the legend of the classes lies below the photograph
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "photos/rgb.png")
    assert selfreg("predict", tmp_path / "run", tmp_path / "photos/rgb.png", "-o", tmp_path / "masks") == 2
    assert "image with 3 bands, data.bands is 6" in one_line(capsys)
    assert selfreg("export", tmp_path / "run", tmp_path / "model.onnx") == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"bands": 6}, "mean is not set"),
        ({"bands": 6, "mean": [0.5] * 6, "std": [0.2] * 3}, "std has 3 numbers: give 6"),
        ({"mean": [0.5]}, "mean has 1 numbers: give 3"),
        ({"range": [5, 5]}, "range (5.0, 5.0) must be"),
        ({"shown_bands": [0, 1, 3]}, "shown_bands (0, 1, 3)"),
        ({"kind": "voc", "range": [0, 4095]}, "voc has 8-bit RGB images"),
    ],
)
def test_bands_that_cannot_be_meant_are_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: dict[str, Any], message: str
) -> None:
    assert selfreg("train", config_of(tmp_path, **data), "-o", tmp_path / "run") == 2
    assert message in one_line(capsys)
