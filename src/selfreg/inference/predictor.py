"""From a photograph of any size to a class map of the same size."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from selfreg.data import full_scale
from selfreg.regulation import main_output
from selfreg.run import Run, Weights

# every common network accepts sides that are multiples of this
SIDE_MULTIPLE = 32
MOST_ENLARGED = 2**26
"""Largest number of pixels that an image is enlarged to, 8192 x 8192."""


class _Window(NamedTuple):
    """Rows and columns of a window: with its margin, without it (counted inside the window), and in the result."""

    outer: tuple[slice, slice]
    inner: tuple[slice, slice]
    target: tuple[slice, slice]


class Predictor:
    """Predict class maps of images of any size with a trained network.

    Args:
        network: Gives logits for normalised images (N, 3, H, W); see `selfreg.regulation.main_output` for the forms.
        mean: Mean per channel, for images in [0, 1].
        std: Standard deviation per channel.
        short_side: Resize images first so that the shorter side has this length, as in training.
        scales: Zooms over which the softmax is averaged.
        flip: Average over the mirror image too.
        tile: Bound memory: predict larger images in windows of this side, each with a margin of context (a quarter of
            the tile) that is cut off afterwards. A network that looks no further than the margin gives the same map as
            for the whole image.
        device: Where the network computes; it is moved there and set to eval mode. With None it is left as it is, and
            `class_maps` predicts images on the network's own device.

    Raises:
        ValueError: If a tile is smaller than 128 pixels, or a scale is not positive.

    Source: this project's; scales, flips and tiles are the common options of the field.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        short_side: int | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        tile: int | None = None,
        device: torch.device | str | None = "cpu",
    ) -> None:
        if tile is not None and tile < 4 * SIDE_MULTIPLE:
            raise ValueError(f"tile {tile} is too small; use at least {4 * SIDE_MULTIPLE} pixels")
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales {tuple(scales)} must be positive numbers")
        self.network = network
        if device is not None:
            network.eval().to(device).to(memory_format=torch.channels_last)
        self.mean = torch.tensor(mean, device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, -1, 1, 1)
        self.short_side, self.scales, self.flip, self.tile = short_side, tuple(scales), flip, tile

    @staticmethod
    def network_logits(network: nn.Module, images: Tensor, size: Sequence[int]) -> Tensor:
        """Logits (N, K, *size) float32 for normalised images (N, 3, H, W) of any size.

        The images are padded with zeros (the mean colour) at the bottom and right to sides that the network accepts.
        """
        height, width = images.shape[-2:]
        padded = pad(images, (0, _accepted(width) - width, 0, _accepted(height) - height))
        logits = main_output(network(padded)).float()
        if logits.shape[-2:] != padded.shape[-2:]:
            logits = interpolate(logits, size=padded.shape[-2:], mode="bilinear", align_corners=False)
        logits = logits[..., :height, :width]
        if tuple(logits.shape[-2:]) != tuple(size):
            logits = interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)
        return logits

    @torch.inference_mode()
    def __call__(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """The class map (H, W) uint8 of one image (H, W, C), uint8 or uint16."""
        result = np.empty(image.shape[:2], np.uint8)
        zoom = self._zoom(*image.shape[:2])
        for window in self._windows(*image.shape[:2]):
            classes = self._scores(self._normalised(image[window.outer]), zoom).argmax(1)[0]
            result[window.target] = classes[window.inner].to(torch.uint8).cpu().numpy()
        return result

    @torch.inference_mode()
    def classes_and_probabilities(self, image: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """The class map (H, W) uint8 and the class probabilities (K, H, W) float16 of one image (H, W, C)."""
        height, width = image.shape[:2]
        classes = np.empty((height, width), np.uint8)
        probabilities: NDArray[np.float16] | None = None
        zoom = self._zoom(height, width)
        for window in self._windows(height, width):
            scores = self._scores(self._normalised(image[window.outer]), zoom)
            classes[window.target] = scores.argmax(1)[0][window.inner].to(torch.uint8).cpu().numpy()
            shares = (scores.softmax(1) if self._views == 1 else scores)[0]
            if probabilities is None:
                probabilities = np.empty((len(shares), height, width), np.float16)
            probabilities[(slice(None), *window.target)] = shares[(slice(None), *window.inner)].half().cpu().numpy()
        assert probabilities is not None  # there is at least one window
        return classes, probabilities

    @torch.inference_mode()
    def class_maps(self, images: Tensor) -> Tensor:
        """The class maps (N, H, W) uint8 of normalised images (N, C, H, W), on their device."""
        batch, _, height, width = images.shape
        result = torch.empty((batch, height, width), dtype=torch.uint8, device=images.device)
        for window in self._windows(height, width):
            scores = self._scores(images[(..., *window.outer)], self._zoom(height, width))
            result[(slice(None), *window.target)] = scores.argmax(1)[(slice(None), *window.inner)].to(torch.uint8)
        return result

    @property
    def _views(self) -> int:
        return len(self.scales) * (2 if self.flip else 1)

    def _zoom(self, height: int, width: int) -> float:
        return 1.0 if self.short_side is None else self.short_side / min(height, width)

    def _windows(self, height: int, width: int) -> Iterator[_Window]:
        if self.tile is None or max(height, width) <= self.tile:
            whole = slice(0, height), slice(0, width)
            yield _Window(whole, whole, whole)
            return
        margin = _aligned(self.tile // 4)
        step = _aligned(self.tile - 2 * margin)
        for top, left in product(range(0, height, step), range(0, width, step)):
            rows, columns = (_side(*place, step, margin) for place in ((top, height), (left, width)))
            yield _Window(*zip(rows, columns, strict=True))

    def _normalised(self, image: NDArray[Any]) -> Tensor:
        # torch has no arithmetic for uint16
        values = image if image.dtype == np.uint8 else image.astype(np.float32)
        pixels = torch.tensor(values).permute(2, 0, 1).unsqueeze(0).to(self.mean.device)
        return (pixels.float() / full_scale(image) - self.mean) / self.std

    def _scores(self, image: Tensor, zoom: float) -> Tensor:
        """Logits (N, K, H, W) of normalised images; with several views, the mean of their probabilities."""
        size = (image.shape[-2], image.shape[-1])
        views = product((scale * zoom for scale in self.scales), (False, True) if self.flip else (False,))
        total: Tensor | None = None
        for factor, mirror in views:
            logits = self._view_logits(image, factor, mirror, size)
            if self._views == 1:
                return logits
            # summed view by view, since a large image leaves room for two of them and not for all
            total = logits.softmax(1) if total is None else total.add_(logits.softmax(1))
        assert total is not None  # there is at least one scale
        return total / self._views

    def _view_logits(self, image: Tensor, factor: float, mirror: bool, size: tuple[int, int]) -> Tensor:
        if factor != 1.0:
            zoomed = (max(1, round(image.shape[-2] * factor)), max(1, round(image.shape[-1] * factor)))
            _refuse_enlargement(size, zoomed)
            image = interpolate(image, size=zoomed, mode="bilinear", align_corners=False, antialias=True)
        if mirror:
            image = image.flip(-1)
        logits = self.network_logits(self.network, image, size)
        return logits.flip(-1) if mirror else logits


def _refuse_enlargement(size: tuple[int, int], zoomed: tuple[int, int]) -> None:
    if zoomed[0] * zoomed[1] > max(MOST_ENLARGED, size[0] * size[1]):
        raise ValueError(
            f"an image of {size[1]} x {size[0]} pixels would be enlarged to {zoomed[1]} x {zoomed[0]}, more than "
            f"{MOST_ENLARGED} pixels; choose a smaller data.short_side or smaller scales"
        )


def _side(begin: int, length: int, step: int, margin: int) -> tuple[slice, slice, slice]:
    """One side of a window that begins at `begin`: with its margin, without it inside of that, and in the result."""
    end, outer = min(begin + step, length), max(begin - margin, 0)
    return slice(outer, begin + step + margin), slice(begin - outer, end - outer), slice(begin, end)


def _aligned(length: int) -> int:
    # tiles begin on the grid of the deepest layer, so that its places lie where they lie in the whole image
    return length // SIDE_MULTIPLE * SIDE_MULTIPLE


def _accepted(side: int) -> int:
    # at 32 pixels the deepest layer has one place only, and group normalisation refuses to work on that
    return max(side + -side % SIDE_MULTIPLE, 2 * SIDE_MULTIPLE)


def predictor_of(run: Run, which: Weights = "last", **options: Any) -> Predictor:
    """A predictor with a run's network and preprocessing, on the GPU where there is one; `options` of `Predictor`."""
    info, device = run.info(), "cuda" if torch.cuda.is_available() else "cpu"
    short_side = run.config().data.short_side
    return Predictor(run.network(which), info.mean, info.std, short_side=short_side, device=device, **options)
