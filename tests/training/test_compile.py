"""`training.compile`: the same run on disk, whatever is compiled."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from selfreg.run import Run
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
