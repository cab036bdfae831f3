"""The joint training transform: scale, crop, flip and colour, with image and mask on one grid throughout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from selfreg.data.labels import IGNORE_INDEX
from selfreg.data.source import Pair

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_BLOCK = 96
"""Rows that are coloured at a time: a large intermediate result would cost more to get from the system than to fill."""

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey picture (ITU-R BT.601)."""


Rows = list[list[float]]
"""A map of colours: for each channel of the result its weights of red, green and blue, and a shift."""

_AS_IT_IS: Rows = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]


@dataclass(frozen=True)
class Span:
    """One axis of a crop: `length` source pixels from `start` become `size` crop pixels from `offset`."""

    start: int
    length: int
    offset: int
    size: int

    def nearest(self) -> NDArray[np.intp]:
        """(size,) the source pixel under the centre of each crop pixel."""
        centres = (np.arange(self.size) + 0.5) * (self.length / self.size)
        return self.start + np.minimum(centres.astype(np.intp), self.length - 1)


def draw_span(length: int, size: int, scale: float, generator: np.random.Generator) -> Span:
    """Chooses one axis of a random crop of an image that is enlarged by `scale`, without enlarging it first.

    Args:
        length: the image's extent in pixels.
        size: the crop's extent in pixels.
        scale: crop pixels per image pixel.
        generator: the source of chance; exactly one number is drawn.

    Returns:
        The part of the image to resize, and where it goes: all places at which the crop lies within the enlarged
        image, or the enlarged image within the crop, are equally likely.
    """
    chance = generator.random()
    window = max(1, round(size / scale))
    if window <= length:
        return Span(int(chance * (length - window + 1)), window, 0, size)
    scaled = min(size, max(1, round(length * scale)))
    return Span(0, length, int(chance * (size - scaled + 1)), scaled)


def resize_bilinear(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resizes (H, W, 3) uint8 to (height, width, 3) uint8: bilinear, antialiased when it shrinks."""
    return _resize(image, height, width).permute(1, 2, 0).numpy()


def pick(values: NDArray[Any], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[Any]:
    """`values[rows][:, columns]`, the rows first where that leaves fewer to take the columns of."""
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    if bottom - top > len(rows):
        return values.take(rows, 0).take(columns, 1)
    return values[top:bottom].take(columns, 1).take(rows - top, 0)


def normalise(image: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(H, W, 3) uint8 to float32 (3, H, W): (image / 255 - mean) / std."""
    result = torch.empty(3, *image.shape[:2])
    _affine(_planes(image), _normalisation(_AS_IT_IS, mean, std), result)
    return result


def _planes(image: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8, maybe read-only, to a tensor (3, H, W) over rows of RGB."""
    return torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)


def _resize(image: NDArray[np.uint8], height: int, width: int) -> Tensor:
    """(H, W, 3) uint8 to (3, height, width) uint8, over rows of RGB."""
    planes = _planes(image)
    if planes.shape[1:] == (height, width):
        return planes
    # a batch of one in which torch recognises rows of RGB, for which it is twice as fast
    batch = planes.permute(1, 2, 0)[None].permute(0, 3, 1, 2)
    return functional.interpolate(batch, (height, width), mode="bilinear", antialias=True)[0]


def _normalisation(colour: Rows, mean: Sequence[float], std: Sequence[float]) -> Rows:
    """A map of pixel values of 0..255, followed by scaling to 0..1 and normalisation: again a map."""
    return [
        [value / (255 * one_std) for value in weights] + [(shift / 255 - one_mean) / one_std]
        for (*weights, shift), one_mean, one_std in zip(colour, mean, std, strict=True)
    ]


def _affine(planes: Tensor, matrix: Rows, result: Tensor) -> None:
    """Fills float32 (3, H, W) with the map of every pixel of uint8 (3, H, W)."""
    for top in range(0, planes.shape[1], _BLOCK):
        pixels = planes[:, top : top + _BLOCK].to(torch.float32, memory_format=torch.contiguous_format)
        for channel, (*weights, shift) in enumerate(matrix):
            plane = torch.mul(pixels[channel], weights[channel], out=result[channel, top : top + _BLOCK]).add_(shift)
            for other, weight in enumerate(weights):
                if weight and other != channel:
                    plane.add_(pixels[other], alpha=weight)


def colour_map(planes: Tensor, strength: float, generator: np.random.Generator) -> Rows:
    """Draws brightness, contrast and saturation, in this order, and gives them as one map of pixel values.

    Args:
        planes: (3, H, W) uint8; its mean grey (of every eighth row and column) is the fixed point of contrast.
        strength: each factor is uniform in [1 - strength, 1 + strength].
        generator: the source of chance; three numbers are drawn.

    Returns:
        For each channel its weights of red, green and blue, and a shift, for pixel values of 0..255. Definitions of
        the three as in torchvision; values are clipped once at the end instead of after each.
    """
    brightness, contrast, saturation = generator.uniform(1 - strength, 1 + strength, size=3).tolist()
    means = planes[:, ::8, ::8].to(torch.float32).mean(dim=(1, 2)).tolist()
    shift = (1 - contrast) * brightness * sum(weight * mean for weight, mean in zip(_LUMA, means, strict=True))
    grey = [brightness * contrast * (1 - saturation) * weight for weight in _LUMA]
    own = brightness * contrast * saturation
    return [[weight + own * (channel == other) for other, weight in enumerate(grey)] + [shift] for channel in range(3)]


@dataclass(frozen=True)
class TrainingTransform:
    """Random scale, crop, flip and colour of an image and its mask; each result depends on its seed alone.

    The window of the source that the crop will show is cut out first and resized once, so the cost is that of the
    crop, not of the image. The aspect is kept (to the rounding of the window to whole pixels). The mask follows on the
    same grid, nearest pixel centre. Where the scaled image is smaller than the crop, the rest is void in the mask and
    the mean colour in the image. There is no hue jitter: it costs more than all the rest.

    Attributes:
        crop_size: (height, width) of the result in pixels.
        scale: range of the random scale, uniform; (1, 1) for none.
        flip: mirror every second window of the image left to right.
        colour: brightness, contrast and saturation factors of 1 - colour to 1 + colour; 0 for none.
        mean, std: of the three channels, for pixel values of 0..1.
        short_side: before the random scale, the image counts as resized so that its short side has this length.

    Raises:
        ValueError: a size or scale is not positive, or the range is empty.
    """

    crop_size: tuple[int, int]
    scale: tuple[float, float] = (0.5, 2.0)
    flip: bool = True
    colour: float = 0.4
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    short_side: int | None = None

    def __post_init__(self) -> None:
        if min(self.crop_size) < 1:
            raise ValueError(f"crop_size {self.crop_size}: give (height, width) of at least one pixel")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale {self.scale}: give (least, most) with 0 < least <= most")
        if not 0 <= self.colour <= 1:
            raise ValueError(f"colour {self.colour}: give a strength of 0..1")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std}: give positive values, for pixels of 0..1")
        if self.short_side is not None and self.short_side < 1:
            raise ValueError(f"short_side {self.short_side}: give a length in pixels, or leave it out")

    def __call__(
        self, pair: Pair, seed: int, confidence: NDArray[np.float32] | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Transforms one pair.

        Args:
            pair: image and mask.
            seed: everything random follows from it.
            confidence: (H, W) float32 of 0..1 on the grid of the mask, or None.

        Returns:
            image float32 (3, h, w), normalised; mask int64 (h, w), void and padding 255; and the confidence as
            float32 (h, w), 0 in the padding, or None.
        """
        generator = np.random.default_rng(seed)
        rows, columns = self.draw_window(pair.mask.shape[0], pair.mask.shape[1], generator)
        mirrored = self.flip and generator.random() < 0.5
        window = pair.image[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length]
        planes = _resize(window, rows.size, columns.size)
        if mirrored:
            planes = planes.flip(-1)
        whole = (rows.size, columns.size) == self.crop_size
        image = torch.empty(3, *self.crop_size) if whole else torch.zeros(3, *self.crop_size)
        self._colour(planes, generator, _inside(image, rows, columns))
        down, across = rows.nearest(), columns.nearest()
        if mirrored:
            across = across[::-1]
        mask = torch.full(self.crop_size, IGNORE_INDEX, dtype=torch.int64)
        _inside(mask, rows, columns).copy_(torch.from_numpy(pick(pair.mask, down, across)))
        if confidence is None:
            return image, mask, None
        sure = torch.zeros(self.crop_size)
        _inside(sure, rows, columns).copy_(torch.from_numpy(pick(confidence, down, across)))
        return image, mask, sure

    def draw_window(self, height: int, width: int, generator: np.random.Generator) -> tuple[Span, Span]:
        """Chooses scale and place of the crop of a height x width image: (rows, columns)."""
        scale = float(generator.uniform(*self.scale))
        if self.short_side is not None:
            scale *= self.short_side / min(height, width)
        rows = draw_span(height, self.crop_size[0], scale, generator)
        return rows, draw_span(width, self.crop_size[1], scale, generator)

    def _colour(self, planes: Tensor, generator: np.random.Generator, result: Tensor) -> None:
        """Colour and normalisation in one pass: from (3, h, w) uint8 into float32 (3, h, w)."""
        colour = colour_map(planes, self.colour, generator) if self.colour else _AS_IT_IS
        _affine(planes, _normalisation(colour, self.mean, self.std), result)
        if self.colour:
            for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
                result[channel].clamp_(-mean / std, (1 - mean) / std)


def _inside(crop: Tensor, rows: Span, columns: Span) -> Tensor:
    """The part of a crop that the image fills; the rest is padding."""
    return crop[..., rows.offset : rows.offset + rows.size, columns.offset : columns.offset + columns.size]
