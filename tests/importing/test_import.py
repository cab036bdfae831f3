"""Exports of labelling tools through the real command, and what came of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fixtures.exports as exports
from selfreg.data import open_source
from tiny import selfreg, write_config

Write = Callable[[Path], dict[str, exports.Truth]]
TOOLS: dict[str, tuple[str, Write]] = {
    "Roboflow, YOLO": ("yolo", exports.write_roboflow),
    "Ultralytics, YOLO": ("yolo", exports.write_ultralytics),
    "CVAT, COCO": ("coco", exports.write_cvat_coco),
    "Roboflow, COCO": ("coco", exports.write_roboflow_coco),
    "Labelme": ("labelme", exports.write_labelme),
    "CVAT, masks": ("cvat", exports.write_cvat),
    "labelme2voc": ("voc", exports.write_voc_colours),
    "CVAT, Cityscapes": ("cityscapes", exports.write_cvat_cityscapes),
}


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("selfreg.checking.checks.cpu_count", lambda: 1)
    return tmp_path / "mydata"


@pytest.mark.parametrize("tool", TOOLS)
def test_every_mask_of_an_export_is_right_and_its_split_is_kept(
    tmp_path: Path, out: Path, tool: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, write = TOOLS[tool]
    truth = write(tmp_path / "export")
    assert selfreg("import", tmp_path / "export", out) == 0
    assert f"imported from {name}" in capsys.readouterr().out
    splits = ["train", "val"]
    found = {split: open_source("folder", out, split) for split in splits}
    for split, source in found.items():
        assert [name.strip("_") for name in source.labels.class_names] == ["background", *exports.CLASSES]
        assert source.labels.background == 0
        expected = truth[split] if split in truth else truth[""]
        assert set(source.ids) == set(expected) if split in truth else set(source.ids) < set(expected)
        for index, image_id in enumerate(source.ids):
            np.testing.assert_array_equal(source.read(index).mask, expected[image_id], err_msg=image_id)
    if "" in truth:
        assert sorted([*found["train"].ids, *found["val"].ids]) == sorted(truth[""])
    assert sorted(path.name for path in out.iterdir()) == ["images", "labels.json", "masks"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "mydata"]


def test_images_are_copied_bit_by_bit(tmp_path: Path, out: Path) -> None:
    exports.write_ultralytics(tmp_path / "export")
    assert selfreg("import", tmp_path / "export", out) == 0
    copied = out / "images/train/x/0001.jpg"
    assert copied.read_bytes() == (tmp_path / "export/images/train/x/0001.JPG").read_bytes()


def test_an_import_trains_and_evaluates(tmp_path: Path, out: Path) -> None:
    exports.write_ultralytics(tmp_path / "export")
    assert selfreg("import", tmp_path / "export", out) == 0
    config = write_config(
        tmp_path,
        data={"kind": "folder", "root": str(out), "crop_size": [32, 32], "options": {}},
        training={"epochs": 1, "batch_size": 2},
    )
    assert selfreg("train", config, "--dry-run") == 0
    assert selfreg("train", config, "--out", tmp_path / "run", "--quiet") == 0
    assert selfreg("evaluate", tmp_path / "run") == 0


def test_unlabelled_pixels_can_be_void(tmp_path: Path, out: Path) -> None:
    truth = exports.write_ultralytics(tmp_path / "export")
    assert selfreg("import", tmp_path / "export", out, "--unlabelled", "void") == 0
    source = open_source("folder", out, "train")
    assert source.labels.class_names == exports.CLASSES
    assert list(source.ids) == ["x/0001", "y/0001"]  # the image without objects has nothing to learn from
    expected = truth["train"]["x/0001"]
    np.testing.assert_array_equal(source.read(0).mask, np.where(expected == 0, 255, expected - 1))


@pytest.mark.parametrize("tool", ["CVAT, COCO", "Labelme"])
def test_void_is_the_same_for_every_format_of_outlines(tmp_path: Path, out: Path, tool: str) -> None:
    truth = TOOLS[tool][1](tmp_path / "export")[""]
    assert selfreg("import", tmp_path / "export", out, "--unlabelled", "void", "--val", "0") == 0
    source = open_source("folder", out, "train")
    for index, image_id in enumerate(source.ids):
        expected = np.where(truth[image_id] == 0, 255, truth[image_id].astype(int) - 1)
        np.testing.assert_array_equal(source.read(index).mask, expected)


# --- splits ---


def test_a_split_is_made_by_seed_and_share(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exports.write_cvat_coco(tmp_path / "export")
    ids = []
    for number, seed in enumerate((0, 0, 1)):
        folder = out.with_name(f"out{number}")
        assert selfreg("import", tmp_path / "export", folder, "--val", "0.3", "--seed", str(seed)) == 0
        ids.append(list(open_source("folder", folder, "val").ids))
    assert len(ids[0]) == 3
    assert ids[0] == ids[1] != ids[2]
    assert "validation split made: 3 of 10 images at random (seed 0)" in capsys.readouterr().out


def test_a_share_is_refused_where_the_export_has_the_split(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exports.write_roboflow(tmp_path / "export")
    assert selfreg("import", tmp_path / "export", out, "--val", "0.3") == 2
    assert "the export has one: leave them out" in capsys.readouterr().err
    assert not out.exists()


# --- whole or not at all ---


def no_image(root: Path) -> None:
    for path in root.rglob("*.jpg"):
        path.unlink()


def other_class(root: Path) -> None:
    path = next((root / "train/labels").iterdir())
    path.write_text("0 0 0 1 0 1 1\n7 0 0 1 0 1 1\n", encoding="utf-8")


def boxes(root: Path) -> None:
    path = next((root / "train/labels").iterdir())
    path.write_text("0 0.5 0.5 0.2 0.2\n", encoding="utf-8")


def pixels(root: Path) -> None:
    path = next((root / "train/labels").iterdir())
    path.write_text("0 10 10 20 10 20 20\n", encoding="utf-8")


def cut_image(root: Path) -> None:
    path = next((root / "train/images").iterdir())
    path.write_bytes(b"no picture")


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no images": (no_image, "no image with labels found"),
    "a class that is not listed": (other_class, "line 2 has class 7; the list of classes allows 0..2"),
    "boxes": (boxes, "line 1 is a box, not an outline"),
    "pixels": (pixels, "line 1 has coordinates outside 0..1"),
    "an image that is none": (cut_image, "unreadable or truncated image"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_export_is_one_line_and_leaves_nothing(
    tmp_path: Path, out: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exports.write_roboflow(tmp_path / "export")
    plant, message = BROKEN[fault]
    plant(tmp_path / "export")
    assert selfreg("import", tmp_path / "export", out) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert str(tmp_path / "export") in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export"]


def test_missing_images_are_one_line_with_examples(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exports.write_cvat(tmp_path / "export")
    shutil.rmtree(tmp_path / "export/JPEGImages")
    assert selfreg("import", tmp_path / "export", out) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: 4 files, such as ")
    assert "its image JPEGImages/train/00.jpg is missing" in error


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_an_existing_target_is_refused_and_kept(
    tmp_path: Path, out: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exports.write_roboflow(tmp_path / "export")
    if kind == "folder":
        out.mkdir()
    elif kind == "file":
        out.write_text("mine", encoding="utf-8")
    else:
        out.symlink_to(tmp_path / "elsewhere")
    assert selfreg("import", tmp_path / "export", out) == 2
    assert f"{out}: already exists" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()
    if kind == "file":
        assert out.read_text(encoding="utf-8") == "mine"


def test_an_unknown_export_says_what_was_looked_for_and_what_is_there(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exports.save_image(tmp_path / "export/holiday.jpg")
    assert selfreg("import", tmp_path / "export", out) == 2
    error = capsys.readouterr().err
    assert "unknown export format" in error
    assert "1 files, such as holiday.jpg" in error
    assert selfreg("import", tmp_path / "nothing", out) == 2
    assert f"{tmp_path / 'nothing'}: no such folder" in capsys.readouterr().err


def test_two_formats_in_one_folder_need_a_choice(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exports.write_roboflow(tmp_path / "export")
    exports.write_labelme(tmp_path / "export/more")
    assert selfreg("import", tmp_path / "export", out) == 2
    assert "could be yolo or labelme: choose with --format" in capsys.readouterr().err
    assert selfreg("import", tmp_path / "export", out, "--format", "yolo") == 0


@pytest.mark.parametrize("name", ["../../outside.jpg", "/outside.jpg", "..\\outside.jpg"])
def test_names_that_lead_out_write_nothing_outside(tmp_path: Path, out: Path, name: str) -> None:
    root = tmp_path / "export"
    exports.save_image(root / "images/0.jpg")
    (root / "annotations").mkdir()
    (root / "annotations/instances.json").write_text(json.dumps(exports.coco_content([name])), encoding="utf-8")
    assert selfreg("import", root, out) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export"]


def test_the_verdict_of_check_data_is_the_exit_status(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exports.write_roboflow(tmp_path / "export")
    shutil.copy(tmp_path / "export/valid/images/straße.jpg", tmp_path / "export/train/images/c_jpg.rf.2c3d.jpg")
    assert selfreg("import", tmp_path / "export", out) == 1
    assert "the same picture" in capsys.readouterr().out
    assert out.is_dir()


# --- turned photographs ---


@pytest.mark.parametrize("labelled_as_stored", [False, True])
def test_a_turned_photograph_keeps_its_labels(tmp_path: Path, out: Path, labelled_as_stored: bool) -> None:
    root = tmp_path / "export"
    exif = Image.Exif()
    exif[0x0112] = 6
    width, height = (exports.WIDTH, exports.HEIGHT) if labelled_as_stored else (exports.HEIGHT, exports.WIDTH)
    for number in range(3):
        exports.save_image(root / f"{number}.jpg", number, exif=exif)
        content = exports.labelme_content(
            f"{number}.jpg", [{"label": "car", "points": [[5, 2], [25, 30]], "shape_type": "rectangle"}]
        )
        content.update(imageHeight=height, imageWidth=width)
        (root / f"{number}.json").write_text(json.dumps(content), encoding="utf-8")
    assert selfreg("import", root, out) == 0
    pair = open_source("folder", out, "train").read(0)
    assert pair.image.shape[:2] == pair.mask.shape == (height, width)
    assert pair.mask.sum() == 20 * 28
    assert pair.mask[2:30, 5:25].all()


# --- what would have no effect, and what cannot be guessed ---


@pytest.mark.parametrize("options", [["--seed", "1"], ["--val", "0.1"]])
def test_options_without_effect_are_refused(
    tmp_path: Path, out: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    exports.write_cvat(tmp_path / "export")
    assert selfreg("import", tmp_path / "export", out, *options) == 2
    assert "the export has one: leave them out" in capsys.readouterr().err
    assert selfreg("import", tmp_path / "export", out, "--unlabelled", "background") == 2
    assert "--unlabelled: the masks of cvat label every pixel" in capsys.readouterr().err


def test_classes_that_are_taken_to_be_those_of_voc_are_told(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exports.write_voc_colours(tmp_path / "export")
    (tmp_path / "export/class_names.txt").unlink()
    assert selfreg("import", tmp_path / "export", out) == 0
    assert "note: no class_names.txt" in capsys.readouterr().out


def test_a_colour_that_no_class_has_is_named_with_its_place(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exports.write_cvat(tmp_path / "export")
    path = tmp_path / "export/SegmentationClass/train/00.png"
    values = exports.colours_of(exports.scene())
    values[3, 7] = (1, 2, 3)
    Image.fromarray(values).save(path)
    assert selfreg("import", tmp_path / "export", out) == 2
    error = capsys.readouterr().err
    assert f"{path}: colour (1, 2, 3)" in error
    assert "first at x 7, y 3" in error
    assert not out.exists()


def test_a_class_that_is_listed_twice_is_named_with_its_file(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exports.write_roboflow(tmp_path / "export")
    path = tmp_path / "export/data.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("'road'", "'car'"), encoding="utf-8")
    assert selfreg("import", tmp_path / "export", out) == 2
    assert f"{path}: class name 'car' is given twice" in capsys.readouterr().err


def test_instances_are_read_and_files_of_other_tasks_are_not(tmp_path: Path, out: Path) -> None:
    root = tmp_path / "export"
    for split in ("train", "val"):
        names = [f"{split}{number}.jpg" for number in range(2)]
        for number, name in enumerate(names):
            exports.save_image(root / f"{split}2017" / name, number + 10 * len(split))
        (root / "annotations").mkdir(exist_ok=True)
        content = exports.coco_content(names)
        for task in ("instances", "person_keypoints"):
            path = root / f"annotations/{task}_{split}2017.json"
            path.write_text(json.dumps(content), encoding="utf-8")
    assert selfreg("import", root, out) == 0
    source = open_source("folder", out, "val")
    assert list(source.ids) == ["val0", "val1"]
    np.testing.assert_array_equal(source.read(1).mask, exports.scene(1))


@pytest.mark.parametrize("other", ["JPEGImages/a.png", "images/a.jpg"])
def test_two_images_for_one_mask_are_refused(
    other: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = tmp_path / "export"
    for name in ("JPEGImages/a.jpg", other, "SegmentationClass/a.png"):
        (export / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(export / name)
    assert selfreg("import", export, out) == 2
    assert "the mask fits one image: rename one" in capsys.readouterr().err
    assert not out.exists()
