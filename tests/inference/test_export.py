"""Exported networks compute what the trained ones do."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from timm.layers import Conv2dSame

from selfreg.inference import export
from selfreg.inference.exportable import PooledByProducts, exportable
from selfreg.networks import build_network
from selfreg.run import Run
from tiny import selfreg, write_config


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    assert selfreg("train", write_config(folder, training={"epochs": 1}), "--out", folder / "run") == 0
    return Run.open(folder / "run")


def test_onnx_gives_the_networks_logits_at_other_sizes_and_batches(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    assert selfreg("export", run.folder, path) == 0
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = torch.randn(3, 3, 160, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = run.network()(image).numpy()
    assert np.abs(session.run(["logits"], {"image": image.numpy()})[0] - expected).max() < 1e-3
    stored = json.loads(session.get_modelmeta().custom_metadata_map["selfreg"])
    assert tuple(stored["class_names"]) == run.info().class_names


def test_a_file_that_computes_something_else_is_not_left_in_place(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export, "_compare", lambda *_: export.Parity(1.0, 0.5))
    assert selfreg("export", run.folder, tmp_path / "model.pt2", "--format", "torch-export") == 2
    assert "not written" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_padding_to_the_same_size_is_fixed_for_the_export_and_computes_the_same() -> None:
    network = build_network("smp:FPN/tu-tf_mobilenetv3_small_minimal_100", 3).eval()
    kinds = {type(module) for module in network.modules()}
    fixed = exportable(network)
    assert Conv2dSame in kinds
    assert {type(module) for module in network.modules()} == kinds
    assert Conv2dSame not in {type(module) for module in fixed.modules()}
    for height, width in ((64, 96), (128, 32)):
        image = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(2))
        with torch.inference_mode():
            assert torch.equal(fixed(image), network(image))


def test_an_exporter_that_fails_is_named_with_its_versions_and_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AttributeError("'tuple' object has no attribute 'dtype'\nand more")

    monkeypatch.setattr("torch.onnx.export", fail)
    assert selfreg("export", run.folder, tmp_path / "model.onnx") == 2
    error = capsys.readouterr().err
    assert f"torch {torch.__version__}" in error
    assert error.endswith("'dtype'; try newer versions of both, or --format torch-export\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("smp:PSPNet/tu-mobilenetv3_small_050", {"psp_out_channels": 16}),
        ("smp:UPerNet/tu-mobilenetv3_small_050", {"decoder_channels": 16}),
    ],
)
def test_networks_with_pyramid_pooling_compute_the_same_in_onnx_at_other_sizes(
    tmp_path: Path, name: str, options: dict[str, int]
) -> None:
    config = write_config(tmp_path, training={"epochs": 1}, method={"arm": "base"})
    content = yaml.safe_load(config.read_text())
    content["network"] = {"name": name, "options": options}
    config.write_text(yaml.safe_dump(content))
    assert selfreg("train", config, "--out", tmp_path / "run") == 0
    assert selfreg("export", tmp_path / "run", tmp_path / "model.onnx") == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    network = Run.open(tmp_path / "run").network()
    for height, width in ((64, 64), (96, 224), (256, 128)):
        image = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            expected = network(image).numpy()
        assert np.abs(session.run(["logits"], {"image": image.numpy()})[0] - expected).max() < 1e-3


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 3), (6, 6), (2, 5)])
def test_pooling_by_products_is_adaptive_pooling(size: tuple[int, int]) -> None:
    for height, width in ((2, 3), (6, 6), (7, 11), (33, 20)):
        features = torch.randn(2, 4, height, width, generator=torch.Generator().manual_seed(height))
        expected = torch.nn.AdaptiveAvgPool2d(size)(features)
        torch.testing.assert_close(PooledByProducts(*size)(features), expected)
