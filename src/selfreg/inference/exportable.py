"""Layers that an exporter cannot express for free image sizes, replaced by ones that compute the same."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


def exportable(network: nn.Module) -> nn.Module:
    """A copy of a network that can be exported with free height and width, and computes the same.

    - Convolutions that pad to "same" (timm's, of TensorFlow's networks) pad by a fixed number of pixels: where the
      stride divides the side, as in images whose sides are multiples of 32, "same" is (k - 1) d + 1 - s pixels for
      kernel k, dilation d and stride s, the odd one at the bottom and right. Left to be computed from the size of the
      image, the expressions of one layer stand in those of the next, and an export does not end.
    - Adaptive average pooling (of pyramid pooling: PSPNet, UPerNet) becomes two matrix products; the exporter's own
      expression indexes outside of the image at other sizes than the one that it was exported at.
    """
    from timm.layers import Conv2dSame

    network = copy.deepcopy(network)
    replacements: dict[type[nn.Module], Callable[[nn.Module], nn.Module]] = {
        Conv2dSame: _with_fixed_padding,
        nn.AdaptiveAvgPool2d: _as_products,
    }
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) in replacements:
                setattr(module, name, replacements[type(child)](child))
    return network


class PooledByProducts(nn.Module):
    """Adaptive average pooling to (rows, columns) as products with matrices of the bins' weights.

    Bin i of n covers floor(i L / n) to ceil((i + 1) L / n) of a side of length L, as in
    `torch.nn.AdaptiveAvgPool2d`.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, rows, columns)."""
        vertical = _bin_weights(self.rows, features.shape[-2], features)
        horizontal = _bin_weights(self.columns, features.shape[-1], features)
        return vertical @ features @ horizontal.transpose(0, 1)


def _bin_weights(bins: int, length: int, like: Tensor) -> Tensor:
    """(bins, length): 1 / size of the bin at the places that belong to it, else 0."""
    places = torch.arange(length, device=like.device).unsqueeze(0)
    indices = torch.arange(bins, device=like.device).unsqueeze(1)
    begin = (indices * length).div(bins, rounding_mode="floor")
    end = ((indices + 1) * length + bins - 1).div(bins, rounding_mode="floor")
    inside = (places >= begin) & (places < end)
    return inside.to(like.dtype) / (end - begin).to(like.dtype)


def _as_products(pooling: nn.Module) -> nn.Module:
    size = pooling.output_size
    rows, columns = (size, size) if isinstance(size, int) else size  # type: ignore[misc]
    if rows is None or columns is None:
        return pooling
    return PooledByProducts(int(rows), int(columns))


def _with_fixed_padding(convolution: nn.Module) -> nn.Module:
    assert isinstance(convolution, nn.Conv2d)
    return nn.Sequential(nn.ZeroPad2d(_same_padding(convolution)), _plain_convolution(convolution))


def _same_padding(convolution: nn.Conv2d) -> tuple[int, int, int, int]:
    """Left, right, top, bottom."""
    sides: list[int] = []
    for kernel, dilation, stride in zip(
        convolution.kernel_size[::-1], convolution.dilation[::-1], convolution.stride[::-1], strict=True
    ):
        total = max((kernel - 1) * dilation + 1 - stride, 0)
        sides += [total // 2, total - total // 2]
    return sides[0], sides[1], sides[2], sides[3]


def _plain_convolution(convolution: nn.Conv2d) -> nn.Conv2d:
    plain = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        convolution.stride,  # type: ignore[arg-type]
        dilation=convolution.dilation,  # type: ignore[arg-type]
        groups=convolution.groups,
        bias=convolution.bias is not None,
    )
    plain.load_state_dict(convolution.state_dict())
    return plain
