"""What the wrapper promises beyond the contract that every network inherits."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regulation.small import Small
from selfreg.regulation import Exit, ExitOutputs, MultiExit, SelfRegulation, find_taps

IMAGES = torch.randn(2, 3, 32, 32)


def wrapper(**options: Any) -> MultiExit:
    return MultiExit(Small(), 3, image_size=(32, 32), **options)


def test_no_class_map_is_finer_than_a_quarter() -> None:
    outputs = wrapper()(IMAGES)
    assert [tuple(class_map.shape[2:]) for class_map in outputs.class_maps] == [(8, 8), (8, 8), (4, 4), (32, 32)]


def test_taps_are_given_as_names_as_one_name_or_as_found() -> None:
    for taps in (["stage1", "stage3"], ("stage1", "stage3"), find_taps(Small(), (32, 32), ["stage1", "stage3"])):
        assert wrapper(taps=taps).taps.names == ("stage1", "stage3")
    assert wrapper(taps="stage2").taps.names == ("stage2",)


def test_taps_found_on_another_network_are_checked() -> None:
    taps = find_taps(nn.Sequential(Small()), (32, 32), ["0.stage1", "0.stage2"])
    with pytest.raises(ValueError, match="no module '0.stage1'; near names: stage1"):
        wrapper(taps=taps)


def test_the_own_map_is_the_class_map_before_the_final_upsampling() -> None:
    model = wrapper()
    outputs = model(IMAGES)
    assert model.own_map == "head"
    assert outputs.own_map is not None
    expected = nn.functional.interpolate(outputs.own_map, size=(32, 32), mode="bilinear")
    torch.testing.assert_close(outputs.class_maps[-1], expected)


def test_features_come_in_one_width_for_every_exit() -> None:
    outputs = wrapper(features=True, width=8)(IMAGES)
    assert [features.shape[1] for features in outputs.features] == [8] * 4
    assert wrapper()(IMAGES).features == []


def test_a_class_map_tap_carries_no_classifier() -> None:
    network: Any = Small()
    network.taps, network.class_map_taps = ("stage1", "head"), ("head",)
    model = MultiExit(network, 3, image_size=(32, 32))
    assert sorted(name for name, _ in model.exits[1].named_parameters()) == [
        "image_head.linear.bias",
        "image_head.linear.weight",
    ]
    assert model(IMAGES).class_maps[1].shape == (2, 3, 4, 4)


def test_a_class_map_tap_of_another_class_count_is_refused() -> None:
    network: Any = Small()
    network.taps, network.class_map_taps = ("stage1", "head"), ("head",)
    with pytest.raises(ValueError, match="'head' has 3 channels, not the 4 classes"):
        MultiExit(network, 4, image_size=(32, 32))


def test_a_network_of_another_class_count_is_refused() -> None:
    with pytest.raises(ValueError, match="gives 3 classes, not num_classes = 4"):
        MultiExit(Small(), 4, image_size=(32, 32))


def test_arguments_reach_the_network_as_they_are() -> None:
    class Asking(Small):
        def forward(self, images: Tensor, scale: float = 0.0) -> Tensor:
            return super().forward(images) * scale

    model = MultiExit(Asking(), 3, image_size=(32, 32))
    assert model(IMAGES, scale=2.0).class_maps[-1].any()
    assert model.eval()(images=IMAGES, scale=2.0).any()


def test_a_module_that_runs_twice_is_tapped_at_its_first_run() -> None:
    class Twice(Small):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) + super().forward(images[:, :, ::2, ::2]).repeat(1, 1, 2, 2)

    assert MultiExit(Twice(), 3, image_size=(32, 32))(IMAGES).class_maps[0].shape == (2, 3, 8, 8)


def test_a_forward_that_misses_a_tap_is_an_error_and_leaves_nothing() -> None:
    class Moody(Small):
        skip = False

        def forward(self, images: Tensor) -> Tensor:
            features = self.stage2(self.stage1(images))
            features = features.repeat(1, 2, 1, 1)[:, :16] if self.skip else self.stage3(features)
            logits: Tensor = self.head(features)
            return logits

    network = Moody()
    model = MultiExit(network, 3, image_size=(32, 32))
    network.skip = True
    with pytest.raises(RuntimeError, match="did not run the tap 'stage3'"):
        model(IMAGES)
    assert model._record.outputs == {}
    network.skip = False
    assert isinstance(model(IMAGES), ExitOutputs)


def test_a_released_wrapper_says_so() -> None:
    model = wrapper()
    model.release()
    model.release()
    with pytest.raises(RuntimeError, match="released"):
        model(IMAGES)


def test_exits_follow_the_networks_device_and_dtype() -> None:
    model = MultiExit(Small().double(), 3, image_size=(32, 32))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert model(IMAGES.double()).class_maps[0].dtype == torch.float64


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 2"):
        MultiExit(Small(), 1)


@pytest.mark.parametrize("width", [0, 6, -4])
def test_a_width_that_the_exits_cannot_divide_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match="width must be a multiple of 4"):
        wrapper(width=width)


def test_a_tap_at_full_resolution_leaves_no_pixel_out() -> None:
    exit_ = Exit(1, 2, width=4, step=4).eval()
    image = torch.randn(1, 1, 16, 16, requires_grad=True)
    torch.autograd.backward(exit_.spatial[0](torch.nn.functional.relu(image)).abs().sum() + 0 * image.sum())
    assert image.grad is not None
    assert (image.grad[image.detach() > 0] != 0).all()


def test_training_by_regulation_fits_a_batch() -> None:
    torch.manual_seed(0)
    labels = torch.zeros(2, 32, 32, dtype=torch.int64)
    labels[:, 8:24, 8:24] = 1
    labels[:, :4] = 255
    images = torch.randn(2, 3, 32, 32) + labels.clamp_max(1)[:, None] * 2.0
    for variant in ("authors", "distill", "feature", "verified"):
        model = wrapper(features=variant == "feature")
        objective = SelfRegulation(variant)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        segmentation = []
        for step in range(30):
            terms = objective(model(images), labels, step / 30)
            optimizer.zero_grad()
            torch.autograd.backward(terms.total)
            optimizer.step()
            segmentation.append(terms.segmentation.item())
        assert segmentation[-1] < 0.5 * segmentation[0], variant
