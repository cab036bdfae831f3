"""Parts of a network that learn at their own rate, or not at all, and class weights by name."""

from typing import Any

import pytest
import torch
from torch import nn

from selfreg.config import TrainingConfig, parse_config
from selfreg.networks import build_network
from selfreg.training.freezing import freeze
from selfreg.training.optimiser import parameter_groups
from selfreg.training.survey import given_class_weights
from selfreg.training.task import SegmentationTask
from tiny import TINY


def tiny_task(**training: Any) -> SegmentationTask:
    content = {**TINY, "training": {**TINY["training"], **training}}
    config = parse_config(content, origin="test")
    network = build_network(config.network.name, 9, **config.network.options)
    return SegmentationTask(config, network, 9, total_steps=4)


def test_each_part_has_its_learning_rate() -> None:
    options = {"learning_rate": 0.1, "backbone_learning_rate_factor": 0.5, "head_learning_rate_factor": 2}
    for exit_factor, expected in ((None, 0.2), (3.0, 0.3)):
        task = tiny_task(**options, exit_learning_rate_factor=exit_factor)
        exits = [parameter for name, parameter in task.named_parameters() if ".exits." in name]
        groups = parameter_groups(task.network, exits, task.config.training)
        rates = {str(group["name"]).split("_")[0]: group["lr"] for group in groups}
        assert rates == pytest.approx({"backbone": 0.05, "head": 0.2, "exits": expected})


@pytest.mark.parametrize("what", ["backbone", "batch_norm"])
def test_frozen_parts_keep_weights_and_statistics_and_the_others_learn(what: str) -> None:
    task = tiny_task(freeze=what)
    task.train()
    norms = [name for name, module in task.network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    before = {name: tensor.clone() for name, tensor in task.network.state_dict().items()}
    optimizer = torch.optim.SGD([each for each in task.parameters() if each.requires_grad], lr=0.1)
    batch = {"image": torch.randn(2, 3, 64, 64), "mask": torch.randint(0, 9, (2, 64, 64))}
    task.loss_of(batch, progress=1.0)[0].backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    changed = {name for name, tensor in task.network.state_dict().items() if not torch.equal(tensor, before[name])}
    frozen = {name for name in before if _is_frozen(name, what, norms)}
    assert not changed & frozen
    assert {name for name, _ in task.network.named_parameters()} - frozen <= changed
    assert any(name.startswith("exits.") and each.grad is not None for name, each in task.model.named_parameters())


def _is_frozen(name: str, what: str, norms: list[str]) -> bool:
    return name.startswith("encoder.") if what == "backbone" else name.rpartition(".")[0] in norms


def test_what_a_network_does_not_have_cannot_be_frozen() -> None:
    with pytest.raises(ValueError, match="Sequential has no batch norms"):
        freeze(nn.Sequential(nn.Conv2d(3, 3, 1)), "batch_norm")
    with pytest.raises(ValueError, match="Sequential has no module encoder or backbone"):
        freeze(nn.Sequential(nn.Conv2d(3, 3, 1)), "backbone")


def test_class_weights_are_given_in_order_or_by_name() -> None:
    names = ("road", "car", "person")

    def weights(value: Any) -> Any:
        found = given_class_weights(TrainingConfig(class_weights=value), names)
        return None if found is None else found.tolist()

    assert weights([1, 2, 3]) == [1, 2, 3]
    assert weights({"person": 4}) == [1, 1, 4]
    assert weights("none") is None
    with pytest.raises(ValueError, match="2 weights for 3 classes"):
        weights([1, 2])
    with pytest.raises(ValueError, match="'bus' is no class of the data; these are road, car, person"):
        weights({"bus": 2})
    with pytest.raises(ValueError, match="0 for every class"):
        weights({"road": 0, "car": 0, "person": 0})
