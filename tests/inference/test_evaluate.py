"""Numbers of runs and of anybody's index PNGs."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selfreg.evaluation import evaluate_image, summarise
from selfreg.run import Run
from tiny import selfreg, write_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    folder = tmp_path_factory.mktemp("runs")
    config = write_config(folder, training={"epochs": 1})
    for arm in ("base", "full"):
        assert selfreg("train", config, "--out", folder / arm, "--set", f"method.arm={arm}") == 0
    return Run.open(folder / "base"), Run.open(folder / "full")


def test_evaluate_writes_what_the_predictions_on_disk_give(
    runs: tuple[Run, Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs[0]
    assert selfreg("evaluate", run.folder, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads(run.evaluation_path("val").read_text())
    assert printed == written
    source = run.source("val")
    results = []
    for index, name in enumerate(source.ids):
        with Image.open(run.prediction_folder("val", "last") / f"{name}.png") as picture:
            results.append(evaluate_image(np.asarray(picture), source.read(index).mask, 9))
    expected = summarise(results)
    for key in ("miou", "per_class_iou", "pixel_accuracy", "num_images", "boundary_iou", "missed_unit_rate"):
        assert written[key] == expected[key]
    assert written["num_images"] == 8


def test_validation_while_training_measures_the_same_as_evaluation(runs: tuple[Run, Run]) -> None:
    run = runs[0]
    assert selfreg("evaluate", run.folder) == 0
    written = json.loads(run.evaluation_path("val").read_text())
    summary = run.summary()
    assert summary is not None
    assert written["miou"] == pytest.approx(summary["last_miou"], abs=1e-4)


def test_evaluation_gives_each_class_a_row(runs: tuple[Run, Run], capsys: pytest.CaptureFixture[str]) -> None:
    assert selfreg("evaluate", runs[0].folder) == 0
    out = capsys.readouterr().out
    for name in runs[0].info().class_names:
        assert name in out


def test_compare_gives_paired_differences_and_a_page(
    runs: tuple[Run, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert selfreg("compare", runs[0].folder, runs[1].folder, "--html", page, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    entry = content["differences"]["full - base"]["miou"]
    assert entry["difference"] == pytest.approx(content["runs"]["full"]["miou"] - content["runs"]["base"]["miou"])
    assert entry["low"] <= entry["difference"] <= entry["high"]
    text = page.read_text(encoding="utf-8")
    assert "base" in text
    assert text.count("<html") == 1


def write_maps(folder: Path, maps: dict[str, list[list[int]]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in maps.items():
        Image.fromarray(np.array(rows, np.uint8)).save(folder / f"{name}.png")
    return folder


def test_foreign_predictions_are_scored_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = write_maps(tmp_path / "labels", {"a": [[0, 0], [1, 9]], "b": [[1, 1], [1, 1]]})
    predictions = write_maps(tmp_path / "predictions", {"a": [[0, 1], [1, 0]], "b": [[1, 1], [1, 0]]})
    arguments = (
        "--predictions",
        predictions,
        "--labels",
        labels,
        "--num-classes",
        "2",
        "--ignore-index",
        "9",
        "--json",
    )
    assert selfreg("evaluate", *arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["per_class_iou"] == pytest.approx([1 / 3, 4 / 6])
    assert result["pixel_accuracy"] == pytest.approx(5 / 7)


@pytest.mark.parametrize(
    ("prediction", "message"),
    [({}, "no such prediction"), ({"a": [[0, 0]]}, "has size 2 x 1"), ({"a": [[0, 7], [0, 0]]}, "mask holds 7")],
)
def test_foreign_predictions_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], prediction: dict[str, list[list[int]]], message: str
) -> None:
    labels = write_maps(tmp_path / "labels", {"a": [[0, 0], [1, 1]]})
    predictions = write_maps(tmp_path / "predictions", prediction)
    status = selfreg("evaluate", "--predictions", predictions, "--labels", labels, "--num-classes", "2")
    error = capsys.readouterr().err
    assert status == 2
    assert message in error
    assert "a.png" in error
