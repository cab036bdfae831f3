"""What the wrapper promises beyond the contract that every network inherits."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import segmentation

from regulation.small import Small
from selfreg.regulation import ExitOutputs, MultiExit, SelfRegulation, SeparableExit, Tap, find_taps, main_output

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
    found = find_taps(Small(), (32, 32))
    assert wrapper(taps=found[1:]).taps.names == found.names[1:]


def test_a_tap_that_is_neither_a_name_nor_a_tap_is_refused() -> None:
    network = Small()
    with pytest.raises(TypeError, match="a tap is the name of a module or a Tap of find_taps, not a Sequential"):
        wrapper(taps=[nn.Sequential(network.stage1)])
    with pytest.raises(TypeError, match="not a Sequential"):
        find_taps(network, (32, 32), [nn.Sequential(network.stage1)])  # type: ignore[list-item]


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
    outputs = wrapper(features=True, exit_width=8)(IMAGES)
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
    with pytest.raises(ValueError, match="exit_width must be"):
        wrapper(exit_width=width)


def test_a_tap_at_full_resolution_leaves_no_pixel_out() -> None:
    exit_ = SeparableExit(1, 2, width=4, step=4).eval()
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


def test_the_own_map_of_a_head_that_runs_twice_is_that_of_the_run_that_is_upsampled() -> None:
    class Shared(Small):
        """The head classifies a coarser map too, before the one of the output or after it."""

        coarse_last = False

        def forward(self, images: Tensor) -> Tensor:
            features = self.stage3(self.stage2(self.stage1(images)))
            if not self.coarse_last:
                self.head(nn.functional.avg_pool2d(features, 2))
            logits = self.head(features)
            if self.coarse_last:
                self.head(nn.functional.avg_pool2d(features, 2))
            return nn.functional.interpolate(logits, size=images.shape[2:], mode="bilinear")

    for coarse_last in (False, True):
        network = Shared()
        network.coarse_last = coarse_last
        outputs = MultiExit(network, 3, image_size=(32, 32))(IMAGES)
        assert outputs.own_map is not None
        expected = nn.functional.interpolate(outputs.own_map, size=(32, 32), mode="bilinear")
        torch.testing.assert_close(outputs.logits, expected)


def test_a_head_that_runs_less_often_than_it_did_is_an_error() -> None:
    class Fading(Small):
        twice = True

        def forward(self, images: Tensor) -> Tensor:
            features = self.stage3(self.stage2(self.stage1(images)))
            if self.twice:
                self.head(features * 2)
            return nn.functional.interpolate(self.head(features), size=images.shape[2:], mode="bilinear")

    network = Fading()
    model = MultiExit(network, 3, image_size=(32, 32))
    network.twice = False
    with pytest.raises(RuntimeError, match="ran the module 'head' 1 times; its exit needs run 2"):
        model(IMAGES)
    assert model._record.outputs == {}


@pytest.mark.parametrize("taps", [["stage2", "stage1"], ["stage1", "stage3", "stage2"], ["stage2.2", "stage2.0"]])
def test_taps_listed_deep_before_shallow_are_refused(taps: list[str]) -> None:
    for given in (taps, find_taps(Small(), (32, 32), names=taps)):
        with pytest.raises(ValueError, match="lies before .* in the network: list the taps shallow to deep"):
            wrapper(taps=given)


def test_elements_of_a_list_are_ordered_by_stride_and_not_by_position() -> None:
    class DeepFirst(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Small()

        def forward(self, images: Tensor) -> list[Tensor]:
            first = self.inner.stage1(images)
            return [self.inner.stage3(self.inner.stage2(first)), first]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = DeepFirst(), nn.Conv2d(16, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.head(self.encoder(images)[0])
            return logits

    model = MultiExit(Network(), 3, ["encoder@1", "encoder@0"], image_size=(32, 32))
    assert [tap.stride for tap in model.taps] == [2, 8]
    with pytest.raises(ValueError, match="'encoder@1' lies before 'encoder@0'"):
        MultiExit(Network(), 3, ["encoder@0", "encoder@1"], image_size=(32, 32))


def test_the_main_output_of_exit_outputs_is_the_networks_own() -> None:
    outputs = wrapper()(IMAGES)
    assert outputs.logits is outputs.class_maps[-1]
    assert main_output(outputs) is outputs.class_maps[-1]


class Checkpointed(Small):
    """Its second stage, which is tapped, runs under reentrant activation checkpointing."""

    reentrant = True

    def forward(self, images: Tensor) -> Tensor:
        features: Any = checkpoint(self.stage2, self.stage1(images), use_reentrant=self.reentrant)
        logits: Tensor = self.head(self.stage3(features))
        return logits


def test_a_tap_inside_reentrant_checkpointing_is_refused_with_the_remedy() -> None:
    network = Checkpointed()
    model = MultiExit(network, 3, image_size=(32, 32))
    with pytest.raises(RuntimeError, match="'stage2' ran without gradients.*use_reentrant=False"):
        model(IMAGES)
    assert model._record.outputs == {}
    with torch.no_grad():
        assert isinstance(model(IMAGES), ExitOutputs)
    network.reentrant = False
    torch.autograd.backward(model(IMAGES).class_maps[1].sum())
    assert network.stage2[0].weight.grad is not None


def test_a_frozen_stage_that_runs_without_gradients_keeps_its_exit() -> None:
    class Frozen(Small):
        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                features = self.stage2(self.stage1(images))
            logits: Tensor = self.head(self.stage3(features))
            return logits

    network = Frozen()
    network.stage1.requires_grad_(False)
    network.stage2.requires_grad_(False)
    taps = ["stage1", "stage2.2", "stage3"]  # the second one is a ReLU: what encloses it tells that it is frozen
    assert isinstance(MultiExit(network, 3, taps, image_size=(32, 32))(IMAGES), ExitOutputs)


def test_every_exit_can_be_watched_in_eval_mode() -> None:
    model = wrapper().eval()
    ran = [tensor.clone() for tensor in model.exits.buffers()]
    with torch.no_grad():
        outputs = model.exit_outputs(IMAGES)
        assert torch.equal(outputs.logits, model(IMAGES))
    assert len(outputs.class_maps) == 4
    assert all(torch.equal(before, after) for before, after in zip(ran, model.exits.buffers(), strict=True))
    assert model._record.outputs == {}


def torchvision_network(num_classes: int = 3) -> nn.Module:
    network: nn.Module = segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=True
    )
    return network


def test_the_auxiliary_head_of_torchvision_is_an_exit() -> None:
    network = torchvision_network()
    model = MultiExit(network, 3, image_size=(64, 64))
    assert model.taps[-1] == Tap("aux_classifier", 8, 3, "NCHW", is_class_map=True)
    assert [tap.name for tap in model.taps[:-1]] == [f"backbone.{n}" for n in ("relu", "layer1", "layer2", "layer3")]
    terms = SelfRegulation()(model(torch.randn(2, 3, 64, 64)), torch.zeros(2, 64, 64, dtype=torch.int64), 0.0)
    torch.autograd.backward(terms.total)
    head: Any = network.get_submodule("aux_classifier")
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())


def test_an_auxiliary_head_that_is_not_tapped_is_said_to_stay_untrained() -> None:
    with pytest.warns(UserWarning, match="'aux_classifier' is not among the taps, so that no loss trains it"):
        MultiExit(torchvision_network(), 3, ["backbone.layer1"], image_size=(64, 64))
