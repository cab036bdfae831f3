"""Folders of runs, folders of predictions, and folders of photographs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from malformed.pieces import COLOURS, Write, content, dangling, folder, loop, refusal, text
from selfreg.config import Config
from selfreg.data.labels import Labels, voc_palette
from selfreg.data.masks import ColourMaskError
from selfreg.inference import find_images
from selfreg.inference.evaluate import evaluate_folders, label_folder
from selfreg.inference.predict import prediction_path
from selfreg.run import Run
from selfreg.run_info import RunInfo

PALETTE = tuple((int(red), int(green), int(blue)) for red, green, blue in voc_palette())
INFO: dict[str, Any] = {
    "class_names": ["a", "b"],
    "palette": [list(colour) for colour in PALETTE],
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "versions": {"torch": "2"},
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", Config(), RunInfo(("a", "b"), PALETTE, (0.5,) * 3, (0.5,) * 3, {}))


def info(**values: Any) -> Write:
    return text(json.dumps({**INFO, **values}))


def lacking(key: str) -> Write:
    return text(json.dumps({name: value for name, value in INFO.items() if name != key}))


INFOS: dict[str, Write] = {
    "empty": text(""),
    "cut": text(json.dumps(INFO)[:40]),
    "UTF-16": content(json.dumps(INFO).encode("utf-16")),
    "Latin-1": content('{"class_names": ["Straße"]}'.encode("latin-1")),
    "list": text("[]"),
    "null": text("null"),
    "nested 100,000 deep": text("[" * 100_000),
    "folder": folder,
    "dangling link": dangling,
    "link to itself": loop,
    "nothing": str,
    **{f"no {key}": lacking(key) for key in INFO},
    "classes as a word": info(class_names="ab"),
    "classes as numbers": info(class_names=[1, 2]),
    "no class": info(class_names=[]),
    "a class twice": info(class_names=["a", "a"]),
    "a class of two lines": info(class_names=["a", "b\nc"]),
    "255 classes": info(class_names=[f"c{number}" for number in range(255)]),
    "palette of two colours": info(palette=[[0, 0, 0], [1, 1, 1]]),
    "palette above 255": info(palette=[[256, 0, 0], *INFO["palette"][1:]]),
    "palette below 0": info(palette=[[-1, 0, 0], *INFO["palette"][1:]]),
    "palette of fractions": info(palette=[[0.5, 0, 0], *INFO["palette"][1:]]),
    "palette of words": info(palette=["red"] * 256),
    "palette as a number": info(palette=3),
    "mean of two": info(mean=[0.5, 0.5]),
    "mean of NaN": info(mean=[float("nan"), 0.5, 0.5]),
    "mean in words": info(mean=["0.5", "0.5", "0.5"]),
    "standard deviation of 0": info(std=[0.5, 0, 0.5]),
    "standard deviation of infinity": info(std=[0.5, float("inf"), 0.5]),
    "standard deviation as one number": info(std=0.5),
    "versions as a list": info(versions=["torch"]),
}


@pytest.mark.parametrize("name", INFOS)
def test_a_broken_description_of_a_run_is_refused_by_name(run: Run, name: str) -> None:
    path = run.folder / "run.json"
    path.unlink()
    INFOS[name](path)
    assert "the run is damaged" in refusal(run.info, path)


SUMMARIES: dict[str, Write] = {
    "empty": text(""),
    "cut": text('{"epochs": 1'),
    "list": text("[]"),
    "NaN": text('{"last_miou": NaN}'),
    "nested 100,000 deep": text("[" * 100_000),
    "UTF-16": content("{}".encode("utf-16")),
    "folder": folder,
    "words for numbers": text('{"last_miou": "high"}'),
    "lists for numbers": text('{"best_epoch": [1]}'),
    "a negative time": text('{"seconds": -1}'),
    "null for a number": text('{"epochs": null}'),
}


@pytest.mark.parametrize("name", SUMMARIES)
def test_a_broken_summary_is_refused_by_name(run: Run, name: str) -> None:
    path = run.folder / "summary.json"
    SUMMARIES[name](path)
    refusal(run.summary, path)


LOGS: dict[str, Write] = {
    "words for numbers": text("epoch,loss\n0,much\n"),
    "words for epochs": text("epoch,loss\nfirst,1\n"),
    "epochs without end": text("epoch,loss\ninf,1\n"),
    "zeros": content(b"epoch,loss\n0,\0\n"),
    "Latin-1": content("epoch,loss\n0,ß\n".encode("latin-1")),
    "folder": folder,
}


@pytest.mark.parametrize("name", LOGS)
def test_a_broken_log_is_refused_by_name(run: Run, name: str) -> None:
    path = run.log_folder / "attempt_0" / "metrics.csv"
    path.parent.mkdir(parents=True)
    LOGS[name](path)
    refusal(lambda: run.history("loss"), path)


def test_a_log_folder_of_another_name_is_left_out(run: Run) -> None:
    for name in ("attempt_1", "attempt_x", "attempt_", "attempt_-1", "attempt_0", "attempt_10"):
        (run.log_folder / name).mkdir(parents=True)
    assert [path.name for path in run.attempts()] == ["attempt_0", "attempt_1", "attempt_10"]


PLACES: dict[str, Write] = {
    "file": text("x"),
    "empty folder": folder,
    "dangling link": dangling,
    "link to itself": loop,
}


@pytest.mark.parametrize("name", [*PLACES, "nothing"])
def test_what_is_no_run_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x"
    PLACES.get(name, str)(path)
    assert "holds no run" in refusal(lambda: Run.open(path), path)


def write_maps(root: Path, **maps: Any) -> Path:
    root.mkdir()
    for name, values in maps.items():
        Image.fromarray(np.asarray(values, np.uint8)).save(root / f"{name}.png")
    return root


PREDICTIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, "no such prediction"),
    "empty": (lambda path: path.write_bytes(b""), "unreadable"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:40]), "unreadable"),
    "text": (lambda path: path.write_text("x", encoding="utf-8"), "unreadable"),
    "colours": (lambda path: Image.new("RGB", (2, 2)).save(path), "save class indices"),
    "16 bits": (lambda path: Image.fromarray(np.zeros((2, 2), np.uint16)).save(path), "save class indices"),
    "JPEG": (lambda path: Image.new("L", (2, 2)).save(path, "JPEG"), "mask is a JPEG"),
    "a value that is no class": (lambda path: Image.new("L", (2, 2), 7).save(path), "mask holds 7"),
    "wider": (lambda path: Image.new("L", (3, 2)).save(path), "has size 3 x 2, its label 2 x 2"),
    "one pixel": (lambda path: Image.new("L", (1, 1)).save(path), "has size 1 x 1"),
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_a_broken_prediction_is_refused_by_name(tmp_path: Path, name: str) -> None:
    labels = write_maps(tmp_path / "labels", a=[[0, 1], [1, 0]], b=[[0, 0], [1, 1]])
    predictions = write_maps(tmp_path / "predictions", a=[[0, 1], [1, 0]], b=[[0, 0], [1, 1]])
    change, message = PREDICTIONS[name]
    change(predictions / "b.png")
    kind = ColourMaskError if name == "colours" else ValueError
    assert message in refusal(lambda: evaluate_folders(predictions, labels, 2), predictions / "b.png", kind)


@pytest.mark.parametrize("place", [dangling, loop, folder], ids=["dangling link", "link to itself", "folder"])
def test_a_prediction_that_is_no_file_is_refused_by_name(tmp_path: Path, place: Write) -> None:
    labels = write_maps(tmp_path / "labels", a=[[0, 1]])
    predictions = write_maps(tmp_path / "predictions")
    place(predictions / "a.png")
    assert "no such prediction" in refusal(lambda: evaluate_folders(predictions, labels, 2), predictions / "a.png")


def test_leftovers_and_links_back_are_no_label_maps(tmp_path: Path) -> None:
    labels = write_maps(tmp_path / "labels", a=[[0, 1]])
    (labels / ".a.png.123.tmp.png").write_bytes(b"half")
    (labels / "again").symlink_to(labels)
    predictions = write_maps(tmp_path / "predictions", a=[[0, 1]])
    assert evaluate_folders(predictions, labels, 2)["num_images"] == 1


@pytest.mark.parametrize("name", PLACES)
def test_label_maps_that_are_no_folder_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x"
    PLACES[name](path)
    refusal(lambda: label_folder(path, 2), path)


@pytest.mark.parametrize("count", [0, -1, 255, 10**9])
def test_a_number_of_classes_that_cannot_be_is_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(ValueError, match="--num-classes"):
        label_folder(write_maps(tmp_path / "labels", a=[[0]]), count)


@pytest.mark.parametrize("image_id", ["../x", "/x", "a/../../x", "..", "a\0b"])
def test_an_id_that_leads_out_of_the_folder_is_refused(tmp_path: Path, image_id: str) -> None:
    assert "leads out" in refusal(lambda: prediction_path(tmp_path, image_id), tmp_path)


@pytest.mark.parametrize("image_id", ["x", "a/b", "..x", "a..b", "x.y"])
def test_an_id_with_dots_or_folders_stays_in_the_folder(tmp_path: Path, image_id: str) -> None:
    assert prediction_path(tmp_path, image_id) == tmp_path / f"{image_id}.png"


def test_only_photographs_are_predicted(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.PNG", "PNG")
    (tmp_path / ".b.png.12.tmp.png").write_bytes(b"half")
    (tmp_path / "c.png").mkdir()
    (tmp_path / "d.txt").write_text("x", encoding="utf-8")
    assert find_images(tmp_path) == [tmp_path / "a.PNG"]


@pytest.mark.parametrize("name", PLACES)
def test_a_place_without_photographs_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x"
    PLACES[name](path)
    if name == "file":  # said to be a photograph; reading it tells that it is none
        assert find_images(path) == [path]
    else:
        refusal(lambda: find_images(path), path)


def test_classes_in_memory_are_checked_like_those_on_disk() -> None:
    with pytest.raises(ValueError, match="254"):
        Labels(tuple(f"c{number}" for number in range(300)))
