"""What the four named networks have in common."""

from typing import Any

import pytest
import torch
from torch import nn

from selfreg.networks import DeepLabV2, HRNetV2, OCRNet, SPGNet
from selfreg.regulation import MultiExit, find_taps

NUM_CLASSES = 5

SMALL: list[tuple[type[Any], str]] = [
    (DeepLabV2, "resnet18"),
    (HRNetV2, "hrnet_w18_small"),
    (OCRNet, "hrnet_w18_small"),
    (OCRNet, "resnet18"),
    (SPGNet, "resnet18"),
]
small = pytest.mark.parametrize(("network", "backbone"), SMALL, ids=[f"{n.__name__}-{b}" for n, b in SMALL])


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "backbone", "num_classes", "parameters", "published_millions"),
    [
        (HRNetV2, "hrnet_w48", 19, 65_859_379, 65.86),
        (OCRNet, "hrnet_w48", 19, 70_372_678, 70.37),
        (DeepLabV2, "resnet101", 21, 44_048_532, 44.05),
    ],
)
def test_parameters_are_as_many_as_published(
    network: type[Any], backbone: str, num_classes: int, parameters: int, published_millions: float
) -> None:
    with torch.device("meta"):
        counted = count(network(backbone=backbone, num_classes=num_classes, pretrained=False))
    assert counted == parameters
    assert round(counted / 1e6, 2) == published_millions


def test_spgnet_is_near_the_sixty_million_parameters_published() -> None:
    with torch.device("meta"):
        network = SPGNet(backbone="resnet50", num_classes=19, pretrained=False)
    assert count(network) == 57_189_350
    assert count(network) == pytest.approx(60e6, rel=0.05)
    # Two ResNet-50 without classifiers, the second without stem, are 47.0 of them.
    assert count(network.backbone) == 2 * 23_508_032 - (3 * 64 * 49 + 2 * 64)


@small
def test_logits_have_the_size_of_any_image(network: type[Any], backbone: str) -> None:
    built = network(backbone=backbone, num_classes=NUM_CLASSES, pretrained=False).eval()
    with torch.no_grad():
        for size in ((64, 64), (51, 77)):
            logits = built(torch.randn(1, 3, *size))
            assert logits.shape == (1, NUM_CLASSES, *size)
            assert logits.dtype == torch.float32


@small
def test_one_image_a_batch_trains_every_parameter(network: type[Any], backbone: str) -> None:
    built = network(backbone=backbone, num_classes=NUM_CLASSES).train()
    logits = built(torch.randn(1, 3, 64, 64))
    assert logits.shape == (1, NUM_CLASSES, 64, 64)
    logits.square().mean().backward()
    assert [name for name, parameter in built.named_parameters() if parameter.grad is None] == []


@small
def test_taps_are_modules_of_the_network_and_leave_no_trace_in_its_state(network: type[Any], backbone: str) -> None:
    built = network(backbone=backbone, num_classes=NUM_CLASSES)
    names = dict(built.named_modules())
    assert all(tap in names for tap in built.taps)
    assert not [key for key in built.state_dict() if ".stages." in f".{key}" and "model" not in key]


@pytest.mark.parametrize(
    ("network", "backbone", "strides", "channels"),
    [
        (DeepLabV2, "resnet50", [2, 4, 8, 8], [64, 256, 512, 1024]),
        (HRNetV2, "hrnet_w18_small", [4, 4, 4], [128, 16, 16]),
        (OCRNet, "hrnet_w18_small", [4, 4, 4, 4], [128, 16, 16, NUM_CLASSES]),
        (OCRNet, "resnet50", [2, 4, 8, 8], [64, 256, 512, NUM_CLASSES]),
        (SPGNet, "resnet18", [4, 8, 16, 4], [64, 128, 256, NUM_CLASSES]),
    ],
)
def test_taps_have_the_strides_and_widths_of_the_stages(
    network: type[Any], backbone: str, strides: list[int], channels: list[int]
) -> None:
    taps = find_taps(network(backbone=backbone, num_classes=NUM_CLASSES), (64, 96))
    assert [tap.stride for tap in taps] == strides
    assert [tap.channels for tap in taps] == channels


@pytest.mark.parametrize(("network", "backbone"), [(OCRNet, "resnet18"), (SPGNet, "resnet18")])
def test_a_class_map_of_the_network_is_an_exit_as_it_is(network: type[Any], backbone: str) -> None:
    torch.manual_seed(0)
    built = network(backbone=backbone, num_classes=NUM_CLASSES)
    seen: list[torch.Tensor] = []
    built.get_submodule(built.class_map_taps[0]).register_forward_hook(lambda _m, _i, output: seen.append(output))
    model = MultiExit(built, NUM_CLASSES).train()
    outputs = model(torch.randn(2, 3, 64, 64))
    assert len(outputs.class_maps) == len(built.taps) + 1
    assert outputs.class_maps[-2] is seen[-1]
    assert outputs.class_maps[-1].shape == (2, NUM_CLASSES, 64, 64)


@small
def test_a_seed_gives_the_same_network(network: type[Any], backbone: str) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(network(backbone=backbone, num_classes=NUM_CLASSES).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
