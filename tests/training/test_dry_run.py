"""One step tells what a run would take, and leaves nothing behind."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from selfreg.config import load_config
from selfreg.training.dry_run import dry_run
from selfreg.training.task import SegmentationTask
from tiny import selfreg, write_config


@pytest.mark.parametrize("arm", ["base", "full"])
def test_a_dry_run_counts_parameters_taps_and_steps(tmp_path: Path, arm: str) -> None:
    found = dry_run(load_config(write_config(tmp_path, method={"arm": arm})))
    assert found.steps_per_epoch == 2
    assert (found.exit_parameters > 0) == (arm == "full")
    assert (found.taps is None) == (arm == "base")
    assert found.loss > 0
    assert found.step_seconds > 0
    assert found.images == found.batch_size == 4
    assert found.total_seconds == pytest.approx(4 * found.step_seconds)


def test_a_batch_that_might_not_fit_into_memory_is_estimated_from_two_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfreg.training.dry_run._MEMORY_SHARE", -1.0)
    found = dry_run(load_config(write_config(tmp_path, method={"arm": "base"})))
    assert (found.images, found.batch_size) == (2, 4)
    assert found.total_seconds == pytest.approx(4 * 2 * found.step_seconds)
    assert any(line.startswith("whole batch") for line in found.lines())


@pytest.mark.parametrize(("precision", "half"), [("auto", False), ("bf16-mixed", True)])
def test_a_dry_run_measures_the_precision_of_the_training(
    precision: str, half: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[bool] = set()
    loss_of = SegmentationTask.loss_of

    def observed(*arguments: Any, **options: Any) -> Any:
        seen.add(torch.is_autocast_enabled("cpu"))
        return loss_of(*arguments, **options)

    monkeypatch.setattr(SegmentationTask, "loss_of", observed)
    dry_run(load_config(write_config(tmp_path, training={"precision": precision})))
    assert seen == {half}


def test_a_step_of_milliseconds_is_told_in_milliseconds(tmp_path: Path) -> None:
    found = dry_run(load_config(write_config(tmp_path, method={"arm": "base"})))
    quick, slow = (replace(found, step_seconds=seconds).lines() for seconds in (0.0247, 0.25))
    assert any(line.startswith("one step         25 ms and ") for line in quick)
    assert any(line.startswith("one step         0.25 s and ") for line in slow)


def test_the_option_prints_and_writes_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert selfreg("train", write_config(tmp_path), "--out", tmp_path / "run", "--dry-run") == 0
    out = capsys.readouterr().out
    for word in ("parameters", "one step", "steps per epoch", "whole run", "stride"):
        assert word in out
    assert "\\n" not in out
    assert not (tmp_path / "run").exists()
    for option in (["--resume"], ["--extend", "2"]):
        assert selfreg("train", write_config(tmp_path), "--out", tmp_path / "run", "--dry-run", *option) == 2
        assert "--dry-run starts nothing and continues nothing" in capsys.readouterr().err


def test_an_auxiliary_head_of_the_networks_own_is_trained_in_the_base_arm_too(tmp_path: Path) -> None:
    network = {"name": "ocrnet/resnet18", "options": {"width": 16}}
    found = dry_run(load_config(write_config(tmp_path, network=network, method={"arm": "base"})))
    assert found.taps is not None
    assert [tap.is_class_map for tap in found.taps] == [True]
