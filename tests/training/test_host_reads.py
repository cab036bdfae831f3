"""No step of training reads the device: on `meta`, which has no data, a read raises."""

from typing import Any

import pytest
import torch

from selfreg.config import Config
from selfreg.regulation import ExitOutputs, SelfRegulation
from selfreg.training.task import SegmentationTask
from tiny import TINY


@pytest.mark.parametrize("resolution", ["exit", "label"])
@pytest.mark.parametrize("variant", ["authors", "distill", "feature", "verified"])
def test_no_objective_reads_the_device(variant: Any, resolution: Any) -> None:
    def on_meta(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device="meta", requires_grad=True)

    grids = [(16, 16), (16, 16), (8, 8), (64, 64)]
    outputs = ExitOutputs(
        [on_meta(2, 5, *size) for size in grids],
        [on_meta(2, 5) for _ in grids],
        [on_meta(2, 6, *size) for size in grids],
        own_map=on_meta(2, 5, 16, 16),
    )
    labels = torch.zeros(2, 64, 64, dtype=torch.int64, device="meta")
    for average in ("class", "pair"):
        for weights in (None, torch.ones(5, device="meta")):
            for confidence in (None, torch.ones(2, 64, 64, device="meta")):
                objective = SelfRegulation(
                    variant, exit_resolution=resolution, local_presence_average=average, class_weights=weights
                )
                terms = objective(outputs, labels, 1.0, confidence=confidence)
                torch.autograd.backward(terms.total)
    assert all(tensor.grad is not None for tensor in (*outputs.class_maps, *outputs.image_logits))


@pytest.mark.parametrize("arm", ["base", "mea", "full"])
def test_a_training_step_does_not_read_the_device(arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, 2, 1), torch.nn.Conv2d(8, 3, 1)
    )
    config = Config.model_validate({**TINY, "method": {"arm": arm, "taps": ["0"] if arm != "base" else "auto"}})
    task = SegmentationTask(config, network, 3, total_steps=1).to("meta").train()

    class OneProcess:
        world_size = 1
        global_step = 0
        log_every_n_steps = 10

    monkeypatch.setattr(task, "_trainer", OneProcess())
    monkeypatch.setattr(SegmentationTask, "global_step", 0)
    monkeypatch.setattr(task, "log", lambda *_args, **_kwargs: None)
    batch = {
        "image": torch.zeros(2, 3, 64, 64, device="meta"),
        "mask": torch.zeros(2, 64, 64, dtype=torch.int64, device="meta"),
        "index": torch.zeros(2, dtype=torch.int64, device="meta"),
    }
    torch.autograd.backward(task.training_step(batch, 0))
    assert all(parameter.grad is not None for parameter in task.parameters())
