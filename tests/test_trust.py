"""Nothing that comes from elsewhere runs code, reaches into a page, or makes a connection."""

import json
import os
import pickle
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fixtures.folder import write_folder
from selfreg.config.weak import ClassifierConfig
from selfreg.networks import build_network
from selfreg.run import Run
from selfreg.weak.classifier_network import build_classifier
from tiny import selfreg, write_config

FACTORY = """
import os
from torch import nn
os.makedirs({marker!r}, exist_ok=True)

def build(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, num_classes, 1))
"""


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """Where code that ran would leave a folder; it must not."""
    path = tmp_path / "code-has-run"
    yield path
    assert not path.exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert selfreg("train", write_config(folder, training={"epochs": 1}), "--out", folder / "run", "--no-page") == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    """A copy of the trained run, to be tampered with."""
    return Run.open(shutil.copytree(trained / "run", tmp_path / "run"))


def test_a_pickle_that_is_loaded_carelessly_runs(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("verb", ["evaluate", "predict", "compare", "export"])
def test_weights_that_are_a_pickle_are_refused(
    run: Run, trained: Path, marker: Path, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.weights_path("last").write_bytes(pickle.dumps(Bomb(marker)))
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(tmp_path / "photo.png")
    arguments: dict[str, list[Any]] = {
        "evaluate": [run.folder],
        "predict": [run.folder, tmp_path / "photo.png", "-o", tmp_path / "masks"],
        "compare": [run.folder, trained / "run"],
        "export": [run.folder, tmp_path / "model.onnx"],
    }
    assert selfreg(verb, *arguments[verb]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "last.safetensors" in error
    assert error.startswith("error: ")


@pytest.mark.parametrize("name", ["last.ckpt", "hpc_ckpt_1.ckpt"])
@pytest.mark.parametrize("in_zip", [False, True])
def test_a_state_that_is_a_pickle_is_refused(
    run: Run, marker: Path, name: str, in_zip: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    state = run.checkpoint_path if name == "last.ckpt" else run.folder / name
    if in_zip:
        torch.save({"state": Bomb(marker)}, state)
    else:
        state.write_bytes(pickle.dumps(Bomb(marker)))
    (run.folder / "summary.json").unlink()
    assert selfreg("train", run.folder / "config.yaml", "--out", run.folder, "--resume") in (0, 2)
    if name == "last.ckpt":
        error = capsys.readouterr().err.strip()
        assert "last.ckpt: is no state of a training" in error
        assert error.count("\n") == 0


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_pretrained_weights_that_are_a_pickle_are_refused(
    tmp_path: Path, marker: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / f"weights{suffix}"
    weights.write_bytes(pickle.dumps(Bomb(marker)))
    config = write_config(tmp_path, network={"pretrained": str(weights)})
    assert selfreg("train", config, "--out", tmp_path / "run") == 2
    assert f"{weights}: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("spec", ["timm:mobilenetv3_small_050", "smp:FPN/tu-mobilenetv3_small_050"])
def test_options_cannot_load_files_past_the_checks(tmp_path: Path, marker: Path, spec: str) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(pickle.dumps(Bomb(marker)))
    for options in ({"checkpoint_path": str(weights)}, {"pretrained_cfg_overlay": {"file": str(weights)}}):
        with pytest.raises(ValueError, match="loads files"):
            build_network(spec, 3, **options)
        with pytest.raises(ValueError, match="loads files"):
            build_classifier(ClassifierConfig(backbone="test_resnet", options=options), 3, seed=0)


@pytest.mark.parametrize("where", ["config", "run", "--set"])
def test_yaml_makes_no_objects(
    run: Run, tmp_path: Path, marker: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = f"!!python/object/apply:os.mkdir ['{marker}']"
    if where == "config":
        (tmp_path / "evil.yaml").write_text(f"seed: {evil}\n", encoding="utf-8")
        status = selfreg("train", tmp_path / "evil.yaml", "--out", tmp_path / "out")
    elif where == "run":
        (run.folder / "config.yaml").write_text(f"seed: {evil}\n", encoding="utf-8")
        status = selfreg("evaluate", run.folder)
    else:
        status = selfreg("train", write_config(tmp_path), "--out", tmp_path / "out", "--set", f"seed={evil}")
    assert status == 2
    assert "cannot be read as YAML" in capsys.readouterr().err


def test_code_that_a_run_names_runs_only_when_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "code-has-run"
    (tmp_path / "own_net.py").write_text(FACTORY.format(marker=str(marker)), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    config = write_config(tmp_path, training={"epochs": 1}, method={"arm": "base"})
    content = config.read_text(encoding="utf-8").split("network:")[0] + "network: {name: 'own_net:build'}\n"
    config.write_text(content + "training: {epochs: 1, workers: 0, batch_size: 4}\n")
    # who writes the configuration of a training means its code
    for name in ("run", "other"):
        # without a page no class maps are kept, so that each command needs the network
        assert selfreg("train", config, "--out", tmp_path / name, "--no-page") == 0
    assert marker.exists()
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(tmp_path / "photo.png")
    commands: tuple[list[str | Path], ...] = (
        ["evaluate", tmp_path / "run"],
        ["predict", tmp_path / "run", tmp_path / "photo.png", "-o", tmp_path / "masks"],
        ["compare", tmp_path / "run", tmp_path / "other"],
        ["export", tmp_path / "run", tmp_path / "model.pt2", "--format", "torch-export"],
    )
    for allowed in (False, True):
        for command in commands:
            marker.rmdir() if marker.exists() else None
            monkeypatch.delitem(os.sys.modules, "own_net", raising=False)  # type: ignore[attr-defined]
            capsys.readouterr()
            assert selfreg(*command, *(["--allow-code"] if allowed else [])) == (0 if allowed else 2), command
            assert marker.exists() == allowed
            if not allowed:
                assert "own_net:build is code that would be run" in capsys.readouterr().err


def test_names_reach_a_page_as_text(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    root = write_folder(tmp_path / "data", classes=("sky", "<script>alert(1)</script>", evil))
    for kind, suffix in (("images", ".jpg"), ("masks", ".png")):
        (root / kind / "val" / f"v0{suffix}").rename(root / kind / "val" / f"{evil}{suffix}")
    status = selfreg("check-data", root, "--html", tmp_path / "data.html", "-o", tmp_path / "data.json")
    assert status == 0
    sides = [shutil.copytree(root / "masks" / "val", tmp_path / name) for name in (evil, "<b>bold")]
    arguments: list[str | Path] = ["--labels", root / "masks" / "val", "--num-classes", "3"]
    arguments += ["--html", tmp_path / "compare.html"]
    assert selfreg("compare", *sides, *arguments) == 0
    for page in ("data.html", "compare.html"):
        text = (tmp_path / page).read_text(encoding="utf-8")
        assert "alert(1)" in text
        for raw in ("<script>alert", "<img src=x", "<b>bold"):
            assert raw not in text, page


def test_no_connection_is_made(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert selfreg("train", write_config(tmp_path, training={"epochs": 1}), "--out", tmp_path / "run") == 0
    assert selfreg("evaluate", tmp_path / "run") == 0
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(tmp_path / "photo.png")
    assert selfreg("predict", tmp_path / "run", tmp_path / "photo.png", "-o", tmp_path / "masks") == 0
    html = tmp_path / "page.html"
    assert selfreg("compare", tmp_path / "run", trained / "run", "--html", html) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))["epochs"] == 1
    assert asked == []
