"""DeepLab-v2: dilations, receptive structure, several scales."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional

from selfreg.networks import DeepLabV2
from selfreg.networks.deeplab_v2 import DilatedClassifiers
from selfreg.regulation import MultiExit


def test_the_last_two_stages_are_dilated_by_2_and_4() -> None:
    with torch.device("meta"):
        model = DeepLabV2("resnet101", 21).backbone.model
    assert all(block.conv2.stride == (1, 1) for stage in (model["layer3"], model["layer4"]) for block in stage)
    assert [block.conv2.dilation[0] for block in model["layer3"]] == [1] + 22 * [2]
    assert [block.conv2.dilation[0] for block in model["layer4"]] == [2, 4, 4]


def test_the_output_stride_is_an_option() -> None:
    with torch.device("meta"):
        network = DeepLabV2("resnet18", 3, output_stride=16)
        features = network.backbone(torch.zeros(1, 3, 96, 64))
    assert [tuple(stage.shape[2:]) for stage in features] == [(48, 32), (24, 16), (12, 8), (6, 4), (6, 4)]
    assert [block.conv1.dilation[0] for block in network.backbone.model["layer4"]] == [1, 2]
    with pytest.raises(ValueError, match="cannot be built at output stride 12: use 8, 16 or 32"):
        DeepLabV2("resnet18", 3, output_stride=12)


def test_dilation_computes_what_the_strided_backbone_computes_on_a_denser_grid() -> None:
    torch.manual_seed(0)
    strided = timm.create_model("resnet50", features_only=True).eval()
    network = DeepLabV2("resnet50", 3).eval()
    network.backbone.model.load_state_dict(strided.state_dict())
    images = torch.randn(1, 3, 97, 65)
    with torch.no_grad():
        dense, coarse = network.backbone(images)[-1], strided(images)[-1]
    torch.testing.assert_close(dense[:, :, ::4, ::4], coarse, rtol=1e-4, atol=1e-4)


def test_a_pixel_sees_itself_and_rings_of_6_12_18_and_24() -> None:
    head = DilatedClassifiers(4, 2, rates=(6, 12, 18, 24))
    features = torch.zeros(1, 4, 61, 61, requires_grad=True)
    head(features)[0, 0, 30, 30].backward()
    assert features.grad is not None
    seen = {(int(y) - 30, int(x) - 30) for y, x in features.grad[0].abs().sum(0).nonzero()}
    wanted = {(rate * y, rate * x) for rate in (6, 12, 18, 24) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    assert seen == wanted


def test_the_head_is_the_sum_of_its_branches() -> None:
    head: Any = DilatedClassifiers(4, 2, rates=(1, 3))
    features = torch.randn(1, 4, 9, 9)
    near, far = head.branches
    expected = functional.conv2d(features, near.weight, near.bias, padding=1)
    expected = expected + functional.conv2d(features, far.weight, far.bias, padding=3, dilation=3)
    torch.testing.assert_close(head(features), expected)
    assert not near.bias.any()
    assert not far.bias.any()


def test_several_scales_give_the_largest_logit_of_any() -> None:
    torch.manual_seed(0)
    several = DeepLabV2("resnet18", 3, scales=(1.0, 0.75, 0.5)).eval()
    one = DeepLabV2("resnet18", 3).eval()
    one.load_state_dict(several.state_dict())
    images = torch.randn(1, 3, 96, 64)

    def scaled(maps: Tensor, height: int, width: int) -> Tensor:
        return functional.interpolate(maps, (height, width), mode="bilinear", align_corners=True)

    with torch.no_grad():
        coarse = [
            one.classifiers(one.backbone(scaled(images, height, width))[-1])
            for height, width in ((96, 64), (72, 48), (48, 32))
        ]
        largest = torch.stack([scaled(logits, 12, 8) for logits in coarse]).amax(0)
        torch.testing.assert_close(several(images), scaled(largest, 96, 64))
        assert not torch.equal(several(images), one(images))


def test_exits_at_several_scales_see_the_image_itself() -> None:
    torch.manual_seed(0)
    network = DeepLabV2("resnet10t", 3, scales=(1.0, 0.5))
    outputs = MultiExit(network, 3).train()(torch.randn(2, 3, 64, 96))
    assert [tuple(class_map.shape[2:]) for class_map in outputs.class_maps] == [
        (16, 24),
        (16, 24),
        (8, 12),
        (8, 12),
        (64, 96),
    ]


@pytest.mark.parametrize("scales", [(), (0.5, 1.0)])
def test_scales_begin_with_the_image_itself(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"must begin with 1\.0"):
        DeepLabV2("resnet18", 3, scales=scales)
