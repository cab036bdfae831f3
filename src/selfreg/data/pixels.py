"""Pixel values of images with any number of bands: resizing, colour, normalisation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_BLOCK = 96
"""Rows that are coloured at a time: a large intermediate result would cost more to get from the system than to fill."""

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey picture (ITU-R BT.601)."""


Rows = list[list[float]]
"""A linear map of pixel values: for each band of the result the weight of every band, then a shift."""


def full_scale(image: NDArray[np.integer[Any]]) -> int:
    """The pixel value that counts as 1: 255 of uint8, 65535 of uint16."""
    return int(np.iinfo(image.dtype).max)


def identity(bands: int) -> Rows:
    return [[float(row == column) for column in range(bands)] + [0.0] for row in range(bands)]


def resize_bilinear(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Resize an image (H, W, C) to (height, width, C): bilinear, antialiased when it shrinks; the dtype is kept."""
    resized = resize(image, height, width).permute(1, 2, 0).numpy()
    return resized if resized.dtype == image.dtype else resized.round().clip(0, full_scale(image)).astype(image.dtype)


def normalise(image: NDArray[Any], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalise an image for a network.

    Args:
        image: (H, W, C) uint8 or uint16.
        mean: One number per band, for pixel values in [0, 1] (255 and 65535 count as 1).
        std: Likewise.

    Returns:
        (pixel - mean) / std as float32 (C, H, W).

    Raises:
        ValueError: If the image has not as many bands as `mean` and `std`.
    """
    check_bands(image, mean)
    result = torch.empty(image.shape[2], *image.shape[:2])
    affine(_planes(image), normalisation(identity(image.shape[2]), mean, std, full_scale(image)), result)
    return result


def check_bands(image: NDArray[Any], mean: Sequence[float]) -> None:
    if image.shape[2] != len(mean):
        raise ValueError(f"the image has {image.shape[2]} bands, mean and std have {len(mean)}: give one per band")


def _planes(image: NDArray[Any]) -> Tensor:
    """View (H, W, C) uint8, maybe read-only, as a tensor (C, H, W); uint16 becomes float32, which torch can resize."""
    pixels = np.require(image if image.dtype == np.uint8 else image.astype(np.float32), requirements=["C", "W"])
    return torch.from_numpy(pixels).permute(2, 0, 1)


def resize(image: NDArray[Any], height: int, width: int) -> Tensor:
    """Resize (H, W, C) to (C, height, width): uint8, or float32 of the same values for uint16."""
    planes = _planes(image)
    if planes.shape[1:] == (height, width):
        return planes
    # torch is twice as fast for a batch of one with interleaved RGB
    batch = planes.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    return functional.interpolate(batch, (height, width), mode="bilinear", antialias=True)[0]


def normalisation(colour: Rows, mean: Sequence[float], std: Sequence[float], scale: int) -> Rows:
    """Compose a map of pixel values of 0..`scale` with scaling to 0..1 and normalisation."""
    return [
        [value / (scale * one_std) for value in weights] + [(shift / scale - one_mean) / one_std]
        for (*weights, shift), one_mean, one_std in zip(colour, mean, std, strict=True)
    ]


def affine(planes: Tensor, matrix: Rows, result: Tensor) -> None:
    """Apply a linear map to every pixel of (C, H, W) and store the result in float32 (C, H, W)."""
    for top in range(0, planes.shape[1], _BLOCK):
        pixels = planes[:, top : top + _BLOCK].to(torch.float32, memory_format=torch.contiguous_format)
        for channel, (*weights, shift) in enumerate(matrix):
            plane = torch.mul(pixels[channel], weights[channel], out=result[channel, top : top + _BLOCK]).add_(shift)
            for other, weight in enumerate(weights):
                if weight and other != channel:
                    plane.add_(pixels[other], alpha=weight)


def colour_map(planes: Tensor, strength: float, generator: np.random.Generator) -> Rows:
    """Draw brightness, contrast and saturation, and return their composition as one map of pixel values.

    Three bands count as red, green and blue. Other images have no saturation; their grey is the mean of the bands.

    Args:
        planes: (C, H, W) uint8 or float32; its mean grey (of every eighth row and column) is the fixed point of
            contrast.
        strength: Each factor is uniform in [1 - strength, 1 + strength].
        generator: Random generator; three numbers are drawn.

    Returns:
        The map, for values of the same scale as `planes`. Brightness, contrast and saturation are defined as in
        torchvision; values are clipped once at the end instead of after each.
    """
    brightness, contrast, saturation = generator.uniform(1 - strength, 1 + strength, size=3).tolist()
    means = planes[:, ::8, ::8].to(torch.float32).mean(dim=(1, 2)).tolist()
    bands = len(means)
    luma = _LUMA if bands == 3 else (1 / bands,) * bands
    if bands != 3:
        saturation = 1.0
    shift = (1 - contrast) * brightness * sum(weight * mean for weight, mean in zip(luma, means, strict=True))
    grey = [brightness * contrast * (1 - saturation) * weight for weight in luma]
    own = brightness * contrast * saturation
    return [[weight + own * (band == other) for other, weight in enumerate(grey)] + [shift] for band in range(bands)]
