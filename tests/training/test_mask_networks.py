"""A network that classifies masks goes through the real commands: train, evaluate, predict, export."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from selfreg.regulation import main_output
from selfreg.run import Run
from tiny import selfreg, write_config

transformers: Any = pytest.importorskip("transformers", reason="the extra hf is not installed")

DATA = {"options": {"length": 4, "evaluation_length": 2, "size": [64, 64]}, "crop_size": [64, 64], "kind": "scenes"}


@pytest.fixture(scope="module")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration of a tiny EoMT and no weights."""
    folder = tmp_path_factory.mktemp("eomt")
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "num_queries": 12}
    blocks = {"num_blocks": 1, "num_upscale_blocks": 1, "num_register_tokens": 0, "train_num_points": 32}
    transformers.EomtConfig(image_size=64, **sizes, **blocks).save_pretrained(folder)
    return folder


def config(folder: Path, architecture: Path, **training: Any) -> Path:
    network = {"name": f"hf:{architecture}", "options": {}}
    return write_config(folder, data=DATA, network=network, training={"epochs": 1, **training})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, architecture: Path) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    assert selfreg("train", config(folder, architecture), "--out", folder / "run") == 0
    return folder / "run"


def test_evaluate_and_predict_use_the_semantic_map(run: Path, tmp_path: Path) -> None:
    assert selfreg("evaluate", run) == 0
    assert json.loads((run / "evaluation" / "val.json").read_text())
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "photo.png")
    assert selfreg("predict", run, tmp_path / "photo.png", "-o", tmp_path / "out") == 0
    assert np.asarray(Image.open(tmp_path / "out" / "photo.png")).max() < len(Run.open(run).info().class_names)


def test_the_folder_for_transformers_gives_the_same_network_with_its_class_names(run: Path, tmp_path: Path) -> None:
    assert selfreg("export", run, tmp_path / "model", "--format", "transformers") == 0
    info, trained = Run.open(run).info(), Run.open(run).network()
    network = transformers.AutoModelForUniversalSegmentation.from_pretrained(tmp_path / "model").eval()
    assert tuple(network.config.id2label.values()) == info.class_names
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(main_output(network(images)), main_output(trained.eval()(images)))
    assert json.loads((tmp_path / "model" / "preprocessor_config.json").read_text())["image_mean"] == list(info.mean)
    assert selfreg("export", run, tmp_path / "model", "--format", "transformers") == 2


def test_an_export_for_free_sizes_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert selfreg("export", run, tmp_path / "model.onnx") == 2
    assert "use --format transformers" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"class_weights": "balanced"}, {"loss": "focal"}, {"label_smoothing": 0.1}])
def test_options_of_the_loss_are_refused(
    architecture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any]
) -> None:
    assert selfreg("train", config(tmp_path, architecture, **options), "--out", tmp_path / "run") == 2
    assert "trains with its own loss" in capsys.readouterr().err
