"""Small pieces that several networks share."""

from torch import Tensor, nn
from torch.nn import functional


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int = 1) -> nn.Sequential:
    """Convolution without bias that keeps the size, batch norm, ReLU: (N, in, H, W) to (N, out, H, W)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def resize(maps: Tensor, like: Tensor) -> Tensor:
    """Resize (N, C, h, w) bilinearly, corners not aligned, to the height and width of `like`."""
    size = like.shape[-2:]
    if maps.shape[-2:] == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
