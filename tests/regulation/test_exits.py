"""The exits: their shapes, their start and their price."""

from typing import Any

import pytest
import torch
from torch import nn

from regulation.small import Small
from selfreg.regulation import ClassMapExit, DenseExit, ImageHead, MultiExit, SelfRegulation, SeparableExit, Tap


@pytest.mark.parametrize(("step", "size"), [(1, (12, 10)), (2, (6, 5))])
def test_an_exit_gives_class_map_image_logits_and_narrow_features(step: int, size: tuple[int, int]) -> None:
    class_map, logits, features = SeparableExit(6, 4, width=8, step=step)(torch.randn(2, 6, 12, 10))
    assert class_map.shape == (2, 4, *size)
    assert logits.shape == (2, 4)
    assert features.shape == (2, 8, *size)


def test_image_logits_start_as_the_mean_of_the_class_map() -> None:
    class_map = torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(ImageHead(4)(class_map), class_map.mean((2, 3)))


def test_image_logits_are_pooled_in_float32() -> None:
    class_map = torch.full((1, 2, 64, 64), 1000.0, dtype=torch.float16)
    assert ImageHead(2)(class_map).tolist() == [[1000.0, 1000.0]]


def test_a_class_map_passes_its_exit_unchanged() -> None:
    given = torch.randn(2, 4, 3, 5)
    class_map, logits, features = ClassMapExit(4)(given)
    assert class_map is given
    assert logits.shape == (2, 4)
    assert features.shape == (2, 0, 3, 5)
    assert ClassMapExit(4, width=8)(given)[2].shape == (2, 8, 3, 5)


def test_an_exit_is_a_fraction_of_the_authors() -> None:
    # Two 3 x 3 convolutions to 256 and a 1 x 1 to K on 1024 channels
    authors = 9 * 1024 * 256 + 9 * 256 * 256 + 256 * 21
    assert sum(parameter.numel() for parameter in SeparableExit(1024, 21).parameters()) < 0.015 * authors


@pytest.mark.parametrize(
    ("form", "grids"),
    [
        ("separable", [(8, 8), (8, 8), (4, 4)]),
        ("dense", [(8, 8), (8, 8), (4, 4)]),
        ("authors", [(16, 16), (8, 8), (4, 4)]),
    ],
)
@pytest.mark.parametrize("width", [None, 8])
def test_a_form_of_exit_has_its_grid_and_its_width(form: Any, grids: list[tuple[int, int]], width: int | None) -> None:
    model = MultiExit(Small(), 3, exits=form, exit_width=width, features=True, image_size=(32, 32))
    outputs = model(torch.randn(2, 3, 32, 32))
    assert [tuple(class_map.shape[2:]) for class_map in outputs.class_maps] == [*grids, (32, 32)]
    expected = width or {"separable": 32, "dense": 64, "authors": 256}[form]
    assert [features.shape[1] for features in outputs.features] == [expected] * 4


def test_the_authors_exit_is_two_dense_convolutions_to_256_on_the_stage_itself() -> None:
    exit_: Any = MultiExit(Small(), 3, exits="authors", image_size=(32, 32)).exits[0]
    kernels = [module for module in exit_.modules() if isinstance(module, nn.Conv2d)]
    assert [(k.in_channels, k.out_channels, k.kernel_size, k.stride, k.groups) for k in kernels] == [
        (8, 256, (3, 3), (1, 1), 1),
        (256, 256, (3, 3), (1, 1), 1),
        (256, 3, (1, 1), (1, 1), 1),
    ]
    assert not torch.equal(exit_.image_head.linear.weight, torch.eye(3))


def test_a_dense_exit_narrows_first_and_uses_every_pixel() -> None:
    exit_: Any = DenseExit(1, 2, width=8, step=4, reduce=True).eval()
    nn.init.ones_(exit_.reduce.weight)
    nn.init.ones_(exit_.spatial[0].weight)
    image = torch.rand(1, 1, 16, 16, requires_grad=True)
    torch.autograd.backward(exit_.spatial[0](exit_.reduce(image)).sum())
    assert image.grad is not None
    assert (image.grad != 0).all()
    assert exit_(image)[0].shape == (1, 2, 4, 4)


def test_an_exit_may_be_anybodys_module() -> None:
    taps = []

    def one_convolution(tap: Tap, num_classes: int) -> nn.Module:
        taps.append(tap.name)
        return nn.Conv2d(tap.channels, num_classes, 1)

    model = MultiExit(Small(), 3, exits=one_convolution, image_size=(32, 32))
    outputs = model(torch.randn(2, 3, 32, 32))
    assert taps == ["stage1", "stage2", "stage3"]
    assert [tuple(class_map.shape[2:]) for class_map in outputs.class_maps] == [(16, 16), (8, 8), (4, 4), (32, 32)]
    torch.autograd.backward(SelfRegulation()(outputs, torch.zeros(2, 32, 32, dtype=torch.int64), 1.0).total)
    assert all(parameter.grad is not None for parameter in model.exits.parameters())


@pytest.mark.parametrize("module", [nn.Conv2d(8, 4, 1), nn.Flatten()])
def test_a_module_that_gives_no_class_map_is_refused(module: nn.Module) -> None:
    model = MultiExit(Small(), 3, ["stage1"], exits=lambda _tap, _classes: module, image_size=(32, 32))
    with pytest.raises(ValueError, match=r"exit of tap 'stage1' gave \(.*must give logits \(N, 3, h, w\)"):
        model(torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exits": "wide"}, "exits must be one of separable, dense, authors, or a callable, not 'wide'"),
        ({"exits": "dense", "exit_width": 6}, "exit_width must be a multiple of 4 for dense exits, not 6"),
        ({"exits": "authors", "exit_width": 0}, "exit_width must be at least 1"),
        ({"exits": lambda *_: nn.Identity(), "exit_width": 8}, "a callable builds the exits itself"),
        ({"exits": lambda *_: nn.Identity(), "features": True}, "a callable builds the exits itself"),
    ],
)
def test_exits_that_cannot_be_built_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiExit(Small(), 3, image_size=(32, 32), **options)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["separable", "dense", "authors"])
def test_a_network_in_half_precision_trains_as_one_in_float32(form: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = MultiExit(Small().to(dtype), 3, exits=form, exit_width=8, image_size=(32, 32))
    assert model.own_map == "head"
    images, labels = torch.randn(2, 3, 32, 32, dtype=dtype), torch.randint(3, (2, 32, 32))
    found = SelfRegulation()(model(images), labels, 1.0)
    torch.autograd.backward(found.total)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    exact = SelfRegulation()(model.float()(images.float()), labels, 1.0)
    for name, value in exact.raw().items():
        assert found.raw()[name].item() == pytest.approx(value.item(), rel=0.05, abs=0.02), name


@pytest.mark.parametrize("given", [None, nn.Conv2d, lambda features: features])
def test_a_callable_that_gives_no_module_is_refused(given: Any) -> None:
    with pytest.raises(TypeError, match="gave a .* for tap 'stage1': give a torch.nn.Module"):
        MultiExit(Small(), 3, exits=lambda *_: given, image_size=(32, 32))
