"""A whole study through the command, tiny: two arms, two seeds."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from selfreg.run import Run
from tiny import selfreg, write_config


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration and the study of it."""
    folder = tmp_path_factory.mktemp("study")
    config = write_config(folder)
    assert selfreg("study", config, "--arms", "base,mea", "--seeds", "2", "--out", folder / "out", "--jobs", "2") == 0
    return folder


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("seed-*/**/*") if path.is_file()}


def test_every_arm_and_seed_is_an_ordinary_run(study: Path) -> None:
    for arm in ("base", "mea"):
        for seed in (3, 4):
            run = Run.open(study / "out" / arm / f"seed-{seed}")
            assert run.summary() is not None
            assert (run.config().method.arm, run.config().seed) == (arm, seed)
    assert selfreg("evaluate", study / "out" / "mea" / "seed-3") == 0


def test_the_numbers_are_those_of_evaluating_each_run(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((study / "out" / "study.json").read_text(encoding="utf-8"))
    expected: dict[str, list[float]] = {}
    for arm in ("base", "mea"):
        for seed in (3, 4):
            capsys.readouterr()
            assert selfreg("evaluate", study / "out" / arm / f"seed-{seed}", "--json") == 0
            expected.setdefault(arm, []).append(json.loads(capsys.readouterr().out)["miou"])
        assert content["arms"][arm]["measures"]["miou"]["values"] == pytest.approx(expected[arm])
    difference = content["differences"]["base"]["mea"]["miou"]
    assert difference["difference"] == pytest.approx((sum(expected["mea"]) - sum(expected["base"])) / 2)
    assert difference["low"] <= difference["difference"] <= difference["high"]
    assert content["arms"]["base"]["relative_cost"] == 1
    assert set(content["arms"]["mea"]["val_miou_by_epoch"]) == {"0", "1"}


def test_a_table_and_a_page_are_written(study: Path) -> None:
    text = (study / "out" / "study.md").read_text(encoding="utf-8")
    assert "|  | base | mea |" in text
    assert "| seeds | 2 | 2 |" in text
    assert "difference to base" in text
    assert "mea against base (2 seeds)" in text
    page = (study / "out" / "index.html").read_text(encoding="utf-8")
    assert "validation mIoU by epoch" in page


def test_started_again_it_keeps_finished_runs_and_gives_the_same_numbers(study: Path, tmp_path: Path) -> None:
    before, numbers = times(study / "out"), (study / "out" / "study.json").read_bytes()
    page = tmp_path / "page.html"
    arguments = ("--arms", "base,mea", "--seeds", "2", "--out", study / "out", "--html", page)
    assert selfreg("study", study / "tiny.yaml", *arguments) == 0
    assert times(study / "out") == before
    assert (study / "out" / "study.json").read_bytes() == numbers
    assert page.exists()


def test_what_was_measured_is_kept_and_a_damaged_or_foreign_file_is_not_believed(study: Path, tmp_path: Path) -> None:
    arguments = ("--arms", "base,mea", "--seeds", "2", "--out", study / "out", "--html", tmp_path / "page.html")
    base, numbers = study / "out" / "base", (study / "out" / "study.json").read_bytes()
    shutil.rmtree(base / "seed-3" / "evaluation")
    assert selfreg("study", study / "tiny.yaml", *arguments) == 0
    assert not (base / "seed-3" / "evaluation").exists()
    (base / "seed-3.npz").write_bytes((base / "seed-3.npz").read_bytes()[:100])
    shutil.copy(study / "out" / "mea" / "seed-3.npz", base / "seed-4.npz")
    assert selfreg("study", study / "tiny.yaml", *arguments) == 0
    assert (base / "seed-3" / "evaluation").exists()
    assert (study / "out" / "study.json").read_bytes() == numbers


def test_another_configuration_is_refused_and_nothing_is_touched(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = times(study / "out")
    arguments = ("--arms", "base,mea", "--seeds", "2", "--out", study / "out", "--set", "training.epochs=9")
    assert selfreg("study", study / "tiny.yaml", *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert "training.epochs = 2, now 9" in error
    assert error.count("\n") == 0
    assert times(study / "out") == before
    assert "epochs: 2" in (study / "out" / "base" / "arm.yaml").read_text(encoding="utf-8")


def test_a_failing_arm_is_told_and_the_others_are_still_compared(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = "base,mea,broken:method.arm=full,method.taps=[nowhere]"
    html = tmp_path / "page.html"
    status = selfreg(
        "study", study / "tiny.yaml", "--arms", arms, "--seeds", "1", "--out", study / "out", "--html", html
    )
    printed = capsys.readouterr().out
    assert status == 1
    assert "broken seed 3: failed" in printed
    assert "nowhere" in printed
    content = json.loads((study / "out" / "study.json").read_text(encoding="utf-8"))
    assert set(content["failed_runs"]) == {"broken seed 3"}
    assert content["arms"]["broken"]["measures"] == {}
    assert content["differences"]["base"]["mea"]["miou"]["seeds"] == [3]
    assert "images alone" in content["intervals"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arms", "base,mae"], "mae"),
        (["--seeds", "0"], "--seeds"),
        (["--jobs", "0"], "--jobs"),
        (["--set", "data.kind=folder"], "data.root"),
        (["--set", "data.options.evaluation_length=1"], "two or more"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert selfreg("study", write_config(tmp_path), "--out", tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.count("\n") == 0
    assert not (tmp_path / "out").exists()


def test_scores_that_were_edited_are_measured_again(study: Path, tmp_path: Path) -> None:
    arguments = ("--arms", "base,mea", "--seeds", "2", "--out", study / "out", "--html", tmp_path / "page.html")
    assert selfreg("study", study / "tiny.yaml", *arguments) == 0
    kept, numbers = study / "out" / "base" / "seed-3.npz", (study / "out" / "study.json").read_bytes()
    with np.load(kept) as file:
        better = {name: np.ones_like(values) for name, values in file.items()}
    ending = kept.read_bytes()[-66:]
    np.savez_compressed(kept, **better)
    for seal in (b"", ending):
        kept.write_bytes(kept.read_bytes()[:-2] + seal if seal else kept.read_bytes())
        assert selfreg("study", study / "tiny.yaml", *arguments) == 0
        assert (study / "out" / "study.json").read_bytes() == numbers
        np.savez_compressed(kept, **better)


def test_a_run_that_does_not_tell_its_seconds_is_compared_all_the_same(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study / "out", tmp_path / "out")
    summary = tmp_path / "out" / "base" / "seed-3" / "summary.json"
    content = {key: value for key, value in json.loads(summary.read_text()).items() if key != "seconds"}
    summary.write_text(json.dumps(content))
    arguments = ("--arms", "base,mea", "--seeds", "2", "--out", tmp_path / "out")
    assert selfreg("study", study / "tiny.yaml", *arguments) == 0
    seconds = json.loads((tmp_path / "out" / "study.json").read_text())["arms"]["base"]["seconds"]
    assert seconds[0] is None
    assert seconds[1] > 0
