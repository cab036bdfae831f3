"""Loggers: which are made, where they write, and that none goes online by itself."""

from pathlib import Path
from typing import Any

import pytest

from selfreg.config import parse_config
from selfreg.run import Run
from selfreg.training import logs
from tiny import TINY


def make(tmp_path: Path, *names: str) -> list[Any]:
    config = parse_config({**TINY, "training": {**TINY["training"], "loggers": list(names)}}, origin="test")
    return logs.make_loggers(config, Run(tmp_path / "run"))


def test_csv_is_always_written_and_making_loggers_writes_nothing(tmp_path: Path) -> None:
    assert [type(logger).__name__ for logger in make(tmp_path, "tensorboard")] == ["CSVLogger", "TensorBoardLogger"]
    assert [type(logger).__name__ for logger in make(tmp_path)] == ["CSVLogger"]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=rf"pip install 'selfreg\[{name}\]'"):
        make(tmp_path, "csv", name)


def test_mlflow_without_its_database_is_refused_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(logs, "find_spec", lambda name: None if name == "sqlalchemy" else True)
    with pytest.raises(ValueError, match=r"mlflow-skinny cannot: pip install 'selfreg\[mlflow\]'"):
        make(tmp_path, "mlflow")


@pytest.mark.parametrize(("mode", "offline"), [(None, True), ("online", False), ("offline", True)])
def test_nothing_goes_online_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str | None, offline: bool
) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr(logs, "find_spec", lambda _: True)
    monkeypatch.setattr(logs, "WandbLogger", lambda **options: made.update(wandb=options))
    monkeypatch.setattr(logs, "MLFlowLogger", lambda **options: made.update(mlflow=options))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("WANDB_MODE", mode)
    make(tmp_path, "wandb", "mlflow")
    assert made["wandb"]["offline"] == offline
    assert made["wandb"]["save_dir"] == tmp_path / "run" / "logs"
    assert made["mlflow"]["tracking_uri"] == f"sqlite:///{(tmp_path / 'run' / 'logs').resolve()}/mlflow.db"
