"""Weights of whole networks and of backbones."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn

from malformed.pieces import Write, content, dangling, folder, loop, refusal, text
from selfreg.config import Config
from selfreg.data.labels import voc_palette
from selfreg.networks.pretrained import load_backbone_weights
from selfreg.run import Run
from selfreg.run_info import RunInfo

State = dict[str, Tensor]


class Small(nn.Module):
    """An encoder with statistics, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 2, 1)


def state(network: nn.Module) -> State:
    return {key: value.clone() for key, value in network.state_dict().items()}


def changed(key: str, change: Callable[[Tensor], Tensor]) -> Callable[[State], State]:
    return lambda weights: {**weights, key: change(weights[key])}


def filled(key: str, value: float) -> Callable[[State], State]:
    def change(tensor: Tensor) -> Tensor:
        tensor.view(-1)[-1] = value
        return tensor

    return changed(key, change)


def without(key: str) -> Callable[[State], State]:
    return lambda weights: {name: value for name, value in weights.items() if name != key}


CHANGES: dict[str, tuple[Callable[[State], State], str]] = {
    "one NaN": (filled("0.weight", float("nan")), "NaN"),
    "one infinity": (filled("0.bias", float("inf")), "NaN"),
    "one infinity below": (filled("1.running_mean", float("-inf")), "NaN"),
    "half precision that overflowed": (changed("0.weight", lambda tensor: (tensor * 1e9).half()), "NaN"),
    "whole numbers": (changed("0.weight", lambda tensor: tensor.round().long()), "another kind of number"),
    "truths": (changed("0.weight", lambda tensor: tensor > 0), "another kind of number"),
    "complex numbers": (changed("0.bias", lambda tensor: tensor.to(torch.complex64)), "another kind of number"),
    "a count of steps as a fraction": (changed("1.num_batches_tracked", lambda t: t.float()), "another kind of number"),
    "a missing weight": (without("0.weight"), "0.weight"),
    "a missing statistic": (without("1.running_var"), "1.running_var"),
    "a surplus weight": (lambda weights: {**weights, "0.scale": torch.ones(1)}, "0.scale"),
    "wider": (changed("0.weight", lambda tensor: tensor.repeat(2, 1, 1, 1)), "0.weight"),
    "transposed": (changed("0.weight", lambda tensor: tensor.transpose(0, 1).contiguous()), "0.weight"),
    "flat": (changed("0.weight", lambda tensor: tensor.flatten()), "0.weight"),
    "one dimension more": (changed("0.bias", lambda tensor: tensor[None]), "0.bias"),
    "a number in the place of a vector": (changed("0.bias", lambda tensor: tensor.sum()), "0.bias"),
    "empty": (changed("0.weight", lambda tensor: tensor[:0]), "0.weight"),
    "nothing": (lambda weights: dict(list(weights.items())[:0]), "0.weight"),
    "names with a prefix": (lambda weights: {f"module.{key}": value for key, value in weights.items()}, "0."),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", CHANGES)
def test_weights_of_another_backbone_are_refused_by_name(tmp_path: Path, name: str, suffix: str) -> None:
    network = Small()
    change, message = CHANGES[name]
    path = tmp_path / f"weights{suffix}"
    weights = change(state(network.encoder))
    if suffix == ".pth":
        torch.save(weights, path)
    else:
        save_file(weights, path)
    before = state(network)
    assert message in refusal(lambda: load_backbone_weights(network, path), path)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def header(length: int, data: bytes = b"{}") -> Write:
    return content(struct.pack("<Q", length) + data)


def described(**tensors: Any) -> Write:
    data = json.dumps(tensors).encode()
    return content(struct.pack("<Q", len(data)) + data + bytes(64))


WHOLE = save({"encoder.0.weight": torch.zeros(4, 3, 3, 3)})

BROKEN: dict[str, Write] = {
    "empty": content(b""),
    "7 bytes": content(b"1234567"),
    "zeros": content(bytes(64)),
    "noise": content(bytes(range(256))),
    "text": text("weights"),
    "a header longer than the file": header(10_000),
    "a header of 2**63 bytes": header(2**63),
    "a header that is no JSON": header(2, b"no"),
    "a header that is a list": header(2, b"[]"),
    "a header that is no UTF-8": header(4, b"\xff\xfe\xfd\xfc"),
    "a header 30,000 deep": header(30_000, b"[" * 30_000),
    "a kind of number that nobody knows": described(x={"dtype": "F7", "shape": [1], "data_offsets": [0, 4]}),
    "places outside of the file": described(x={"dtype": "F32", "shape": [99], "data_offsets": [0, 396]}),
    "places that run backwards": described(x={"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}),
    "a shape that its bytes do not fill": described(x={"dtype": "F32", "shape": [5], "data_offsets": [0, 4]}),
    "a shape of 2**62": described(x={"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 64]}),
    "a shape below 0": described(x={"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}),
    "cut in its header": content(WHOLE[:20]),
    "cut in its numbers": content(WHOLE[:-50]),
    "bytes after its end": content(WHOLE + bytes(4)),
    "a pickle": content(b"\x80\x04N."),
    "folder": folder,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_of_backbone_weights_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "weights.safetensors"
    BROKEN[name](path)
    refusal(lambda: load_backbone_weights(Small(), path), path)


PICKLES: dict[str, Callable[[Path], object]] = {
    "empty": content(b""),
    "text": text("weights"),
    "noise": content(bytes(range(256))),
    "a ZIP of nothing": content(b"PK\x05\x06" + bytes(18)),
    "a number": lambda path: torch.save(3, path),
    "a list": lambda path: torch.save([torch.ones(1)], path),
    "a tensor": lambda path: torch.save(torch.ones(1), path),
    "a whole network": lambda path: torch.save(Small(), path),
    "weights within another mapping": lambda path: torch.save({"state_dict": state(Small().encoder)}, path),
    "numbers as names": lambda path: torch.save({0: torch.ones(1)}, path),
    "words as weights": lambda path: torch.save({"0.weight": "x"}, path),
    "dangling link": dangling,
    "link to itself": loop,
    "folder": folder,
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_that_is_no_state_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "weights.pth"
    PICKLES[name](path)
    refusal(lambda: load_backbone_weights(Small(), path), path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_pickle_that_is_cut_is_refused_by_name(tmp_path: Path, share: float) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state(Small().encoder), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    refusal(lambda: load_backbone_weights(Small(), path), path)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    palette = tuple((int(red), int(green), int(blue)) for red, green, blue in voc_palette())
    info = RunInfo(("a", "b"), palette, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), {})
    run = Run.create(tmp_path / "run", Config(), info)
    run.save_weights("last", Small())
    return run


@pytest.mark.parametrize("name", CHANGES)
def test_weights_of_another_network_are_refused_by_name(run: Run, name: str) -> None:
    change, message = CHANGES[name]
    network = Small()
    encoder = {key.removeprefix("encoder."): value for key, value in state(network).items() if "encoder" in key}
    weights = {f"encoder.{key}": value for key, value in change(encoder).items()}
    save_file(
        {**weights, **{f"head.{key}": value for key, value in state(network.head).items()}}, run.weights_path("last")
    )
    assert message in refusal(lambda: run.load_weights(network), run.weights_path("last"))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_of_weights_is_refused_by_name(run: Run, name: str) -> None:
    run.weights_path("last").unlink()
    BROKEN[name](run.weights_path("last"))
    refusal(lambda: run.load_weights(Small()), run.weights_path("last"))


@pytest.mark.parametrize("stored", ["3", "-2", "two", "", "2.0", "9" * 5000])
def test_weights_that_say_another_number_of_classes_are_refused(run: Run, stored: str) -> None:
    save_file(state(Small()), run.weights_path("last"), metadata={"num_classes": stored})
    assert "classes" in refusal(lambda: run.load_weights(Small()), run.weights_path("last"))


def test_weights_of_half_precision_are_read(run: Run) -> None:
    network = Small()
    weights = {key: value.half() if value.is_floating_point() else value for key, value in state(network).items()}
    save_file(weights, run.weights_path("last"))
    loaded = run.load_weights(Small()).state_dict()
    assert all(torch.equal(loaded[key], value.to(loaded[key].dtype)) for key, value in weights.items())


def test_a_network_that_holds_infinity_from_the_start_keeps_it(run: Run) -> None:
    network = Small()
    network.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    save_file(state(network), run.weights_path("last"))
    other = Small()
    other.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
    run.load_weights(other)
