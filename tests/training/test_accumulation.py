"""Accumulated batches: their gradient is that of the joint batch."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from selfreg.config import Config, load_config, parse_config
from selfreg.data import Scenes
from selfreg.opening import open_split
from selfreg.training import train
from selfreg.training.loaders import AccumulatingLoader, training_loader
from selfreg.training.preparation import describe
from selfreg.training.task import SegmentationTask
from tiny import TINY, write_config


def config_of(accumulate: int, batch_size: int, **training: Any) -> Config:
    content = {**TINY, "method": {"arm": "base"}}
    content["training"] = {**TINY["training"], "accumulate": accumulate, "batch_size": batch_size, **training}
    return parse_config(content, origin="test")


def network() -> nn.Module:
    """A network without batch norm, which would see each part of a batch by itself."""
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv2d(16, 9, 1))


def uneven_batch(name: str) -> dict[str, Tensor]:
    """Four images; void and classes are spread unevenly over them, and one has no valid pixel."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 9, (4, 32, 32), generator=generator)
    masks[0, :, :20], masks[2], masks[3, 3:] = 255, 255, 255
    batch = {"image": torch.randn(4, 3, 32, 32, generator=generator), "mask": masks, "index": torch.arange(4)}
    if name == "confidence":
        batch["confidence"] = torch.rand(4, 32, 32, generator=generator)
    return batch


class _Joint(torch.utils.data.Dataset[dict[str, Any]]):
    source = Scenes("train", 4, (32, 32))

    def __init__(self, batch: dict[str, Tensor]) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {key: value[index] for key, value in self.batch.items()}


def gradients(accumulate: int, batch: dict[str, Tensor], weights: Tensor | None) -> list[Tensor]:
    """The gradient of one optimiser step, by the trainer."""
    torch.manual_seed(0)
    task = SegmentationTask(config_of(accumulate, 4 // accumulate), network(), 9, total_steps=1)
    task.set_class_weights(weights)
    found: list[Tensor] = []

    class Catch(L.Callback):
        def on_before_optimizer_step(self, *_: Any) -> None:
            found.extend(parameter.grad.clone() for parameter in task.parameters() if parameter.grad is not None)

    loader = AccumulatingLoader(_Joint(batch), accumulate=accumulate, batch_size=4)  # type: ignore[arg-type]
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        accumulate_grad_batches=accumulate,
        callbacks=[Catch()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, loader)
    assert trainer.global_step == 1
    return found


@pytest.mark.parametrize("accumulate", [2, 4])
@pytest.mark.parametrize("kind", ["plain", "class weights", "confidence"])
def test_the_gradient_of_accumulated_batches_is_that_of_the_joint_batch(accumulate: int, kind: str) -> None:
    batch = uneven_batch(kind)
    weights = torch.linspace(0.2, 2.0, 9) if kind == "class weights" else None
    expected, found = gradients(1, batch, weights), gradients(accumulate, batch, weights)
    assert len(expected) == len(found) > 0
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)


def test_accumulated_batches_hold_the_crops_of_the_joint_batch(tmp_path: Path) -> None:
    whole = load_config(write_config(tmp_path, training={"batch_size": 4}))
    halves = load_config(write_config(tmp_path, training={"batch_size": 2, "accumulate": 2}))
    source = open_split(whole, "train")
    info = describe(whole, source)
    joint = [batch["image"] for batch in training_loader(whole, source, info)]
    parts = [batch["image"] for batch in training_loader(halves, source, info)]
    assert len(training_loader(halves, source, info)) == len(parts) == 2 * len(joint)
    assert torch.equal(torch.cat(parts), torch.cat(joint))


def test_a_training_with_frozen_batch_norms_and_no_dropout_does_not_depend_on_its_accumulation(tmp_path: Path) -> None:
    sections: dict[str, dict[str, Any]] = {
        "method": {"arm": "base"},
        "data": {"options": {**TINY["data"]["options"], "evaluation_length": 1}},
        "network": {"options": {**TINY["network"]["options"], "decoder_dropout": 0}},
    }
    weights = []
    for accumulate in (1, 2):
        training = {"accumulate": accumulate, "batch_size": 4 // accumulate, "optimizer": "sgd", "freeze": "batch_norm"}
        config = load_config(write_config(tmp_path, **sections, training={**training, "linear_warm_up_steps": 2}))
        run = train(config, tmp_path / f"accumulate {accumulate}", progress_bar=False)
        summary = run.summary()
        assert summary is not None
        assert summary["steps"] == 4
        weights.append(load_file(run.weights_path("last")))
    whole, parts = weights
    # no statistics were gathered
    assert not any(tensor for name, tensor in whole.items() if name.endswith("num_batches_tracked"))
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-5, atol=1e-5)


def test_dropout_differs_between_the_batches_of_a_step() -> None:
    task = SegmentationTask(config_of(2, 2), network(), 9, total_steps=1)
    drawn = []
    for index in range(2):
        task.on_train_batch_start({}, index)
        drawn.append(torch.rand(3))
    assert not torch.equal(*drawn)
