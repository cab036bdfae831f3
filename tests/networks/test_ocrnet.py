"""The OCR head against slow, explicit versions."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from selfreg.networks import OCRNet
from selfreg.networks.ocrnet import ObjectAttention, object_regions


def plain_regions(class_maps: Tensor, features: Tensor) -> Tensor:
    """One class, one channel, one pixel at a time."""
    batch, num_classes, height, width = class_maps.shape
    regions = torch.zeros(batch, features.shape[1], num_classes, dtype=features.dtype)
    for n in range(batch):
        for k in range(num_classes):
            total = sum(float(class_maps[n, k, y, x].exp()) for y in range(height) for x in range(width))
            for c in range(features.shape[1]):
                for y in range(height):
                    for x in range(width):
                        weight = float(class_maps[n, k, y, x].exp()) / total
                        regions[n, c, k] += weight * features[n, c, y, x]
    return regions


def plain_context(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of each pixel of query (N, C, h, w) to the K columns of key and value (N, C, K)."""
    batch, channels, height, width = query.shape
    context = torch.zeros_like(query)
    for n in range(batch):
        for y in range(height):
            for x in range(width):
                scores = [float(query[n, :, y, x] @ key[n, :, k]) / channels**0.5 for k in range(key.shape[2])]
                exponentials = torch.tensor(scores, dtype=torch.float64).exp()
                for k in range(key.shape[2]):
                    context[n, :, y, x] += exponentials[k] / exponentials.sum() * value[n, :, k]
    return context


def test_regions_are_the_explicit_weighted_means() -> None:
    class_maps, features = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 6, 4, 5).double()
    torch.testing.assert_close(object_regions(class_maps, features), plain_regions(class_maps, features))


def test_attention_is_the_explicit_one() -> None:
    torch.manual_seed(0)
    attention = ObjectAttention(8, width=4).double().eval()
    features, regions = torch.randn(2, 8, 3, 4).double(), torch.randn(2, 8, 5).double()
    with torch.no_grad():
        query = attention.query(features)
        key, value = (part(regions.unsqueeze(3)).squeeze(3) for part in (attention.key, attention.value))
        expected = attention.restore(plain_context(query, key, value))
        torch.testing.assert_close(attention(features, regions), expected)


@settings(max_examples=25, deadline=None)
@given(shift=st.floats(-50, 50), seed=st.integers(0, 1000))
def test_regions_do_not_change_when_a_class_map_is_shifted(shift: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    class_maps = torch.randn(1, 3, 4, 5, generator=generator, dtype=torch.float64)
    features = torch.randn(1, 2, 4, 5, generator=generator, dtype=torch.float64)
    expected = object_regions(class_maps, features)
    torch.testing.assert_close(object_regions(class_maps + shift, features), expected)


def test_a_region_of_a_certain_class_map_is_the_pixel_it_points_at() -> None:
    class_maps = torch.zeros(1, 2, 4, 5)
    class_maps[0, 0, 1, 2], class_maps[0, 1, 3, 4] = 100, 100
    features = torch.randn(1, 6, 4, 5)
    regions = object_regions(class_maps, features)
    torch.testing.assert_close(regions[0, :, 0], features[0, :, 1, 2])
    torch.testing.assert_close(regions[0, :, 1], features[0, :, 3, 4])


@pytest.mark.parametrize("backbone", ["hrnet_w18_small", "resnet18"])
def test_the_auxiliary_maps_shape_the_output(backbone: str) -> None:
    torch.manual_seed(0)
    network: Any = OCRNet(backbone, 4).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = network(images)
        network.auxiliary[-1].weight.mul_(50)
        assert not torch.equal(before, network(images))


def test_the_auxiliary_maps_of_a_resnet_come_from_the_stage_before_the_last() -> None:
    network: Any = OCRNet("resnet18", 4)
    assert network.auxiliary[0][0].in_channels == 256
    assert network.pixel_features[0].in_channels == 512
