"""A run that starts from the weights of another, with other classes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fixtures.folder import write_folder
from selfreg.config import parse_config
from selfreg.data import Labels
from selfreg.networks import build_network
from selfreg.opening import build_from_config
from selfreg.run import Run
from selfreg.run_info import RunInfo
from selfreg.training.fine_tuning import load_from_run
from tiny import TINY, selfreg, write_config


def info(*names: str) -> RunInfo:
    palette = tuple(tuple(int(value) for value in colour) for colour in Labels(names).palette)
    return RunInfo(names, palette, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), {})  # type: ignore[arg-type]


@pytest.fixture
def pretrained(tmp_path: Path) -> Run:
    """A run of three classes, its weights drawn at random."""
    config = parse_config(dict(TINY), origin="test")
    run = Run.create(tmp_path / "pretrained", config, info("road", "car", "sky"))
    torch.manual_seed(1)
    run.save_weights("last", build_network(config.network.name, 3, **config.network.options))
    return run


def test_the_network_is_loaded_and_classes_by_name(pretrained: Run) -> None:
    options: dict[str, Any] = {**TINY, "network": {**TINY["network"], "from_run": str(pretrained.folder)}}
    config = parse_config(options, origin="test")
    torch.manual_seed(2)
    network = build_network(config.network.name, 4, **config.network.options)
    first = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    told = load_from_run(network, config, ("sky", "bus", "road", "tree"))
    old, new = load_file(pretrained.weights_path("last")), network.state_dict()
    head = [name for name in old if old[name].shape != new[name].shape]
    assert sorted(head) == ["segmentation_head.0.bias", "segmentation_head.0.weight"]
    for name, tensor in new.items():
        if name in head:
            assert torch.equal(tensor[0], old[name][2])
            assert torch.equal(tensor[2], old[name][0])
            assert torch.equal(tensor[[1, 3]], first[name][[1, 3]])
        else:
            assert torch.equal(tensor, old[name])
    assert f"loaded {len(new) - 2} tensors, and 2 of 4 classes" in told
    assert told.endswith("new in segmentation_head.0: bus, tree")


def test_as_many_classes_of_other_names_are_new(pretrained: Run) -> None:
    options: dict[str, Any] = {**TINY, "network": {**TINY["network"], "from_run": str(pretrained.folder)}}
    network = build_network(TINY["network"]["name"], 3, **TINY["network"]["options"])
    told = load_from_run(network, parse_config(options, origin="test"), ("cat", "dog", "cow"))
    assert "0 of 3 classes" in told


def test_another_network_is_refused(tmp_path: Path, pretrained: Run, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(
        tmp_path, network={"from_run": str(pretrained.folder), "name": "smp:Unet/resnet18", "options": {}}
    )
    assert selfreg("train", config, "--dry-run") == 2
    assert "its network is smp:FPN/tu-test_efficientnet" in capsys.readouterr().err
    config = write_config(tmp_path, network={"from_run": str(tmp_path / "nothing")})
    assert selfreg("train", config, "--dry-run") == 2
    assert "nothing: holds no run" in capsys.readouterr().err


def test_a_run_of_other_bands_is_refused(tmp_path: Path) -> None:
    grey = parse_config({**TINY, "data": {"kind": "folder", "bands": 1, "mean": [0.5], "std": [0.2]}}, origin="test")
    run = Run.create(tmp_path / "grey", grey, info("road", "car"))
    run.save_weights("last", build_from_config(grey, 2, pretrained=False))
    config = parse_config({**TINY, "network": {**TINY["network"], "from_run": str(run.folder)}}, origin="test")
    network = build_from_config(config, 2, pretrained=False)
    with pytest.raises(ValueError, match=r"grey: its .* has shape .*; give both runs the same data\.bands"):
        load_from_run(network, config, ("road", "car"))


def test_a_fine_tuned_run_is_resumed_and_evaluated_without_the_first_one(
    tmp_path: Path, pretrained: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "data", splits={"train": 4, "val": 2}, size=(64, 64))
    data = {"kind": "folder", "root": str(root), "options": {}}
    config = write_config(
        tmp_path, data=data, network={"from_run": str(pretrained.folder)}, training={"epochs": 1, "batch_size": 2}
    )
    assert selfreg("train", config, "--out", tmp_path / "run", "--no-page") == 0
    printed = capsys.readouterr().out
    assert "loaded" in printed
    assert f"weights of {pretrained.folder}" in printed
    run = Run.open(tmp_path / "run")
    assert run.info().mean == (0.1, 0.2, 0.3)
    pretrained.folder.rename(tmp_path / "gone")
    assert selfreg("evaluate", run.folder, "--json") == 0
    assert selfreg("train", config, "--out", run.folder, "--extend", "1", "--no-page") == 0
