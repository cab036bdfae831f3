"""What the wrapper promises beyond the contract that every network inherits."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import segmentation

from regulation.small import Small, block
from selfreg.regulation import ExitOutputs, MultiExit, SelfRegulation, SeparableExit, Tap, Taps, find_taps, main_output

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
    network.taps, network.class_map_taps = ("stage1", "stage2"), ("stage2",)
    with pytest.raises(ValueError, match="'stage2' has 12 channels, not the 3 classes"):
        MultiExit(network, 3, image_size=(32, 32))


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


class TrainsOtherwise(Small):
    """Runs its head, or all of itself, in another way in training than in evaluation."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.auxiliary: Tensor | None = None

    def forward(self, images: Tensor) -> Any:
        features = self.stage3(self.stage2(self.stage1(images)))
        way = self.way if self.training else ""
        if way == "auxiliary":
            self.auxiliary = self.head(features * 2)
        logits = self.head(features)
        if way == "recurrent":
            logits = self.head(features + logits.mean())
        if way == "more":
            fine = nn.functional.interpolate(logits, size=images.shape[2:], mode="bilinear")
            return fine + nn.functional.interpolate(features[:, :3], size=images.shape[2:], mode="bilinear")
        if way == "flipped":
            logits = (logits + self.head(features.flip(-1)).flip(-1)) / 2
        if way == "tuple":
            return nn.functional.interpolate(logits, size=images.shape[2:], mode="bilinear"), self.auxiliary
        return nn.functional.interpolate(logits, size=images.shape[2:], mode="bilinear")


@pytest.mark.parametrize("way", ["auxiliary", "recurrent", "flipped", "more", "tuple"])
def test_a_class_map_before_the_upsampling_is_given_only_if_it_is_that_of_the_output(way: str) -> None:
    outputs = MultiExit(TrainsOtherwise(way), 3, image_size=(32, 32))(IMAGES)
    if outputs.own_map is not None:
        expected = nn.functional.interpolate(outputs.own_map, size=(32, 32), mode="bilinear")
        torch.testing.assert_close(outputs.logits, expected)
    assert (outputs.own_map is not None) == (way == "tuple")
    torch.autograd.backward(SelfRegulation()(outputs, torch.zeros(2, 32, 32, dtype=torch.int64), 1.0).total)


def test_a_head_that_gives_another_kind_in_training_is_not_compared() -> None:
    class Pair(nn.Conv2d):
        def forward(self, features: Tensor) -> Any:
            logits = super().forward(features)
            return (logits, logits) if self.training else logits

    class Network(Small):
        def __init__(self) -> None:
            super().__init__()
            self.head = Pair(16, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            logits = self.head(self.stage3(self.stage2(self.stage1(images))))
            logits = logits[0] if isinstance(logits, tuple) else logits
            return nn.functional.interpolate(logits, size=images.shape[2:], mode="bilinear")

    model = MultiExit(Network(), 3, image_size=(32, 32))
    assert model.own_map == "head"
    assert model(IMAGES).own_map is None


def test_a_tap_that_runs_more_often_than_in_the_dry_run_is_refused() -> None:
    class Siamese(Small):
        def forward(self, images: Tensor, reference: Tensor | None = None) -> Tensor:
            if reference is not None:
                super().forward(reference)
            return super().forward(images)

    model = MultiExit(Siamese(), 3, image_size=(32, 32))
    with pytest.raises(RuntimeError, match="ran the tap 'stage1' 2 times, the dry run on one image 1, so that"):
        model(IMAGES, IMAGES.flip(-1))
    assert model._record.outputs == {}
    model.network(IMAGES, IMAGES.flip(-1))
    assert isinstance(model(IMAGES), ExitOutputs)


@pytest.mark.parametrize("before", [False, True])
def test_a_pass_without_gradients_beside_the_one_that_trains_is_not_recorded(before: bool) -> None:
    class SelfTaught(Small):
        def forward(self, images: Tensor) -> Tensor:
            if before:
                with torch.no_grad():
                    super().forward(images.flip(-1))
            logits = super().forward(images)
            if not before:
                with torch.no_grad():
                    super().forward(images.flip(-1))
            return logits

    taught, plain = SelfTaught(), Small()
    plain.load_state_dict(taught.state_dict())
    models = [MultiExit(network, 3, ["stage1", "stage2"], image_size=(32, 32)) for network in (taught, plain)]
    models[1].exits.load_state_dict(models[0].exits.state_dict())
    for mode in (True, False):  # in validation neither pass has gradients
        with torch.set_grad_enabled(mode):
            for first, second in zip(*(model(IMAGES).class_maps for model in models), strict=True):
                torch.testing.assert_close(first, second)


def test_replicas_of_data_parallel_are_refused() -> None:
    model = wrapper()
    replica = model._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="DataParallel .* use DDP"):
        replica(IMAGES)
    assert isinstance(model(IMAGES), ExitOutputs)


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


class Elements(nn.Module):
    """Three stages whose features come as one list; the shallow two have the same stride."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.Conv2d(8, 8, 3, 1, 1),
            nn.Conv2d(8, 8, 3, 2, 1),
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        first = self.first(images)
        second = self.second(first)
        return [first, second, self.third(second)]


class OfElements(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.up, self.head = Elements(), nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        fine = nn.functional.interpolate(self.encoder(images)[-1], scale_factor=2)
        logits: Tensor = self.head(self.up(fine))
        return logits


@pytest.mark.parametrize(
    "taps",
    [
        ["encoder@1", "encoder@0"],
        ["encoder@2", "encoder.second"],
        ["encoder.second", "encoder@0"],
        ["up", "encoder@2"],
        ["up", "encoder.first"],
    ],
)
def test_taps_are_ordered_by_what_is_computed_from_what(taps: list[str]) -> None:
    assert MultiExit(OfElements(), 3, taps[::-1], image_size=(32, 32)).taps.names == tuple(taps[::-1])
    with pytest.raises(ValueError, match=f"'{taps[1]}' lies before '{taps[0]}'"):
        MultiExit(OfElements(), 3, taps, image_size=(32, 32))


def test_taps_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'stage2' has .* \(12, 4, 'NCHW'\), not \(12, 2, 'NCHW'\)"):
        MultiExit(Small(), 3, taps=Taps([Tap("stage2", 2, 12, "NCHW")]), image_size=(32, 32))
    taps = Taps([Tap("stage1", 2, 99, "NCHW"), Tap("stage2", 4, 12, "NCHW")])
    with pytest.raises(ValueError, match=r"'stage1' has .* \(8, 2, 'NCHW'\), not \(99, .*: let find_taps measure"):
        MultiExit(Small(), 3, taps, image_size=(32, 32))


def test_the_order_of_a_networks_own_declaration_is_checked() -> None:
    class Declared(Small):
        taps = ("stage3", "stage1")

    with pytest.raises(ValueError, match="'stage1' lies before 'stage3'"):
        MultiExit(Declared(), 3, image_size=(32, 32))


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


@pytest.mark.parametrize("frozen", [False, True])
def test_a_tap_inside_reentrant_checkpointing_is_refused_with_the_remedy(frozen: bool) -> None:
    network = Checkpointed()
    model = MultiExit(network, 3, ["stage1", "stage2.0"], image_size=(32, 32))
    network.stage2[0].requires_grad_(not frozen)  # frozen itself, but what lies before it trains
    with pytest.raises(RuntimeError, match=r"'stage2\.0' ran without gradients.*use_reentrant=False"):
        model(IMAGES)
    assert model._record.outputs == {}
    assert model._record.detached == {}
    with torch.no_grad():
        assert isinstance(model(IMAGES), ExitOutputs)
    network.reentrant = False
    torch.autograd.backward(model(IMAGES).class_maps[1].sum())
    assert network.stage1[0].weight.grad is not None


def test_a_tap_that_is_checkpointed_itself_gets_the_gradients_of_plain_training() -> None:
    network = Checkpointed()
    model = MultiExit(network, 3, ["stage1", "stage2"], image_size=(32, 32))
    gradients = []
    for network.reentrant in (True, False):
        model.zero_grad()
        outputs = model(IMAGES)
        torch.autograd.backward(sum(class_map.square().mean() for class_map in outputs.class_maps))
        gradients.append([parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_a_frozen_branch_without_gradients_beside_one_that_trains_keeps_its_exit() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.spatial, self.context, self.head = block(3, 8, 2), Small(), nn.Conv2d(24, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            fine = self.spatial(images)
            with torch.no_grad():
                coarse = self.context.stage3(self.context.stage2(self.context.stage1(images)))
            coarse = nn.functional.interpolate(coarse, size=fine.shape[2:])
            logits: Tensor = self.head(torch.cat([fine, coarse], dim=1))
            return logits

    network = Branches()
    network.context.requires_grad_(False)
    model = MultiExit(network, 3, ["spatial", "context.stage3"], image_size=(32, 32))
    assert len(model(IMAGES).class_maps) == 3


@pytest.mark.parametrize("where", ["training", "evaluation"])
@pytest.mark.parametrize("other", ["half", "flipped"])
def test_of_several_runs_the_one_at_full_size_is_taken_where_only_one_is(where: str, other: str) -> None:
    class Twice(Small):
        def forward(self, images: Tensor) -> Tensor:
            if self.training != (where == "training"):
                return super().forward(images)
            second = images.flip(-1) if other == "flipped" else nn.functional.interpolate(images, scale_factor=0.5)
            inputs = (second, images) if self.training else (images, second)
            logits = [nn.functional.interpolate(super(Twice, self).forward(each), size=(32, 32)) for each in inputs]
            return logits[0] + logits[1]

    network, plain = Twice(), Small()
    plain.load_state_dict(network.state_dict())
    model = MultiExit(network, 3, image_size=(32, 32))
    if (where, other) == ("training", "flipped"):
        with pytest.raises(RuntimeError, match="ran the tap 'stage1' 2 times"):
            model(IMAGES)
        return
    expected = MultiExit(plain, 3, image_size=(32, 32))
    expected.exits.load_state_dict(model.exits.state_dict())
    for found, of_plain in zip(model(IMAGES).class_maps[:-1], expected(IMAGES).class_maps[:-1], strict=True):
        torch.testing.assert_close(found, of_plain)


def test_what_a_network_keeps_of_its_weights_is_that_of_its_own_after_wrapping() -> None:
    class Fused(Small):
        def train(self, mode: bool = True) -> "Fused":
            super().train(mode)
            if not mode:
                self.fused = self.head.weight.detach() * 2
            return self

        def forward(self, images: Tensor) -> Tensor:
            features = self.stage3(self.stage2(self.stage1(images)))
            return features if self.training else nn.functional.conv2d(features, self.fused)

    network = Fused().eval()
    before = network(IMAGES)
    assert torch.equal(MultiExit(network, 3, image_size=(32, 32)).release()(IMAGES), before)


def test_a_class_map_that_later_stages_use_is_tapped_before_them() -> None:
    class Cascade(Small):
        class_map_taps = ("coarse",)

        def __init__(self) -> None:
            super().__init__()
            self.coarse = nn.Conv2d(12, 3, 1)
            self.stage3 = block(15, 16, 2)

        def forward(self, images: Tensor) -> Tensor:
            features = self.stage2(self.stage1(images))
            logits: Tensor = self.head(self.stage3(torch.cat([features, self.coarse(features)], dim=1)))
            return logits

    assert MultiExit(Cascade(), 3, image_size=(32, 32)).taps.names == ("stage1", "stage2", "coarse", "stage3")


def test_a_head_inside_reentrant_checkpointing_gives_no_warning() -> None:
    class Network(Small):
        def forward(self, images: Tensor) -> Tensor:
            features = self.stage3(self.stage2(self.stage1(images)))
            logits: Tensor = checkpoint(self.head, features, use_reentrant=True)
            return logits

    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        MultiExit(Network(), 3, image_size=(32, 32))
    assert not any("auxiliary head" in str(warning.message) for warning in given)


def test_the_refusal_names_the_tap_at_fault_and_not_a_frozen_one() -> None:
    class Partly(Checkpointed):
        def forward(self, images: Tensor) -> Tensor:
            with torch.no_grad():
                features = self.stage1(images)
            features = checkpoint(self.stage2, features.requires_grad_(), use_reentrant=True)
            logits: Tensor = self.head(self.stage3(features))
            return logits

    network = Partly()
    network.stage1.requires_grad_(False)
    with pytest.raises(RuntimeError, match=r"'stage2\.0' ran without gradients"):
        MultiExit(network, 3, ["stage1", "stage2.0"], image_size=(32, 32))(IMAGES)


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
    with pytest.warns(UserWarning, match="'aux_classifier' has no part .* so that no loss trains it"):
        MultiExit(torchvision_network(), 3, ["backbone.layer1"], image_size=(64, 64))


@pytest.mark.parametrize("name", ["aux_head", "auxiliary_heads", "deep.supervision"])
def test_a_head_without_a_part_in_the_output_is_said_to_stay_untrained_whatever_its_name(name: str) -> None:
    network = Small()
    head: nn.Module = nn.ModuleList([nn.Sequential(nn.Conv2d(12, 8, 1), nn.Conv2d(8, 3, 1))])
    for part in reversed(name.split(".")[1:]):
        head = nn.ModuleDict({part: head})
    network.add_module(name.split(".")[0], head)
    with pytest.warns(UserWarning, match=f"auxiliary head '{name.split('.')[0]}' has no part"):
        MultiExit(network, 3, image_size=(32, 32))


def test_no_warning_is_given_of_a_network_without_other_heads() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapper()
