"""Kept predictions count only for the weights, photographs and settings that they were made from; classes by name."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fixtures.folder import write_folder
from selfreg.data import Folder, in_class_order
from selfreg.run import Run
from tiny import selfreg, write_config

CLASSES, REORDERED = ("sky", "road", "car"), ("car", "road", "sky")


def reorder(root: Path, out: Path) -> Path:
    """The same data set, its classes listed and numbered in another order."""
    shutil.copytree(root, out)
    for path in out.glob("masks/*/*.png"):
        with Image.open(path) as mask:
            values = np.asarray(mask)
        renumbered = np.where(values == 255, 255, 2 - values).astype(np.uint8)
        Image.fromarray(renumbered).save(path)
    (out / "labels.json").write_text(json.dumps({"classes": REORDERED, "void": 255}), encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, the same one reordered, and a run on each."""
    place = tmp_path_factory.mktemp("place")
    write_folder(place / "good", splits={"train": 4, "val": 3}, size=(64, 96), classes=CLASSES)
    reorder(place / "good", place / "reordered")
    for name in ("good", "reordered"):
        data = {"kind": "folder", "root": str(place / name), "options": {}}
        config = write_config(place, data=data, training={"epochs": 2, "learning_rate": 1e-2})
        assert selfreg("train", config, "--out", place / "runs" / name, "--no-page") == 0
    return place


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    """A copy of the data and the run, which points at the copied data."""
    for name in ("good", "reordered"):
        shutil.copytree(place / name, tmp_path / name)
        shutil.copytree(place / "runs" / name, tmp_path / "runs" / name)
        config = tmp_path / "runs" / name / "config.yaml"
        config.write_text(config.read_text().replace(str(place), str(tmp_path)), encoding="utf-8")
    return tmp_path


def numbers(capsys: pytest.CaptureFixture[str], run: Path, *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert selfreg("evaluate", run, "--json", *arguments) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return {key: value for key, value in result.items() if key != "data"}


def fresh(capsys: pytest.CaptureFixture[str], run: Path, *arguments: str) -> dict[str, Any]:
    """The numbers of the run with nothing kept."""
    shutil.rmtree(run / "evaluation", ignore_errors=True)
    return numbers(capsys, run, *arguments)


def test_photographs_replaced_under_the_same_names_are_predicted_again(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy / "runs" / "good"
    before = numbers(capsys, run)
    for seed, path in enumerate(sorted((copy / "good" / "images" / "val").iterdir())):
        times = path.stat()
        noise = np.random.default_rng(seed).integers(0, 255, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    found = numbers(capsys, run)
    assert found != before
    assert found == fresh(capsys, run)


def test_masks_replaced_under_the_same_names_are_scored_anew(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy / "runs" / "good"
    before = numbers(capsys, run)
    for path in (copy / "good" / "masks" / "val").iterdir():
        Image.fromarray(np.zeros((64, 96), np.uint8)).save(path)
    assert numbers(capsys, run)["pixel_accuracy"] != before["pixel_accuracy"]


@pytest.mark.parametrize(("void", "message"), [((0, 1, 2), "no pixel is labelled"), ((1, 2), "as if binary masks")])
def test_a_run_is_not_measured_on_labels_that_tell_nothing(
    copy: Path, capsys: pytest.CaptureFixture[str], void: tuple[int, ...], message: str
) -> None:
    for path in (copy / "good" / "masks" / "val").iterdir():
        with Image.open(path) as picture:
            mask = np.asarray(picture)
        Image.fromarray(np.where(np.isin(mask, void), 255, mask).astype(np.uint8)).save(path)
    capsys.readouterr()
    assert selfreg("evaluate", copy / "runs" / "good") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("forgery", ["the labels", "the labels with the old seal", "another image's", "cut", "empty"])
def test_class_maps_that_this_user_did_not_compute_are_not_believed_whatever_their_time(
    copy: Path, capsys: pytest.CaptureFixture[str], forgery: str
) -> None:
    run = copy / "runs" / "good"
    before = numbers(capsys, run)
    maps = sorted(Run.open(run).prediction_folder("val", "last").glob("*.png"))
    assert len(maps) == 3
    old = [path.read_bytes() for path in maps]
    for index, path in enumerate(maps):
        mask = copy / "good" / "masks" / "val" / path.name
        path.write_bytes(
            {
                "the labels": mask.read_bytes(),
                "the labels with the old seal": mask.read_bytes()[:-12] + old[index][-101:],
                "another image's": old[index - 1],
                "cut": old[index][:50],
                "empty": b"",
            }[forgery]
        )
        future = time.time() + 1e6
        os.utime(path, (future, future))
    assert numbers(capsys, run) == before
    assert [path.read_bytes() for path in maps] == old


def test_class_maps_of_another_user_are_predicted_again(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy / "runs" / "good"
    before = numbers(capsys, run)
    maps = {path: path.read_bytes() for path in Run.open(run).prediction_folder("val", "last").glob("*.png")}
    monkeypatch.setattr("selfreg.seals._key", lambda: bytes(32))
    assert numbers(capsys, run) == before
    assert all(path.read_bytes() != content for path, content in maps.items())


def test_other_weights_of_an_older_time_are_predicted_with(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy / "runs" / "good"
    before = numbers(capsys, run)
    weights = Run.open(run).weights_path("last")
    network = Run.open(run).network()
    for parameter in network.parameters():
        parameter.data.neg_()
    Run.open(run).save_weights("last", network)
    os.utime(weights, (0, 0))
    found = numbers(capsys, run)
    assert found["confusion_matrix"] != before["confusion_matrix"]
    assert found == fresh(capsys, run)


def test_other_settings_are_predicted_anew(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy / "runs" / "good"
    before = numbers(capsys, run)
    zoomed = numbers(capsys, run, "--set", "validation.scales=[0.5]")
    assert zoomed["confusion_matrix"] != before["confusion_matrix"]
    assert numbers(capsys, run) == before
    assert fresh(capsys, run, "--set", "validation.scales=[0.5]") == zoomed


def test_what_is_kept_is_not_predicted_again(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy / "runs" / "good"
    numbers(capsys, run)
    times = {path: path.stat().st_mtime_ns for path in (run / "evaluation").rglob("*.png")}
    numbers(capsys, run)
    assert times == {path: path.stat().st_mtime_ns for path in (run / "evaluation").rglob("*.png")}


def test_the_same_classes_in_another_order_give_the_same_numbers(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copy / "runs" / "good"
    expected = numbers(capsys, run)
    assert expected["per_class_iou"] != expected["per_class_iou"][::-1]
    assert numbers(capsys, run, "--set", f"data.root={copy / 'reordered'}") == expected
    assert fresh(capsys, run, "--set", f"data.root={copy / 'reordered'}") == expected


@pytest.mark.parametrize("classes", [("sky", "road", "lorry"), ("sky", "road", "car", "lorry"), ("sky", "road")])
def test_other_class_names_are_refused_by_name(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: tuple[str, ...]
) -> None:
    write_folder(tmp_path / "other", size=(64, 96), classes=classes)
    capsys.readouterr()
    assert selfreg("evaluate", copy / "runs" / "good", "--set", f"data.root={tmp_path / 'other'}") == 2
    error = capsys.readouterr().err
    assert "the data lack 'car'" in error or "the data also have 'lorry'" in error
    assert error.count("\n") == 1


def test_runs_of_one_data_set_in_two_orders_are_compared_by_name(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = [numbers(capsys, copy / "runs" / name) for name in ("good", "reordered")]
    assert expected[1]["class_names"] == list(REORDERED)
    page = tmp_path / "page.html"
    assert selfreg("compare", copy / "runs" / "good", copy / "runs" / "reordered", "--json", "--html", page) == 0
    sides = json.loads(capsys.readouterr().out)["runs"]
    assert sides["good"]["per_class_iou"] == expected[0]["per_class_iou"]
    assert sides["reordered"]["per_class_iou"] == pytest.approx(expected[1]["per_class_iou"][::-1])
    assert page.exists()


def test_a_resumed_training_meets_its_classes_by_name(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.open(copy / "runs" / "good")
    summary = run.summary()
    (run.folder / "summary.json").unlink()
    shutil.rmtree(copy / "good")
    shutil.copytree(copy / "reordered", copy / "good")
    assert selfreg("train", run.folder / "config.yaml", "--out", run.folder, "--resume") == 0
    resumed = run.summary()
    assert summary is not None
    assert resumed is not None
    assert resumed["last_miou"] == summary["last_miou"]
    assert numbers(capsys, run.folder)["miou"] == pytest.approx(summary["last_miou"], abs=1e-4)


def test_a_split_of_other_classes_than_the_training_split_is_refused(place: Path) -> None:
    source = Folder(place / "good", "val")
    assert in_class_order(source, CLASSES, "x") is source
    with pytest.raises(ValueError, match="the data lack 'tree'"):
        in_class_order(source, ("sky", "road", "car", "tree"), "x")


def test_tags_colours_and_files_are_reordered_with_the_masks(tmp_path: Path) -> None:
    colours = [[1, 1, 1], [2, 2, 2], [3, 3, 3]]
    extra = {"palette": colours, "image_labels": {"v0": ["car"], "v1": ["sky", "road"]}}
    source = Folder(write_folder(tmp_path / "data", extra=extra), "val")
    found: Any = in_class_order(source, ("car", "sky", "road"), "x")
    assert found.tags(0).tolist() == [1, 0, 0]
    assert found.tags(1).tolist() == [0, 1, 1]
    assert found.labels.palette[:3].tolist() == [colours[2], colours[0], colours[1]]
    assert found.files(1) == source.files(1)
    before, after = source.read(0).mask, found.read(0).mask
    assert set(np.unique(before)) == {0, 1, 2, 255}
    for old, new in ((0, 1), (1, 2), (2, 0), (255, 255)):
        assert np.array_equal(before == old, after == new)


@pytest.mark.parametrize(
    "override",
    [
        "network.name=bogus",
        "data.short_side=32",
        "data.mean=[0, 0, 0]",
        "training.batch_size=3",
        "seed=1",
        "method.arm=base",
        "data={kind: folder, short_side: 32}",
        "data.train_split=val",
    ],
)
@pytest.mark.parametrize("verb", ["evaluate", "compare", "--shard"])
def test_an_override_that_changes_no_number_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str], override: str, verb: str
) -> None:
    runs = [place / "runs" / name for name in ("good", "reordered")]
    words: list[Any] = {
        "evaluate": ["evaluate", runs[0]],
        "compare": ["compare", *runs],
        "--shard": ["evaluate", runs[0], "--shard", "1/2"],
    }[verb]
    assert selfreg(*words, "--set", override) == 2
    error = capsys.readouterr().err
    assert "has no effect" in error
    assert "data.root" in error
    assert error.count("\n") == 1


def test_a_split_of_the_configuration_has_no_effect_where_one_is_given(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = place / "runs" / "good"
    assert selfreg("evaluate", run, "--split", "train", "--set", "data.val_split=val") == 2
    assert "data.val_split has no effect" in capsys.readouterr().err
    assert selfreg("evaluate", run, "--set", "data.val_split=train") == 0


def test_validation_while_training_tiles_and_zooms_as_evaluation_does(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"kind": "folder", "root": str(place / "good"), "options": {}, "short_side": 160}
    config = write_config(tmp_path, data=data, training={"epochs": 1}, validation={"tile": 128, "flip": True})
    assert selfreg("train", config, "--out", tmp_path / "run") == 0
    summary = Run.open(tmp_path / "run").summary()
    assert summary is not None
    assert numbers(capsys, tmp_path / "run")["miou"] == pytest.approx(summary["last_miou"], abs=1e-6)
