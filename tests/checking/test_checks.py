import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fixtures.layouts as layouts
from fixtures.folder import photograph, write_folder
from selfreg.checking.checks import check_data
from selfreg.checking.findings import DataReport
from selfreg.data import Scenes
from selfreg.data.kinds import find_splits, guess_kind
from selfreg.data.pascal_context import CONTEXT_CLASSES
from selfreg.data.voc import VOC_LABELS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "set", splits={"train": 12, "val": 4})


def check(root: Path) -> DataReport:
    return check_data("folder", root, workers=1)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def scribble(path: Path) -> None:
    path.write_text("no picture", encoding="utf-8")


def recolour(path: Path) -> None:
    values = np.asarray(Image.open(path))
    Image.fromarray(VOC_LABELS.palette[values]).save(path)


def fill(value: int, size: tuple[int, int] = (24, 32)) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(np.full(size, value, dtype=np.uint8)).save(path)


FAULTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "truncated image": ("images/train/t1.jpg", truncate, "unreadable or truncated image"),
    "no picture": ("images/train/t2.jpg", scribble, "unreadable or truncated image"),
    "truncated mask": ("masks/train/t3.png", truncate, "unreadable or truncated mask"),
    "other size": ("masks/train/t4.png", fill(0, (12, 16)), "mask is 16x12, its image t4.jpg 32x24"),
    "out of range": ("masks/val/v1.png", fill(9), "mask holds 9; allowed: 0..2, 255"),
    "colours": ("masks/train/t5.png", recolour, "a colour mask (those of the data set's own labels)"),
    "void": ("masks/train/t6.png", fill(255), "void throughout"),
    "missing": ("masks/train/t7.png", Path.unlink, "the mask of t7.jpg is missing"),
}


def test_a_sound_data_set_has_no_errors(root: Path) -> None:
    report = check(root)
    assert report.errors == []
    assert len(report.items) == 16
    assert report.splits["train"].num_images == 12


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_one_error_that_names_its_file(root: Path, fault: str) -> None:
    name, plant, message = FAULTS[fault]
    plant(root / name)
    report = check(root)
    assert [str(root / name) in finding.message and message in finding.message for finding in report.errors] == [True]
    assert all("\n" not in finding.message for finding in report.findings)


def test_eight_faults_at_once_are_all_named_and_shown_first(root: Path) -> None:
    for name, plant, _ in FAULTS.values():
        plant(root / name)
    shutil.copy(root / "images/train/t9.jpg", root / "images/val/v3.jpg")
    report = check(root)
    assert len(report.errors) == 9
    for name, _, message in FAULTS.values():
        assert any(str(root / name) in finding.message and message in finding.message for finding in report.errors)
    shown = {item.image_id for item, _ in report.worst(9)}
    assert shown == {"t1", "t2", "t3", "t4", "t5", "t6", "t7", "v1", "v3"}


def test_a_bad_mask_does_not_hide_a_bad_image(root: Path) -> None:
    truncate(root / "images/train/t1.jpg")
    fill(9)(root / "masks/train/t1.png")
    assert len(check(root).errors) == 2


def test_the_same_picture_in_two_splits_is_an_error_and_in_one_a_warning(root: Path) -> None:
    shutil.copy(root / "images/train/t2.jpg", root / "images/val/v3.jpg")
    shutil.copy(root / "images/train/t2.jpg", root / "images/train/t3.jpg")
    found = [finding for finding in check(root).findings if finding.check == "duplicate"]
    assert [(finding.level, finding.file) for finding in found] == [
        ("error", str(root / "images/val/v3.jpg")),
        ("warning", str(root / "images/train/t3.jpg")),
    ]
    assert "t2.jpg of train" in found[0].message


def test_a_picture_saved_again_in_another_split_is_a_warning(root: Path) -> None:
    picture = Image.fromarray(Scenes("train", 1, (90, 120)).read(0).image)
    picture.save(root / "images/train/t9.jpg")
    picture.resize((80, 60)).save(root / "images/val/v3.jpg", quality=70)
    fill(0, (90, 120))(root / "masks/train/t9.png")
    fill(0, (60, 80))(root / "masks/val/v3.png")
    report = check(root)
    assert report.errors == []
    near = [finding for finding in report.warnings if finding.check == "near duplicate"]
    assert [finding.file for finding in near] == [str(root / "images/val/v3.jpg")]
    assert "t9.jpg of train" in near[0].message


def test_masks_without_an_image_are_all_named(root: Path) -> None:
    for name in ("x", "y"):
        fill(0)(root / f"masks/train/{name}.png")
    messages = [finding.message for finding in check(root).warnings]
    for name in ("x", "y"):
        assert f"{root}/masks/train/{name}.png: a mask without an image: not used" in messages


def test_void_and_classes_are_warnings(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", classes=("sky", "road", "car", "boat"), splits={"train": 12, "val": 3})
    for path in (root / "masks").rglob("*.png"):
        values = np.asarray(Image.open(path)).copy()
        values[values == 3] = 0
        values[values == 2] = 2 if "train" in str(path) else 1
        Image.fromarray(values).save(path)
    mostly = np.full((24, 32), 255, dtype=np.uint8)
    mostly[0] = 0
    Image.fromarray(mostly).save(root / "masks/val/v0.png")
    report = check(root)
    messages = "\n".join(finding.message for finding in report.warnings)
    assert report.errors == []
    assert "class 'boat' never occurs" in messages
    assert "class 'car' occurs in train only" in messages
    assert "masks/val/v0.png" not in messages
    assert "images/val/v0.jpg: 95.8% of the mask is void" in messages
    assert "train: " in messages
    assert "of the pixels are void" in messages
    assert "rare classes" in messages


def test_shares_and_counts_are_those_of_the_masks(root: Path) -> None:
    report = check(root)
    masks = [np.asarray(Image.open(path)) for path in sorted((root / "masks/val").iterdir())]
    pixels = np.bincount(np.concatenate([mask.ravel() for mask in masks]), minlength=256)
    summary = report.splits["val"]
    assert summary.void_share == pytest.approx(pixels[255] / pixels.sum())
    assert summary.pixel_share == pytest.approx(pixels[:3] / pixels[:3].sum())
    assert summary.image_count == tuple(sum(bool((mask == k).any()) for mask in masks) for k in range(3))
    assert sum(map(sum, summary.object_sizes)) > 0


def test_a_turned_picture_is_a_warning(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(photograph(24, 32, 5)).save(root / "images/train/t3.jpg", exif=exif)
    assert any("EXIF orientation (1 such)" in finding.message for finding in check(root).warnings)


def test_an_empty_split_is_an_error_and_the_others_are_read(root: Path) -> None:
    (root / "images/test").mkdir()
    report = check(root)
    assert [finding.check for finding in report.errors] == ["split"]
    assert "images/test: the split is empty" in report.errors[0].message
    assert len(report.items) == 16


def test_processes_find_what_one_finds_and_progress_counts_to_the_end(root: Path) -> None:
    truncate(root / "images/train/t1.jpg")
    seen: list[tuple[int, int]] = []
    alone, together = check(root), check_data("folder", root, workers=2, progress=lambda *step: seen.append(step))
    assert alone.to_json() == together.to_json()
    assert seen == [(number, 16) for number in range(1, 17)]


def test_the_report_is_json(root: Path) -> None:
    FAULTS["colours"][1](root / "masks/train/t5.png")
    content = json.loads(json.dumps(check(root).to_json()))
    assert content["num_errors"] == 1
    assert content["classes"] == ["sky", "road", "car"]
    assert content["worst"][0]["mask"].endswith("t5.png")
    assert len(content["splits"]["train"]["object_sizes"][0]) == len(content["object_size_edges"]) + 1


def test_sets_without_files_are_checked_too(tmp_path: Path) -> None:
    scenes = check_data("scenes", None, ["train", "val"], workers=1, length=2, size=(32, 48))
    assert scenes.errors == []
    assert scenes.labels == Scenes.labels
    layouts.write_coco(tmp_path)
    assert check_data("coco", tmp_path, workers=1).errors == []


def test_without_masks_only_the_images_are_judged(root: Path) -> None:
    truncate(root / "images/train/t1.jpg")
    shutil.rmtree(root / "masks")
    report = check_data("folder", root, workers=1, tags_only=True)
    assert ["t1.jpg" in finding.message for finding in report.findings] == [True]


def test_a_mistake_in_the_call_is_raised_and_not_reported(root: Path) -> None:
    with pytest.raises(ValueError, match="is unknown"):
        check_data("fodler", root)
    with pytest.raises(ValueError, match="folder knows"):
        check_data("folder", root, colour="red")


def test_the_kind_is_known_by_the_layout(tmp_path: Path, root: Path) -> None:
    writers: dict[str, Callable[[Path], object]] = {
        "voc": layouts.write_voc,
        "cityscapes": layouts.write_cityscapes,
        "pascal_context": lambda path: layouts.write_pascal_context(path, CONTEXT_CLASSES),
        "coco": layouts.write_coco,
        "ade20k": layouts.write_ade20k,
        "camvid": layouts.write_camvid,
    }
    for kind, write in writers.items():
        write(tmp_path / kind)
        assert guess_kind(tmp_path / kind) == kind
        assert find_splits(kind, tmp_path / kind) == ["trainaug" if kind == "voc" else "train", "val"]
        assert all("duplicate" in f.check for f in check_data(kind, tmp_path / kind, workers=1).errors)
    assert guess_kind(root) == "folder"
    assert find_splits("folder", root) == ["train", "val"]
    with pytest.raises(ValueError, match="no known data set"):
        guess_kind(tmp_path)
