"""Numbers of runs and of anybody's index PNGs."""

import json
import shutil
import warnings
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selfreg.evaluation import evaluate_image, summarise
from selfreg.inference.evaluate import print_confusion
from selfreg.run import Run
from selfreg.terminal import PlainConsole
from tiny import selfreg, write_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    folder = tmp_path_factory.mktemp("runs")
    data = {"options": {"length": 8, "evaluation_length": 8, "size": [64, 96]}}
    config = write_config(folder, data=data, training={"epochs": 1})
    for arm in ("base", "full"):
        assert selfreg("train", config, "--out", folder / arm, "--no-page", "--set", f"method.arm={arm}") == 0
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


def test_a_split_predicted_in_shares_gives_the_same_file(
    runs: tuple[Run, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = runs[0]
    assert selfreg("evaluate", whole.folder) == 0
    shared = Run(tmp_path / "shared")
    shutil.copytree(whole.folder, shared.folder, ignore=shutil.ignore_patterns("evaluation"))
    for number, expected in ((2, 3), (1, 6), (3, 8)):
        assert selfreg("evaluate", shared.folder, "--shard", f"{number}/3") == 0
        assert len(list(shared.prediction_folder("val", "last").glob("*.png"))) == expected
        assert not shared.evaluation_path("val").exists()
    made = {path: path.stat().st_mtime_ns for path in shared.prediction_folder("val", "last").glob("*.png")}
    assert selfreg("evaluate", shared.folder) == 0
    assert shared.evaluation_path("val").read_bytes() == whole.evaluation_path("val").read_bytes()
    for path, time in made.items():
        assert path.stat().st_mtime_ns == time
        assert path.read_bytes() == (whole.prediction_folder("val", "last") / path.name).read_bytes()
    capsys.readouterr()


def test_other_data_of_the_same_names_are_predicted_anew_and_named_beside_the_numbers(
    runs: tuple[Run, Run], tmp_path: Path
) -> None:
    run = runs[0]
    assert selfreg("evaluate", run.folder) == 0
    maps = {path: path.read_bytes() for path in run.prediction_folder("val", "last").glob("*.png")}
    others = tmp_path / "others"
    source = run.source("val")
    for index, name in enumerate(source.ids):
        pair = source.read((index + 1) % len(source))
        for kind, pixels in (("images", pair.image), ("masks", pair.mask)):
            path = others / kind / "val" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    (others / "labels.json").write_text(json.dumps({"classes": run.info().class_names, "void": 255}))
    data = f"data={{kind: folder, root: {others}}}"
    assert selfreg("evaluate", run.folder, "--set", data) == 0
    told = json.loads(run.evaluation_path("val").read_text())["data"]
    assert told == {"kind": "folder", "root": str(others.resolve()), "options": {}}
    first, second = (run.prediction_folder("val", "last") / f"{name}.png" for name in source.ids[:2])
    assert first.read_bytes() == maps[second]
    assert selfreg("evaluate", run.folder) == 0
    assert {path: path.read_bytes() for path in maps} == maps


def test_photographs_predicted_in_shares_are_the_same_files(runs: tuple[Run, Run], tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    source = runs[0].source("val")
    for index in range(5):
        Image.fromarray(source.read(index).image).save(photographs / f"{index}.png")
    assert selfreg("predict", runs[0].folder, photographs, "--out", tmp_path / "whole") == 0
    for number, expected in ((1, ["0", "2", "4"]), (2, ["0", "1", "2", "3", "4"])):
        assert (
            selfreg("predict", runs[0].folder, photographs, "--out", tmp_path / "shares", "--shard", f"{number}/2") == 0
        )
        assert sorted(path.stem for path in (tmp_path / "shares").iterdir()) == expected
    for path in (tmp_path / "shares").iterdir():
        assert path.read_bytes() == (tmp_path / "whole" / path.name).read_bytes()


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2"])
def test_a_share_that_is_none_is_refused(runs: tuple[Run, Run], capsys: pytest.CaptureFixture[str], shard: str) -> None:
    assert selfreg("evaluate", runs[0].folder, f"--shard={shard}") == 2
    assert f"--shard {shard}" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ([[0, 0], [255, 255]], "all labelled pixels are 'class 0', all others are void, as if binary masks"),
        ([[255, 255], [255, 255]], "no pixel is labelled, all are void"),
    ],
)
def test_labels_that_make_every_prediction_right_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], label: list[list[int]], message: str
) -> None:
    labels = write_maps(tmp_path / "labels", {"a": label})
    predictions = write_maps(tmp_path / "predictions", {"a": [[0, 0], [0, 0]]})
    assert selfreg("evaluate", "--predictions", predictions, "--labels", labels, "--num-classes", "2") == 2
    assert message in capsys.readouterr().err


def test_labels_of_one_class_without_void_are_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = write_maps(tmp_path / "labels", {"a": [[0, 0], [0, 0]]})
    predictions = write_maps(tmp_path / "predictions", {"a": [[0, 0], [0, 1]]})
    assert selfreg("evaluate", "--predictions", predictions, "--labels", labels, "--num-classes", "2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["pixel_accuracy"] == 0.75


def test_the_confusion_matrix_is_readable_at_80_columns() -> None:
    names = [f"a class with a long name {index}" for index in range(30)]
    counts = np.zeros((30, 31), int)
    counts[range(30), range(30)] = 1
    counts[2, :4] = 120, 1, 876, 3
    counts[4] = 0
    printed = StringIO()
    print_confusion({"class_names": names, "confusion_matrix": counts.tolist()}, PlainConsole(width=80, file=printed))
    lines = [line.rstrip() for line in printed.getvalue().splitlines()]
    assert all(len(line) <= 80 for line in lines)
    rows = [line.split() for line in lines if "a class with" in line]
    assert len(rows) == 3 * 30
    assert rows[2][-2:] == ["12", "88"]
    assert rows[4][0] == "5"
    assert rows[4][-1].endswith("…")
    # columns are numbered through all blocks
    numbers = [int(word) for line in lines if line.startswith(" label") for word in line.split()[1:]]
    assert numbers == list(range(1, 31))


def test_evaluate_prints_the_confusion_matrix_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = write_maps(tmp_path / "labels", {"a": [[0, 0, 1, 1]], "b": [[1, 1, 1, 1]]})
    predictions = write_maps(tmp_path / "predictions", {"a": [[0, 1, 1, 1]], "b": [[1, 1, 1, 1]]})
    arguments: list[str | Path] = ["evaluate", "--predictions", predictions, "--labels", labels, "--num-classes", "2"]
    assert selfreg(*arguments) == 0
    assert "confusion" not in capsys.readouterr().out
    assert selfreg(*arguments, "--confusion") == 0
    printed = capsys.readouterr().out.partition("confusion")[2].splitlines()
    assert [line.split()[-2:] for line in printed[-2:]] == [["50", "50"], ["1", "100"]]


@pytest.mark.parametrize("command", ["evaluate", "compare", "predict", "export", "train"])
def test_every_command_that_uses_weights_says_that_their_training_has_not_ended(
    command: str, runs: tuple[Run, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*_arguments: object) -> None:
        raise ValueError("enough is known, and a whole export takes long")

    if command == "export":
        monkeypatch.setattr("selfreg.inference.export._export_program", end)
    for run in runs:
        shutil.copytree(run.folder, tmp_path / run.name)
        shutil.rmtree(tmp_path / run.name / "evaluation", ignore_errors=True)
    (tmp_path / "base" / "summary.json").unlink()
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    base, full = tmp_path / "base", tmp_path / "full"
    words: dict[str, list[str | Path]] = {
        "evaluate": [base],
        "compare": [base, full],
        "predict": [base, tmp_path / "photo.png", "--out", tmp_path / "masks"],
        "export": [base, tmp_path / "model.pt2", "--format", "torch-export"],
        "train": [base / "config.yaml", "--out", tmp_path / "on", "--dry-run", "--set", f"network.from_run={base}"],
    }
    with pytest.warns(UserWarning, match="base: training has not ended; these are its weights so far"):
        assert selfreg(command, *words[command]) == (2 if command == "export" else 0)


def test_a_training_that_has_ended_is_used_without_a_word(runs: tuple[Run, Run], tmp_path: Path) -> None:
    shutil.copytree(runs[0].folder, tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert selfreg("evaluate", tmp_path / "run") == 0
