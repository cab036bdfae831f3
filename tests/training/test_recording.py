"""`training.compile: graph`, without a GPU: what is recorded, when, and what recording leaves as it was.

That a replay computes the same is checked on a GPU by `benchmarks/gpu_check.py compile`.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from selfreg.regulation import MultiExit, SelfRegulation
from selfreg.run import Run
from selfreg.training.recording import RecordedStep, StepLosses
from tiny import selfreg, write_config

pytestmark = pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Modules that are recorded: as on a GPU they run the sample several times, and then whatever they are given."""
    recorded: list[nn.Module] = []

    def make_graphed_callables(module: nn.Module, sample: tuple[Tensor, ...], **_options: Any) -> nn.Module:
        for _ in range(4):
            torch.autograd.grad(module(*sample), list(module.parameters()), allow_unused=True)
        recorded.append(module)
        return module

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make_graphed_callables)
    monkeypatch.setattr(torch.cuda, "get_rng_state", torch.get_rng_state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", torch.set_rng_state)
    return recorded


def regulated(dropout: float = 0.0) -> tuple[MultiExit, RecordedStep]:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv2d(8, 8, 3, 2, 1),
        nn.Conv2d(8, 3, 1),
    )
    model, objective = MultiExit(network, 3, taps=["2"]).train(), SelfRegulation()

    def compute(tensors: dict[str, Tensor], progress: float) -> StepLosses:
        outputs = model(tensors["image"])
        terms = objective(outputs, tensors["mask"], progress)
        return StepLosses(terms.total, terms, outputs)

    return model, RecordedStep(model, compute)


def batch(size: int = 32) -> dict[str, Tensor]:
    return {"image": torch.randn(2, 3, size, size), "mask": torch.randint(0, 3, (2, size, size))}


def test_recording_leaves_batch_norm_and_the_random_generator_as_one_step_does(recordings: list[nn.Module]) -> None:
    model, step = regulated(dropout=0.5)
    given = batch()
    torch.manual_seed(1)
    step(given, 0.0)
    found, drawn = {name: buffer.clone() for name, buffer in model.named_buffers()}, torch.rand(3)
    other, _ = regulated(dropout=0.5)
    torch.manual_seed(1)
    other(given["image"])
    assert len(recordings) == 1
    assert torch.equal(drawn, torch.rand(3))
    for name, buffer in other.named_buffers():
        assert torch.equal(found[name], buffer), name


def test_the_step_is_recorded_again_when_the_regulation_begins_and_never_else(recordings: list[nn.Module]) -> None:
    _, step = regulated()
    weights = []
    for progress in (0.0, 0.0, 1.0, 1.0):
        losses = step(batch(), progress)
        assert losses.terms is not None
        weights.append(losses.terms.weights["sr_f"])
    assert weights == [0.0, 0.0, 0.2, 0.2]
    assert len(recordings) == 2


def test_batches_of_another_shape_and_weights_that_ramp_up_are_computed_as_they_are(
    recordings: list[nn.Module],
) -> None:
    _, step = regulated()
    step(batch(), 1.0)
    assert step(batch(48), 1.0).total.requires_grad
    assert step({**batch(), "confidence": torch.ones(2, 32, 32)}, 1.0).total.requires_grad
    assert step(batch(), 0.5).total.requires_grad
    assert len(recordings) == 1


def test_values_beside_the_total_hold_no_graph(recordings: list[nn.Module]) -> None:
    _, step = regulated()
    losses = step(batch(), 1.0)
    assert recordings
    assert losses.terms is not None
    assert losses.outputs is not None
    assert losses.total.requires_grad
    assert not any(value.requires_grad for value in losses.terms.raw().values())
    assert not any(tensor.requires_grad for tensor in (*losses.outputs.class_maps, *losses.outputs.image_logits))


def test_a_step_that_reads_the_host_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any, **_options: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
    monkeypatch.setattr(torch.cuda, "get_rng_state", torch.get_rng_state)
    with pytest.raises(ValueError, match=r"training\.compile: .*not permitted.* set it to none") as caught:
        regulated()[1](batch(), 1.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arm", ["base", "full"])
def test_a_recorded_training_leaves_the_run_of_a_plain_one(
    arm: str, tmp_path: Path, recordings: list[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfreg.training.trainer.check_compile", lambda _config, _trainer: None)
    config = write_config(tmp_path, method={"arm": arm}, training={"epochs": 1})
    states = {}
    for value in ("none", "graph"):
        options = ("--no-page", "--quiet", "--set", f"training.compile={value}")
        assert selfreg("train", config, "--out", tmp_path / value, *options) == 0
        states[value] = Run.open(tmp_path / value).network().state_dict()
    assert recordings
    for name, tensor in states["none"].items():
        assert torch.equal(tensor, states["graph"][name]), name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("training.compile=graph", "training.accelerator=cpu"),
            "records CUDA graphs, and this is not a training on a GPU",
        ),
        (("training.compile=graph", "training.accumulate=2"), "graph cannot add up gradients"),
    ],
)
def test_a_graph_is_refused_where_it_cannot_be_recorded(
    options: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, training={"epochs": 1})
    sets = [part for option in options for part in ("--set", option)]
    assert selfreg("train", config, "--out", tmp_path / "run", "--no-page", "--quiet", *sets) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
