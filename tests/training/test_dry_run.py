"""One step tells what a run would take, and leaves nothing behind."""

from pathlib import Path

import pytest

from selfreg.config import load_config
from selfreg.training.dry_run import dry_run
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
