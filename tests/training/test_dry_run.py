"""One step tells what a run would take, and leaves nothing behind."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from selfreg.config import load_config
from selfreg.training.dry_run import dry_run
from selfreg.training.precision import precision_of
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


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("training.accelerator=gpu", "No supported gpu backend"),
        ("training.strategy=foo", "training.accelerator, devices, num_nodes, strategy"),
        ("training.precision=16-mixed", "training.precision 16-mixed needs a GPU"),
        ("training.learning_rate=1e30", "the loss is not finite at step 1"),
    ],
)
def test_what_a_training_refuses_a_dry_run_refuses(
    option: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, training={"epochs": 1})
    for extra in (["--dry-run"], ["--dry-run", "--json"]):
        assert selfreg("train", config, "--out", tmp_path / "run", *extra, "--set", option) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.strip().count("\n") == 0
    assert not (tmp_path / "run").exists()


def test_batches_that_cannot_be_shared_out_are_refused_by_a_dry_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, training={"devices": 2, "batch_size": 3})
    assert selfreg("train", config, "--out", tmp_path / "run", "--dry-run") == 2
    assert "choose a multiple" in capsys.readouterr().err


def test_a_gpu_that_emulates_bfloat16_trains_in_float16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(write_config(tmp_path, training={"accelerator": "auto"}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for emulates, expected in ((True, "16-mixed"), (False, "bf16-mixed")):

        def supported(including_emulation: bool = True, *, emulates: bool = emulates) -> bool:
            return including_emulation or not emulates

        monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
        assert precision_of(config) == expected
