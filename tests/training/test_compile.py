"""`training.compile`: the same run on disk, whatever is compiled."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from selfreg.regulation import LossTerms
from selfreg.run import Run
from selfreg.training.compiling import compiled
from tiny import selfreg, write_config


def compile_with(backend: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let `torch.compile` use another backend; returns the names of what is compiled, as it happens."""
    names: list[str] = []
    original = partial(torch.compile, backend=backend)

    def recorded(function: Any) -> Any:
        names.append(getattr(function, "__name__", type(function).__name__))
        return original(function)

    monkeypatch.setattr(torch, "compile", recorded)
    return names


def poisoned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let compiled functions do on a CPU what CUDA graphs do: the next step overwrites their results.

    Returns the names of what is compiled, as it happens.
    """
    names: list[str] = []
    given: list[Tensor] = []

    def overwrite(_device: torch.device) -> None:
        with torch.no_grad():
            for tensor in given:
                tensor.fill_(math.nan)
        given.clear()

    def replayed(function: Any, _device: torch.device, **_options: Any) -> Any:
        names.append(getattr(function, "__name__", type(function).__name__))

        def run(*arguments: Any, **options: Any) -> Any:
            result = function(*arguments, **options)
            given.extend(tensors_in(result))
            return result

        return run

    monkeypatch.setattr("selfreg.training.task.compiled", replayed)
    monkeypatch.setattr("selfreg.training.task.begin_compiled_batch", overwrite)
    return names


def tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value.detach()]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    if isinstance(value, LossTerms):
        parts = vars(value).values()
    return [tensor for part in parts for tensor in tensors_in(part)]


@pytest.mark.parametrize("arm", ["base", "full"])
def test_no_step_reads_what_the_next_one_overwrites(arm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = {"arm": arm, "warm_up": 0.5}
    config = write_config(tmp_path, method=method, training={"epochs": 2, "precision": "bf16-mixed"})
    options = ("--no-page", "--quiet", "--set")
    assert selfreg("train", config, "--out", tmp_path / "none", *options, "training.compile=none") == 0
    names = poisoned(monkeypatch)
    assert selfreg("train", config, "--out", tmp_path / "all", *options, "training.compile=all") == 0
    assert names
    runs = [Run.open(tmp_path / value) for value in ("none", "all")]
    expected, found = (run.network().state_dict() for run in runs)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name
    tables = [next(run.folder.rglob("metrics.csv")).read_text() for run in runs]
    assert "nan" not in tables[1]
    assert tables[0] == tables[1]


def test_a_compiled_loss_that_is_not_finite_is_still_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poisoned(monkeypatch)
    # two steps and more after the broken one, so that it is read after the next has begun
    training = {"epochs": 1, "batch_size": 2, "learning_rate": 1e30, "compile": "losses"}
    config = write_config(tmp_path, method={"warm_up": 1.0}, training=training)
    assert selfreg("train", config, "--out", tmp_path / "run", "--no-page", "--quiet") == 2
    error = capsys.readouterr().err
    assert "segmentation and classification broke" in error
    assert "local_presence 0," in error


def progress_given(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let nothing be compiled; returns the progress that the losses are given where they would be, as it happens."""
    given: list[float] = []

    def recorded(function: Any, _device: torch.device, **_options: Any) -> Any:
        def run(*arguments: Any, **options: Any) -> Any:
            given.append(arguments[2])
            return function(*arguments, **options)

        return run

    monkeypatch.setattr("selfreg.training.task.compiled", recorded)
    return given


def test_the_losses_are_compiled_for_two_values_of_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = progress_given(monkeypatch)
    config = write_config(tmp_path, method={"warm_up": 0.5}, training={"epochs": 4, "compile": "losses"})
    assert selfreg("train", config, "--out", tmp_path / "run", "--no-page", "--quiet") == 0
    assert set(given) == {0.0, 1.0}


def test_nothing_is_compiled_for_the_weights_of_a_ramp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = progress_given(monkeypatch)
    method = {"warm_up": 0.5, "warm_up_shape": "ramp"}
    config = write_config(tmp_path, method=method, training={"epochs": 4, "compile": "losses"})
    assert selfreg("train", config, "--out", tmp_path / "run", "--no-page", "--quiet") == 0
    assert given == [0.0, 1.0, 1.0, 1.0, 1.0]


def test_compiled_functions_are_replayed_as_cuda_graphs_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[dict[str, Any]] = []

    def recorded(function: Any, **options: Any) -> Any:
        modes.append(options)
        return function

    monkeypatch.setattr(torch, "compile", recorded)
    for device in ("cpu", "cuda"):
        compiled(min, torch.device(device))
    assert modes == [{}, {"mode": "reduce-overhead"}]


@pytest.mark.slow
def test_a_compiled_training_leaves_the_run_of_a_plain_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # this backend runs the traced operations as they are, which takes seconds in the place of minutes
    names = compile_with("eager", monkeypatch)
    network = {"name": "training.group_norm_network:GroupNormNetwork", "options": {}}
    method = {"taps": ["auxiliary"], "warm_up": 0.0}
    config = write_config(tmp_path, network=network, method=method, training={"epochs": 1})
    runs = {}
    for value in ("none", "all"):
        options = ("--no-page", "--quiet", "--set", f"training.compile={value}")
        assert selfreg("train", config, "--out", tmp_path / value, *options) == 0
        runs[value] = Run.open(tmp_path / value, allow_code=True)
    assert names == ["SelfRegulation", "plain_loss", "_model_outputs"]
    states = [torch.load(run.checkpoint_path, weights_only=True)["state_dict"] for run in runs.values()]
    assert list(states[0]) == list(states[1])
    for name, tensor in runs["none"].network().state_dict().items():
        assert torch.allclose(tensor, runs["all"].network().state_dict()[name], atol=1e-6), name
    # a run goes on without the compiler that it was started with
    assert selfreg("train", config, "--out", tmp_path / "all", "--extend", "1", "--no-page", "--quiet") == 0
    summary = runs["all"].summary()
    assert summary is not None
    assert summary["epochs"] == 2


def test_a_compiler_that_fails_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_module: Any, _inputs: Any) -> Any:
        raise RuntimeError("no working C++ compiler")

    compile_with(broken, monkeypatch)
    config = write_config(tmp_path, method={"arm": "base"}, training={"epochs": 1, "compile": "losses"})
    assert selfreg("train", config, "--out", tmp_path / "run", "--no-page", "--quiet") == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert "training.compile: torch.compile failed" in error
    assert "no working C++ compiler" in error


def test_gradients_that_are_added_up_are_not_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replayed: dict[str, bool] = {}

    def recorded(function: Any, _device: torch.device, *, replay: bool = True) -> Any:
        replayed[getattr(function, "__name__", type(function).__name__)] = replay
        return function

    monkeypatch.setattr("selfreg.training.task.compiled", recorded)
    for accumulate in (1, 2):
        training = {"epochs": 1, "compile": "all", "accumulate": accumulate}
        config = write_config(tmp_path, training=training)
        assert selfreg("train", config, "--out", tmp_path / f"run_{accumulate}", "--no-page", "--quiet") == 0
        assert replayed == {"SelfRegulation": True, "plain_loss": True, "_model_outputs": accumulate == 1}
