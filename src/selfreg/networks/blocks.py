"""Small pieces that several networks share."""

from typing import cast

import timm
from torch import Tensor, nn
from torch.nn import functional

from selfreg.messages import one_line


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int = 1, bias: bool = False) -> nn.Sequential:
    """Convolution that keeps the size, batch norm, ReLU: (N, in, H, W) to (N, out, H, W)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (N, C, h, w) bilinearly to `size` = (height, width), corners aligned.

    A stride-2 convolution with padding 1 puts its outputs on every second input pixel, the first on the first: aligned
    corners keep them there (exactly so where height - 1 and width - 1 are multiples of the stride). The published
    weights of HRNet and OCRNet were trained with this, too.
    """
    if maps.shape[-2:] == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=True)


def size_of(maps: Tensor) -> tuple[int, int]:
    """Height and width of (N, C, H, W)."""
    return maps.shape[2], maps.shape[3]


def tap_points(count: int) -> nn.ModuleList:
    """`count` modules that pass a feature map on unchanged: fixed names for stages, whatever a backbone calls them.

    They hold no parameters and leave no trace in the state dict; their names are what a network declares as `taps`.
    """
    return nn.ModuleList(nn.Identity() for _ in range(count))


def pass_through(points: nn.ModuleList, features: list[Tensor]) -> list[Tensor]:
    """Give each stage's feature map to its tap point, in order."""
    return [cast(Tensor, point(feature)) for point, feature in zip(points, features, strict=True)]


class DilatedBackbone(nn.Module):
    """A timm backbone, its last stages dilated: images (N, 3, H, W) to the list of its stages' features (N, C, h, w).

    `channels` are those of the features; `stages.i` passes on what a tap of stage i sees. Where a stride is taken out,
    the block that had it keeps the dilation before it and the later ones get the next, so that the weights compute
    what they were trained to, on a denser grid (timm's way). `options` go to `timm.create_model`. Raises ValueError
    for a backbone that knows no output strides.
    """

    def __init__(self, name: str, pretrained: bool = False, output_stride: int = 8, **options: object) -> None:
        super().__init__()
        try:
            self.model = timm.create_model(
                name, pretrained=pretrained, features_only=True, output_stride=output_stride, **options
            )
        except (TypeError, AssertionError, RuntimeError) as error:
            reason = one_line(error) if str(error) else "use 8, 16 or 32"
            raise ValueError(f"timm's {name} cannot be built at output stride {output_stride}: {reason}") from error
        deepest = max(self.model.feature_info.reduction())
        if deepest != output_stride:  # some networks of timm drop the argument without a word
            raise ValueError(f"timm's {name} cannot be built at output stride {output_stride}: it stays at {deepest}")
        self.channels: list[int] = self.model.feature_info.channels()
        self.stages = tap_points(len(self.channels))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of all stages, shallow to deep."""
        return pass_through(self.stages, self.model(images))
