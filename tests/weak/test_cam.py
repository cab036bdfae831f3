"""Class activation maps against explicit sums, and the merging of views against a slow plain version."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from selfreg.config.weak import CamConfig, ClassifierConfig
from selfreg.regulation import MultiExit
from selfreg.weak.cam import activation_maps, by_class_maximum, grid_of, merged_maps
from selfreg.weak.classifier_network import ClassifierNetwork, build_classifier, class_maps, show_exits, tag_loss

BACKBONE = "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def network() -> ClassifierNetwork:
    torch.manual_seed(0)
    return ClassifierNetwork(BACKBONE, 3).eval()


def test_a_class_map_is_the_sum_of_the_features_weighted_by_the_head(network: ClassifierNetwork) -> None:
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        features = network.backbone(images)[-1]
        maps = network(images)
    weights = network.head.weight[:, :, 0, 0]
    expected = torch.zeros_like(maps)
    for image in range(2):
        for class_index in range(3):
            for channel in range(features.shape[1]):
                expected[image, class_index] += weights[class_index, channel] * features[image, channel]
    assert maps.shape == (2, 3, 4, 6)
    assert torch.allclose(maps, expected, atol=1e-4)


def test_the_mean_of_a_class_map_is_the_logit_of_pooled_features(network: ClassifierNetwork) -> None:
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        pooled = network.backbone(images)[-1].mean(dim=(2, 3))
        logits = pooled @ network.head.weight[:, :, 0, 0].T
        assert torch.allclose(network(images).mean(dim=(2, 3)), logits, atol=1e-5)


def test_the_loss_is_the_binary_cross_entropy_of_the_pooled_maps_of_every_exit() -> None:
    maps = [torch.randn(2, 3, 4, 4), torch.randn(2, 3, 2, 2)]
    tags = torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    expected = 0.0
    for exit_maps in maps:
        for image in range(2):
            for class_index in range(3):
                p = torch.sigmoid(exit_maps[image, class_index].mean()).item()
                expected -= np.log(p if tags[image, class_index] else 1 - p) / 6
    assert float(tag_loss(maps, tags)) == pytest.approx(expected, rel=1e-5)


def plain_views(maps_of: nn.Module, image: Tensor, size: tuple[int, int], scales: list[float], flip: bool) -> Tensor:
    """Every scale and mirror in turn, each as NumPy would write it; sides are multiples of 32, so nothing is padded."""
    total = np.zeros((2, *size))
    for scale in scales:
        sides = (round(image.shape[1] * scale), round(image.shape[2] * scale))
        zoomed = image[None]
        if scale != 1:
            zoomed = interpolate(image[None], size=sides, mode="bilinear", antialias=True)
        for mirror in (False, True) if flip else (False,):
            view = torch.from_numpy(zoomed.numpy()[..., ::-1].copy()) if mirror else zoomed
            maps = np.maximum(maps_of(view).detach().numpy(), 0)
            whole = interpolate(torch.from_numpy(maps), size=sides, mode="bilinear")
            small = interpolate(whole, size=size, mode="bilinear")[0].numpy()
            total += small[..., ::-1] if mirror else small
    return torch.from_numpy(total).float()


@pytest.mark.parametrize("flip", [True, False])
def test_views_are_merged_as_by_a_slow_plain_version(flip: bool) -> None:
    torch.manual_seed(1)
    maps_of = nn.Conv2d(3, 2, 5, stride=16, padding=2)
    image = torch.randn(3, 64, 128)
    with torch.no_grad():
        merged = merged_maps(lambda images: [maps_of(images)], image, (16, 32), scales=[0.5, 1.0, 2.0], flip=flip)
    assert torch.allclose(merged, plain_views(maps_of, image, (16, 32), [0.5, 1.0, 2.0], flip), atol=1e-5)


def test_padding_moves_nothing() -> None:
    """A network that gives the image back: its map is the image, whatever the sides."""
    image = torch.rand(3, 37, 53)
    merged = merged_maps(lambda images: [images], image, (37, 53), scales=[1.0], flip=True)
    assert torch.allclose(merged, 2 * image, atol=1e-5)


def test_each_map_is_divided_by_its_own_maximum_and_an_empty_one_stays_empty() -> None:
    maps = torch.tensor([[[0.0, 2.0], [1.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert by_class_maximum(maps).tolist() == [[[0.0, 0.5], [0.25, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]


def test_only_the_classes_asked_for_are_given_on_a_quarter_of_the_grid(network: ClassifierNetwork) -> None:
    image = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    config = CamConfig(scales=[1.0])
    device = torch.device("cpu")
    assert grid_of(50, 70) == (13, 18)
    two = activation_maps(network, image, [2, 0], config, statistics, device)
    one = activation_maps(network, image, [0], config, statistics, device)
    assert two.shape == (2, 13, 18)
    assert torch.equal(two[1], one[0])
    assert activation_maps(network, image, [], config, statistics, device).shape == (0, 13, 18)
    assert float(two.min()) >= 0
    assert float(two.max()) == pytest.approx(1)


def test_exits_give_maps_at_several_depths() -> None:
    config = ClassifierConfig(backbone=BACKBONE, taps=["backbone.stages.1", "backbone.stages.3"])
    classifier = build_classifier(config, 3, seed=0)
    assert isinstance(classifier, MultiExit)
    show_exits(classifier)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = class_maps(classifier, images)
        again = class_maps(classifier, images)
        assert torch.equal(maps[-1], classifier.network(images))
    assert [each.shape[2] for each in maps] == [16, 4, 4]
    assert all(torch.equal(first, second) for first, second in zip(maps, again, strict=True))
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    deep, both = (
        activation_maps(classifier, image, [1], CamConfig(scales=[1.0], depths=depths), statistics, torch.device("cpu"))
        for depths in (1, 2)
    )
    assert not torch.allclose(deep, both)
