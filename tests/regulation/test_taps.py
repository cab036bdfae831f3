"""Taps by name, by declaration and by dry run; what is said of names that do not exist."""

from typing import Any, ClassVar, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regulation.small import Small, block
from selfreg.regulation import Tap, Taps, find_taps
from selfreg.regulation.own_map import find_own_map


class Pyramid(nn.Module):
    """Returns nothing usable as a class map, takes one image size alone, and keeps its stages in a list of outputs."""

    img_size = (48, 48)

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.other = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2:] != (48, 48):
            raise RuntimeError(f"only 48 x 48, not {tuple(images.shape[2:])}")
        stages: list[Tensor] = self.trunk(images)
        logits: Tensor = self.other(stages[-1])[:, :3]
        return logits


class Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = block(3, 4, 2), block(4, 6, 2)

    def forward(self, images: Tensor) -> list[Tensor]:
        first = self.a(images)
        return [images, first, images.new_zeros(1, 0, 12, 12), self.b(first)]


class Block(nn.Module):
    """A block whose attention looks at a coarser grid, as those of SegFormer do."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.main, self.keys = block(inputs, outputs, stride), nn.AvgPool2d(8)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.main(features) * (1 + self.keys(features).mean())
        return result


class ListsInAList(nn.Module):
    """Stages that are bare lists of blocks, as in SegFormer of transformers 4: the lists themselves are never run."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [nn.ModuleList([Block(3, 4, 4), Block(4, 4, 1)]), nn.ModuleList([Block(4, 6, 2), Block(6, 6, 1)])]
        )
        self.head = nn.Conv2d(6, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        for stage in self.blocks:
            for one in stage:  # type: ignore[attr-defined]
                images = one(images)
        logits: Tensor = self.head(images)
        return logits


def test_of_a_stage_that_is_a_bare_list_of_blocks_the_last_block_is_the_tap() -> None:
    assert find_taps(ListsInAList(), (64, 64)) == Taps(
        [Tap("blocks.0.1", 4, 4, "NCHW"), Tap("blocks.1.1", 8, 6, "NCHW")]
    )


def test_the_table_shows_name_stride_channels_and_layout() -> None:
    taps = find_taps(Small(), (64, 64))
    assert str(taps).splitlines() == [
        "tap     stride  channels  layout",
        "stage1       2         8  NCHW",
        "stage2       4        12  NCHW",
        "stage3       8        16  NCHW",
    ]
    assert taps.names == ("stage1", "stage2", "stage3")
    assert isinstance(taps, tuple)
    assert taps[0] == Tap("stage1", 2, 8, "NCHW")


def test_names_are_measured_in_the_order_given() -> None:
    taps = find_taps(Small(), (64, 64), names=["stage3", "stage1.0"])
    assert taps == Taps([Tap("stage3", 8, 16, "NCHW"), Tap("stage1.0", 2, 8, "NCHW")])


def test_a_networks_own_declaration_is_believed() -> None:
    network: Any = Small()
    network.taps = ("stage2", "head")
    network.class_map_taps = ("head",)
    assert find_taps(network, (64, 64)) == Taps(
        [Tap("stage2", 4, 12, "NCHW"), Tap("head", 8, 3, "NCHW", is_class_map=True)]
    )


def test_elements_of_a_list_are_taps_and_a_declared_image_size_is_used() -> None:
    taps = find_taps(Pyramid(), names=["trunk@1", "trunk@3"])
    assert taps == Taps([Tap("trunk@1", 2, 4, "NCHW"), Tap("trunk@3", 4, 6, "NCHW")])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["stage4"], "no module 'stage4'; near names: stage"),
        (["backbone.stage1"], "near names: stage1"),
        (["zzz"], "no module 'zzz'$"),
        (["stage1", "stage1"], "'stage1' is given twice"),
        ([], "name at least one"),
        (["stage1@3"], "no feature map"),
        (["spare"], "no feature map"),
    ],
)
def test_bad_names_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_taps(Small(), (64, 64), names=names)


def test_a_module_that_returns_a_list_asks_for_an_element() -> None:
    with pytest.raises(ValueError, match="name an element: trunk@0, trunk@1, trunk@3"):
        find_taps(Pyramid(), names=["trunk"])


def test_a_network_that_refuses_the_dry_run_says_what_was_tried() -> None:
    class Refusing(nn.Module):
        def forward(self, _images: Tensor) -> Tensor:
            raise RuntimeError("not on a Sunday\nsecond line")

    with pytest.raises(ValueError, match="Refusing refuses the dry run .32 x 96: not on a Sunday; 32 x 32: not on"):
        find_taps(Refusing(), (32, 32))


def test_a_network_without_stages_asks_for_names() -> None:
    with pytest.raises(ValueError, match="no stages found in Conv2d: name its taps"):
        find_taps(nn.Conv2d(3, 3, 1), (32, 32))


def test_the_dry_run_leaves_no_trace() -> None:
    network = Small().train()
    network.stage2.eval()
    random = torch.get_rng_state()
    find_taps(network, (64, 64))
    assert torch.equal(torch.get_rng_state(), random)
    assert [stage.training for stage in (network, network.stage1, network.stage2)] == [True, True, False]
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("channels", [32, 48])
def test_layouts_are_told_apart_where_channels_equal_the_grid(channels: int) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, channels, 2, 2), nn.Conv2d(channels, 3, 2, 2)
            self.channels_last = nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            features = self.first(images)
            features = self.channels_last(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            logits: Tensor = self.last(features)
            return logits

    taps = find_taps(Both(), (64, 64), names=["first", "channels_last"])
    assert [(tap.stride, tap.channels, tap.layout) for tap in taps] == [
        (2, channels, "NCHW"),
        (2, channels, "NHWC"),
    ]


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_class_map_before_the_final_upsampling_is_found(align_corners: bool) -> None:
    network = nn.Sequential(
        block(3, 8, 2), nn.Conv2d(8, 3, 1), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=align_corners)
    )
    assert find_own_map(network, 3, (32, 32)) == ("1", 0, 1)


def test_a_class_map_that_is_changed_on_its_way_out_is_not_taken_for_it() -> None:
    head = nn.Conv2d(8, 3, 1)
    changed = nn.Sequential(block(3, 8, 2), head, nn.Tanh(), nn.Upsample(scale_factor=2, mode="bilinear"))
    assert find_own_map(changed, 3, (32, 32)) == ("2", 0, 1)
    nearest = nn.Sequential(block(3, 8, 2), nn.Conv2d(8, 3, 1), nn.Upsample(scale_factor=2))
    assert find_own_map(nearest, 3, (32, 32)) is None
    assert find_own_map(nn.Sequential(block(3, 8, 2), nn.Conv2d(8, 3, 1)), 3, (32, 32)) is None


class Refined(nn.Module):
    """Something after the upsampling that changes nothing until it is trained."""

    def __init__(self, after: str) -> None:
        super().__init__()
        self.body, self.head = block(3, 8, 2), nn.Conv2d(8, 3, 1)
        self.refine = nn.Conv2d(3, 3, 1)
        if after == "zero":
            nn.init.zeros_(self.refine.weight)
        else:
            nn.init.dirac_(self.refine.weight)
        nn.init.zeros_(self.refine.bias)  # type: ignore[arg-type]
        self.after = after

    def forward(self, images: Tensor) -> Tensor:
        logits = nn.functional.interpolate(self.head(self.body(images)), size=images.shape[2:], mode="bilinear")
        refined: Tensor = self.refine(logits)
        return logits + refined if self.after == "zero" else refined


@pytest.mark.parametrize("after", ["zero", "identity"])
def test_a_layer_that_changes_nothing_yet_is_seen_after_the_upsampling(after: str) -> None:
    network = Refined(after)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert find_own_map(network, 3, (32, 32)) is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_convolution_without_padding_keeps_the_stride_of_the_network() -> None:
    """Each of the three loses a row and a column more than the stride takes."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 4, 5), nn.Conv2d(4, 6, 3, 2), nn.Conv2d(6, 6, 5), nn.Conv2d(6, 8, 3, 2)
    )
    assert [tap.stride for tap in find_taps(network, names=("0", "2", "4"))] == [2, 4, 8]


def test_a_network_of_one_size_is_run_at_it_first() -> None:
    class OneSize(nn.Module):
        """It resizes what it gets, so that a size of its own choosing is the only one at which tokens tell a grid."""

        pretrained_cfg: ClassVar = {"input_size": (3, 64, 64), "fixed_input_size": True}

        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))
            self.embed = nn.Conv2d(3, 8, 16, 16)
            self.head = nn.Conv2d(8, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            grid = self.embed(F.interpolate(images, size=(64, 64)))
            tokens = grid.flatten(2).transpose(1, 2)
            for layer in self.blocks:
                tokens = layer(tokens)
            return F.interpolate(self.head(tokens.transpose(1, 2).unflatten(2, (4, 4))), size=images.shape[2:])

    assert [tap.stride for tap in find_taps(OneSize())] == [16] * 4


def test_a_refused_dry_run_names_the_size_that_the_network_declares() -> None:
    class Refusing(nn.Module):
        img_size = (48, 48)

        def forward(self, _images: Tensor) -> Tensor:
            raise RuntimeError("not on a Sunday")

    with pytest.raises(ValueError, match=r"48 x 48: not on a Sunday.*the network declares image_size=\(48, 48\)"):
        find_taps(Refusing())


def test_a_first_convolution_that_does_not_run_first_does_not_decide_the_bands() -> None:
    class Stem(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.later = nn.Conv2d(6, 8, 3, 2, 1)
            self.stem = nn.Conv2d(3, 6, 3, 2, 1)

        def forward(self, images: Tensor) -> Tensor:
            return cast(Tensor, self.later(self.stem(images)))

    assert [tap.stride for tap in find_taps(Stem(), names=("stem", "later"))] == [2, 4]


class ByUnits(nn.Module):
    """A transformer without attention whose tokens lie unit by unit, units of 2 x 2 patches, unless they are sorted."""

    def __init__(self, *, sorted_at_the_end: bool = False) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 8, 8)
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(4))
        self.rows = nn.Identity()
        self.head = nn.Conv2d(6, 3, 1)
        self.sorted_at_the_end = sorted_at_the_end

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2] // 16, images.shape[3] // 16
        units = self.patches(images).unflatten(3, (width, 2)).unflatten(2, (height, 2))
        tokens = units.permute(0, 3, 5, 2, 4, 1).flatten(1, 4)
        for layer in self.blocks:
            tokens = layer(tokens)
        tokens = tokens.unflatten(1, (2, 2, height, width)).permute(0, 3, 1, 4, 2, 5).flatten(1, 4)
        grid = self.rows(tokens).transpose(1, 2).unflatten(2, (2 * height, 2 * width))
        return F.interpolate(self.head(grid), size=images.shape[2:])


def test_tokens_that_do_not_lie_row_by_row_are_no_taps() -> None:
    torch.manual_seed(0)
    with pytest.raises(ValueError, match=r"no stages found in ByUnits \(the tokens of 'blocks.0' do not lie row by"):
        find_taps(ByUnits())
    with pytest.raises(ValueError, match=r"tap 'blocks.2' gives tokens that do not lie row by row.*another tap"):
        find_taps(ByUnits(), names=("patches", "blocks.2"))
    taps = find_taps(ByUnits(), names=("patches", "rows"))
    assert [(tap.stride, tap.layout, tap.grid) for tap in taps] == [(8, "NCHW", None), (8, "NLC", (16, 24))]


def test_a_map_that_could_be_read_in_both_layouts_has_the_stride_of_the_patches() -> None:
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 18, 16, 16), nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            maps: Tensor = self.second(self.first(images).permute(0, 2, 3, 1))
            return maps.permute(0, 3, 1, 2)

    # (1, 8, 12, 18) would be a map of stride 10 with 8 channels, too
    assert find_taps(Patches(), names=("second",))[0] == Tap("second", 16, 18, "NHWC")
