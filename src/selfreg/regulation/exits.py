"""Exits: the small classifiers that a tapped stage carries while it trains."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from selfreg.regulation.options import EXIT_WIDTHS, FINEST_STRIDE, ExitForm, resolve_exit_width
from selfreg.regulation.tap import Tap

BuildExit = Callable[[Tap, int], nn.Module]
"""From a tap and the number of classes K to a module that maps features (N, C, h, w) to logits (N, K, h', w')."""


class ImageHead(nn.Module):
    """Image-level logits z = A * mean over pixels of F + c, from a class map F (N, K, h, w) to (N, K).

    Global average pooling, then a linear layer, as in the authors' exits. The pooling is in float32 (float64 stays).

    Args:
        num_classes: K.
        identity: Start with A = identity and c = 0, so that z is at first the mean class logit of the image (this
            project's); otherwise with torch's default initialisation, as in the authors' code.
    """

    def __init__(self, num_classes: int, *, identity: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(num_classes, num_classes)
        if identity:
            nn.init.eye_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, class_map: Tensor) -> Tensor:
        """From logits (N, K, h, w) to image-level logits (N, K) in the precision of the linear layer."""
        # A sum and a division, not a mean: the sum's gradient is a broadcast view, a mean's a tensor of the map's size.
        total = class_map.sum(dim=(2, 3), dtype=None if class_map.dtype == torch.float64 else torch.float32)
        mean = total / (class_map.shape[2] * class_map.shape[3])
        logits: Tensor = self.linear(mean.to(self.linear.weight.dtype))
        return logits


class SeparableExit(nn.Module):
    """Narrow exit of one stage: features (N, C, h, w) to class map, image logits and narrow features.

    A separable convolution (1 x 1 to `width / step` channels, depthwise 3 x 3 of stride `step` to `width`), batch norm,
    ReLU, a 1 x 1 to K. Everything after the first 1 x 1 is narrow, and one tensor of each size is kept for the backward
    pass, which keeps the exit cheap (this project's). A stage at stride 2 uses `step=2`: its detail enters the coarser
    class map through the strided convolution. A stage at stride 1 uses `step=4` and a 7 x 7 depthwise convolution, so
    that every pixel is used.

    Args:
        channels: C.
        num_classes: K.
        width: Channels after the depthwise convolution, a multiple of `step`.
        step: Stride of the depthwise convolution.
    """

    def __init__(self, channels: int, num_classes: int, width: int = EXIT_WIDTHS["separable"], step: int = 1) -> None:
        super().__init__()
        inner = width // step
        kernel = max(3, 2 * step - 1)
        self.reduce = nn.Conv2d(channels, inner, 1, bias=False)
        self.spatial = nn.Sequential(
            nn.Conv2d(inner, width, kernel, stride=step, padding=kernel // 2, groups=inner, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.classify = nn.Conv2d(width, num_classes, 1)
        self.image_head = ImageHead(num_classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From (N, C, h, w) to class map (N, K, h', w'), image logits (N, K), features (N, width, h', w')."""
        narrow = self.spatial(self.reduce(features))
        class_map = self.classify(narrow)
        return class_map, self.image_head(class_map), narrow


class DenseExit(nn.Module):
    """Exit with two dense 3 x 3 convolutions, each with batch norm and ReLU, and a 1 x 1 to K.

    With `reduce` (form `dense`, this project's) a 1 x 1 to `width / step` channels comes first, and the first 3 x 3 has
    stride `step`. Without it (form `authors`) the convolutions are on the stage's own channels and grid, and the image
    head has torch's default initialisation, as in the authors' code.

    Args:
        channels: C.
        num_classes: K.
        width: Channels of both 3 x 3 convolutions; with `reduce` a multiple of `step`.
        step: Stride of the first 3 x 3 convolution.
        reduce: Whether a 1 x 1 convolution comes first.
    """

    def __init__(self, channels: int, num_classes: int, width: int, step: int = 1, *, reduce: bool) -> None:
        super().__init__()
        inner = width // step if reduce else channels
        kernel = max(3, 2 * step - 1)
        self.reduce = nn.Conv2d(channels, inner, 1, bias=False) if reduce else nn.Identity()
        self.spatial = nn.Sequential(
            nn.Conv2d(inner, width, kernel, stride=step, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.classify = nn.Conv2d(width, num_classes, 1)
        self.image_head = ImageHead(num_classes, identity=reduce)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From (N, C, h, w) to class map (N, K, h', w'), image logits (N, K), features (N, width, h', w')."""
        wide = self.spatial(self.reduce(features))
        class_map = self.classify(wide)
        return class_map, self.image_head(class_map), wide


class ClassMapExit(nn.Module):
    """Exit of a stage that is a class map already: the network's own output, or an auxiliary head.

    Adds the image-level logits and, with `width`, a 1 x 1 projection of the class map (for the variant `feature`).

    Args:
        num_classes: K.
        width: Channels of the projection; none without it.
        identity: As in `ImageHead`.
    """

    def __init__(self, num_classes: int, width: int | None = None, *, identity: bool = True) -> None:
        super().__init__()
        self.image_head = ImageHead(num_classes, identity=identity)
        self.project = None if width is None else nn.Conv2d(num_classes, width, 1)

    def forward(self, class_map: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From (N, K, h, w) to the same class map, image logits (N, K), features (N, width or 0, h, w)."""
        features = class_map[:, :0] if self.project is None else self.project(class_map)
        return class_map, self.image_head(class_map), features


class CustomExit(nn.Module):
    """Exit around a module of the user's, which maps features (N, C, h, w) to logits (N, K, h', w')."""

    def __init__(self, module: nn.Module, num_classes: int, tap_name: str) -> None:
        super().__init__()
        self.module = module
        self.image_head = ImageHead(num_classes)
        self.num_classes = num_classes
        self.tap_name = tap_name

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From (N, C, h, w) to class map (N, K, h', w'), image logits (N, K), features (N, 0, h', w')."""
        class_map = self.module(features)
        if not isinstance(class_map, Tensor) or class_map.ndim != 4 or class_map.shape[1] != self.num_classes:
            given = tuple(class_map.shape) if isinstance(class_map, Tensor) else type(class_map).__name__
            raise ValueError(
                f"the exit of tap {self.tap_name!r} gave {given}; it must give logits (N, {self.num_classes}, h, w)"
            )
        return class_map, self.image_head(class_map), class_map[:, :0]


def build_exits(
    taps: tuple[Tap, ...], num_classes: int, exits: ExitForm | BuildExit, width: int | None, features: bool
) -> nn.ModuleList:
    """Build one exit per tap, and last the exit of the network's own output; see `MultiExit` for the arguments.

    Raises:
        ValueError: If the form is unknown, the width does not fit it, or an auxiliary class map has another number of
            classes.
        TypeError: If a callable gives no module.
    """
    if callable(exits):
        if width is not None or features:
            raise ValueError("a callable builds the exits itself: leave out exit_width and features=True")
        build, projected = partial(_build_custom, exits), None
    else:
        width = resolve_exit_width(exits, width)
        build, projected = partial(_build_form, exits, width), width if features else None
    built: list[nn.Module] = []
    for tap in taps:
        if not tap.is_class_map:
            built.append(build(tap, num_classes))
        elif tap.channels == num_classes:
            built.append(ClassMapExit(num_classes, projected, identity=exits != "authors"))
        else:
            raise ValueError(f"class map tap {tap.name!r} has {tap.channels} channels, not the {num_classes} classes")
    return nn.ModuleList([*built, ClassMapExit(num_classes, projected, identity=exits != "authors")])


def _build_custom(exits: BuildExit, tap: Tap, num_classes: int) -> nn.Module:
    module = exits(tap, num_classes)
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"the callable of exits gave a {type(module).__name__} for tap {tap.name!r}: give a torch.nn.Module, whose "
            "parameters can be found and trained"
        )
    return CustomExit(module, num_classes, tap.name)


def _build_form(form: ExitForm, width: int, tap: Tap, num_classes: int) -> nn.Module:
    step = max(1, FINEST_STRIDE // tap.stride)
    if form == "separable":
        return SeparableExit(tap.channels, num_classes, width, step)
    if form == "dense":
        return DenseExit(tap.channels, num_classes, width, step, reduce=True)
    return DenseExit(tap.channels, num_classes, width, reduce=False)
