"""Layers that an exporter cannot express for free image sizes, replaced by ones that compute the same."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def exportable(network: nn.Module) -> nn.Module:
    """A copy of a network that can be exported with free height and width, and computes the same.

    Convolutions and pooling that pad to "same" (timm's, of TensorFlow's networks, and in dilated stages of ResNet-D)
    pad by a fixed number of pixels: where the stride divides the side, as in images whose sides are multiples of 32,
    "same" is (k - 1) d + 1 - s pixels for kernel k, dilation d and stride s, the odd one at the bottom and right. Left
    to be computed from the size of the image, the expressions of one layer stand in those of the next, and an export
    does not end, or its program cannot be written.

    The layers change their class in place, since a network may hold them in lists of its own beside its submodules
    (transformers' UPerNet does).
    """
    from timm.layers import Conv2dSame
    from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame

    fixed: dict[type, type[nn.Module]] = {
        Conv2dSame: FixedSameConv2d,
        AvgPool2dSame: FixedSameAvgPool2d,
        MaxPool2dSame: FixedSameMaxPool2d,
    }
    network = copy.deepcopy(network)
    for module in network.modules():
        if type(module) in fixed:
            module.__class__ = fixed[type(module)]
    return network


@contextmanager
def pooling_by_products() -> Iterator[None]:
    """Let `torch.nn.functional.adaptive_avg_pool2d` compute matrix products wherever there are several bins.

    Layers (`torch.nn.AdaptiveAvgPool2d` of PSPNet and UPerNet) and networks that call the function are exported
    alike. The exporter's own expression indexes outside of the image at other sizes than the exported one.
    """
    functional: Any = nn.functional
    original = functional.adaptive_avg_pool2d

    def pool(features: Tensor, output_size: Any) -> Tensor:
        rows, columns = _pair(output_size)
        if rows is None or columns is None or rows == columns == 1:
            pooled: Tensor = original(features, output_size)
            return pooled
        return adaptive_avg_pool2d(features, rows, columns)

    functional.adaptive_avg_pool2d = pool
    try:
        yield
    finally:
        functional.adaptive_avg_pool2d = original


def adaptive_avg_pool2d(features: Tensor, rows: int, columns: int) -> Tensor:
    """Adaptive average pooling as products with matrices of the bins' weights.

    Bin i of n covers floor(i L / n) to ceil((i + 1) L / n) of a side of length L, as in
    `torch.nn.functional.adaptive_avg_pool2d`.

    Args:
        features: (N, C, H, W).
        rows: Bins in the vertical direction.
        columns: Bins in the horizontal direction.

    Returns:
        (N, C, rows, columns).
    """
    vertical = _bin_weights(rows, features.shape[-2], features)
    horizontal = _bin_weights(columns, features.shape[-1], features)
    return vertical @ features @ horizontal.transpose(0, 1)


class FixedSameConv2d(nn.Conv2d):
    """A convolution with "same" padding of an image whose sides the stride divides."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, D, H / stride, W / stride)."""
        padded = nn.functional.pad(features, _same_padding(self.kernel_size, self.stride, self.dilation))
        return nn.functional.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class FixedSameAvgPool2d(nn.AvgPool2d):
    """Average pooling with "same" padding by zeros of a map whose sides the stride divides."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H / stride, W / stride)."""
        padding = _same_padding(_pair(self.kernel_size), _pair(self.stride), (1, 1))
        return super().forward(nn.functional.pad(features, padding))


class FixedSameMaxPool2d(nn.MaxPool2d):
    """Max pooling with "same" padding of a map whose sides the stride divides."""

    def forward(self, features: Tensor) -> Any:
        """(N, C, H, W) to (N, C, H / stride, W / stride)."""
        padding = _same_padding(_pair(self.kernel_size), _pair(self.stride), _pair(self.dilation))
        return super().forward(nn.functional.pad(features, padding, value=float("-inf")))


def _pair(size: Any) -> tuple[Any, Any]:
    """Rows and columns; each None where an adaptive pooling keeps the size."""
    return (size, size) if isinstance(size, int) or size is None else (size[0], size[1])


def _bin_weights(bins: int, length: int, like: Tensor) -> Tensor:
    """(bins, length): 1 / size of the bin at the places that belong to it, else 0."""
    places = torch.arange(length, device=like.device).unsqueeze(0)
    indices = torch.arange(bins, device=like.device).unsqueeze(1)
    begin = (indices * length).div(bins, rounding_mode="floor")
    end = ((indices + 1) * length + bins - 1).div(bins, rounding_mode="floor")
    inside = (places >= begin) & (places < end)
    return inside.to(like.dtype) / (end - begin).to(like.dtype)


def _same_padding(
    kernel_size: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """Left, right, top, bottom."""
    sides: list[int] = []
    for kernel, dilation, stride in zip(kernel_size[::-1], dilations[::-1], strides[::-1], strict=True):
        total = max((kernel - 1) * dilation + 1 - stride, 0)
        sides += [total // 2, total - total // 2]
    return sides[0], sides[1], sides[2], sides[3]
