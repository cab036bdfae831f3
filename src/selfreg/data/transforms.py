"""The training transform: random scale, crop, flip and colour, with image and mask on the same grid."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfreg.data.labels import IGNORE_INDEX
from selfreg.data.pixels import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    affine,
    check_bands,
    colour_map,
    full_scale,
    identity,
    normalisation,
    resize,
)
from selfreg.data.source import Pair

DEFAULT_SCALE = (0.5, 2.0)
"""Default range of the random scale."""

DEFAULT_COLOUR = 0.25
"""Default strength of the colour augmentation, also that of `data.colour` in a configuration."""


@dataclass(frozen=True)
class Span:
    """One axis of a crop: `length` source pixels from `start` are resized to `size` crop pixels at `offset`."""

    start: int
    length: int
    offset: int
    size: int

    def nearest(self) -> NDArray[np.intp]:
        """The source pixel at the centre of each crop pixel, (size,)."""
        centres = (np.arange(self.size) + 0.5) * (self.length / self.size)
        return self.start + np.minimum(centres.astype(np.intp), self.length - 1)


def draw_span(length: int, size: int, scale: float, generator: np.random.Generator) -> Span:
    """Draw one axis of a random crop of a scaled image, without scaling the image first.

    Args:
        length: Size of the image in pixels.
        size: Size of the crop in pixels.
        scale: Crop pixels per image pixel.
        generator: Random generator; exactly one number is drawn.

    Returns:
        The part of the image to resize and its place in the crop. All places at which the crop lies within the scaled
        image, or the scaled image within the crop, are equally likely.
    """
    chance = generator.random()
    window = max(1, round(size / scale))
    if window <= length:
        return Span(int(chance * (length - window + 1)), window, 0, size)
    scaled = min(size, max(1, round(length * scale)))
    return Span(0, length, int(chance * (size - scaled + 1)), scaled)


def take_grid(values: NDArray[Any], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[Any]:
    """Compute `values[rows][:, columns]`, selecting rows first if that leaves fewer values."""
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    if bottom - top > len(rows):
        return values.take(rows, 0).take(columns, 1)
    return values[top:bottom].take(columns, 1).take(rows - top, 0)


@dataclass(frozen=True)
class TrainingTransform:
    """Random scale, crop, flip and colour of an image and its mask; the result depends only on the seed.

    Only the part of the source inside the crop is cut out and resized, so the cost depends on the crop, not on the
    image. The aspect ratio is kept (up to rounding to whole pixels). The mask is sampled on the same grid at the
    nearest pixel centre. If the scaled image is smaller than the crop, the rest is void in the mask and the mean colour
    in the image. There is no hue jitter, since it costs more than all other steps together.

    Attributes:
        crop_size: (height, width) of the result in pixels.
        scale: Range of the random scale, uniform; (1, 1) for none.
        flip: Flip left to right with probability 1/2.
        colour: Brightness, contrast and saturation factors of 1 - colour to 1 + colour; 0 for none.
        mean: One number per band, for pixel values in [0, 1].
        std: Likewise.
        short_side: Resize the image so that its short side has this length before the random scale.

    Raises:
        ValueError: If a size or scale is not positive, or the range is empty.
    """

    crop_size: tuple[int, int]
    scale: tuple[float, float] = DEFAULT_SCALE
    flip: bool = True
    colour: float = DEFAULT_COLOUR
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    short_side: int | None = None

    def __post_init__(self) -> None:
        if min(self.crop_size) < 1:
            raise ValueError(f"crop_size {self.crop_size}: give (height, width) of at least one pixel")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale {self.scale}: give (least, most) with 0 < least <= most")
        if not 0 <= self.colour <= 1:
            raise ValueError(f"colour {self.colour}: give a strength of 0..1")
        if min(self.std) <= 0 or len(self.std) != len(self.mean):
            raise ValueError(f"std {self.std}: give positive values, for pixels of 0..1, as many as mean has")
        if self.short_side is not None and self.short_side < 1:
            raise ValueError(f"short_side {self.short_side}: give a length in pixels, or leave it out")

    def __call__(
        self, pair: Pair, seed: int, confidence: NDArray[np.float32] | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Transform one pair.

        Args:
            pair: Image and mask.
            seed: Seed of all random numbers.
            confidence: (H, W) float32 in [0, 1] on the grid of the mask, or None.

        Returns:
            Image float32 (C, h, w), normalised; mask int64 (h, w), void and padding 255; and the confidence as
            float32 (h, w), 0 in the padding, or None.

        Raises:
            ValueError: If the image has not as many bands as `mean` and `std`.
        """
        check_bands(pair.image, self.mean)
        generator = np.random.default_rng(seed)
        rows, columns = self.draw_window(pair.mask.shape[0], pair.mask.shape[1], generator)
        mirrored = self.flip and generator.random() < 0.5
        window = pair.image[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length]
        planes = resize(window, rows.size, columns.size)
        if mirrored:
            planes = planes.flip(-1)
        whole = (rows.size, columns.size) == self.crop_size
        shape = (len(self.mean), *self.crop_size)
        image = torch.empty(shape) if whole else torch.zeros(shape)
        self._colour(planes, full_scale(pair.image), generator, _inside(image, rows, columns))
        down, across = rows.nearest(), columns.nearest()
        if mirrored:
            across = across[::-1]
        mask = torch.full(self.crop_size, IGNORE_INDEX, dtype=torch.int64)
        _inside(mask, rows, columns).copy_(torch.from_numpy(take_grid(pair.mask, down, across)))
        if confidence is None:
            return image, mask, None
        sure = torch.zeros(self.crop_size)
        _inside(sure, rows, columns).copy_(torch.from_numpy(take_grid(confidence, down, across)))
        return image, mask, sure

    def draw_window(self, height: int, width: int, generator: np.random.Generator) -> tuple[Span, Span]:
        """Draw scale and position of the crop of a height x width image: (rows, columns)."""
        scale = float(generator.uniform(*self.scale))
        if self.short_side is not None:
            scale *= self.short_side / min(height, width)
        rows = draw_span(height, self.crop_size[0], scale, generator)
        return rows, draw_span(width, self.crop_size[1], scale, generator)

    def _colour(self, planes: Tensor, scale: int, generator: np.random.Generator, result: Tensor) -> None:
        """Colour and normalise (C, h, w) of 0..`scale` in one pass into float32 (C, h, w)."""
        colour = colour_map(planes, self.colour, generator) if self.colour else identity(len(planes))
        affine(planes, normalisation(colour, self.mean, self.std, scale), result)
        if self.colour:
            for band, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
                result[band].clamp_(-mean / std, (1 - mean) / std)


def _inside(crop: Tensor, rows: Span, columns: Span) -> Tensor:
    """The part of a crop that the image covers; the rest is padding."""
    return crop[..., rows.offset : rows.offset + rows.size, columns.offset : columns.offset + columns.size]
