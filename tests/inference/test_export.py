"""Exported networks compute what the trained ones do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from timm.layers import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from torch.nn import functional

from selfreg.inference import export
from selfreg.inference.exportable import exportable, pooling_by_products
from selfreg.networks import build_network
from selfreg.regulation import main_output
from selfreg.run import Run
from tiny import QUICK_TO_EXPORT, selfreg, untrained_run

# networks with pyramid pooling, as small as they come: exporting takes seconds for every few layers
NETWORKS: dict[str, dict[str, Any]] = {
    "smp:PSPNet/tu-test_resnet": {"psp_out_channels": 16},
    "smp:UPerNet/tu-test_resnet": {"encoder_depth": 3, "decoder_channels": 16},
    "hf:upernet-convnext-tiny": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "hidden_size": 16},
}


def run_of(folder: Path, name: str) -> Run:
    return untrained_run(folder, ("road", "car", "sky"), network={"name": name, "options": NETWORKS[name]})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return untrained_run(tmp_path_factory.mktemp("run") / "run", ("road", "car", "sky"), network=QUICK_TO_EXPORT)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_gives_the_networks_logits_at_other_sizes_and_batches(tmp_path: Path, name: str) -> None:
    run, path = run_of(tmp_path / "run", name), tmp_path / "model.onnx"
    assert selfreg("export", run.folder, path) == 0
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    network = run.network()
    for size in ((3, 3, 160, 96), (1, 3, 64, 64), (2, 3, 96, 224)):
        image = torch.randn(size, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            expected = main_output(network(image))
            expected = torch.nn.functional.interpolate(expected, size[2:], mode="bilinear", align_corners=False)
        found = session.run(["logits"], {"image": image.numpy()})[0]
        assert np.abs(found - expected.numpy()).max() < 1e-3
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


def test_pooling_to_the_same_size_is_fixed_for_the_export_and_computes_the_same() -> None:
    torch.manual_seed(0)
    pools = torch.nn.Sequential(AvgPool2dSame(2, 1), MaxPool2dSame(3, 2), AvgPool2dSame(3, 2))
    fixed = exportable(pools)
    assert not {AvgPool2dSame, MaxPool2dSame} & {type(module) for module in fixed.modules()}
    features = torch.randn(2, 3, 32, 64)
    assert torch.equal(fixed(features), pools(features))


def test_a_program_that_cannot_be_written_is_named_with_the_version_and_leaves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Failed serializing node ceil in graph\nand more")

    monkeypatch.setattr("torch.export.save", fail)
    assert selfreg("export", run.folder, tmp_path / "model.pt2", "--format", "torch-export") == 2
    error = capsys.readouterr().err
    assert f"torch {torch.__version__} cannot write the network: Failed serializing node ceil in graph; try" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [1, (2, 2), 3, (6, 6), (2, 5), (None, 3)])
def test_pooling_by_products_is_adaptive_pooling(size: Any) -> None:
    for height, width in ((2, 3), (6, 6), (7, 11), (33, 20)):
        features = torch.randn(2, 4, height, width, generator=torch.Generator().manual_seed(height))
        expected = functional.adaptive_avg_pool2d(features, size)
        with pooling_by_products():
            torch.testing.assert_close(functional.adaptive_avg_pool2d(features, size), expected)
            torch.testing.assert_close(torch.nn.AdaptiveAvgPool2d(size)(features), expected)


class PoolsInItsForward(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        pooled = functional.adaptive_avg_pool2d(image, 3)
        return functional.interpolate(pooled, image.shape[-2:], mode="bilinear", align_corners=False)


@pytest.mark.slow
def test_a_network_that_calls_the_pooling_function_is_exported(tmp_path: Path) -> None:
    program = export._export_program(PoolsInItsForward(), 3)
    export._write_onnx(program, tmp_path / "model.onnx", "{}")
    compute = export._onnx_session(tmp_path / "model.onnx")
    assert export._compare(PoolsInItsForward(), compute, 3).max_difference < 1e-4
