"""From a photograph of any size to a class map of the same size."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from selfreg.regulation import main_output
from selfreg.run import Run, Weights

# every common network accepts sides that are multiples of this
SIDE_MULTIPLE = 32


class Predictor:
    """Predicts class maps with a trained network.

    Options, this project's choice of the field's common ones: `scales` and `flip` average the softmax over zooms and
    mirror images; `short_side` resizes the image first so that its shorter side has this length, as in training; `tile`
    bounds memory: larger images are predicted tile by tile, each with a margin of context, a quarter of the tile, that
    is cut off afterwards. A network that looks no further than that gives the same map as for the whole image.
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
        device: torch.device | str = "cpu",
    ) -> None:
        if tile is not None and tile < 4 * SIDE_MULTIPLE:
            raise ValueError(f"tile {tile} is too small; use at least {4 * SIDE_MULTIPLE} pixels")
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales {tuple(scales)} must be positive numbers")
        self.network = network.eval().to(device).to(memory_format=torch.channels_last)
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1)
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
    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The class map (H, W) uint8 of one image (H, W, 3) uint8."""
        height, width = image.shape[:2]
        if self.tile is None or max(height, width) <= self.tile:
            return self._classes(image, self._zoom(height, width))
        return self._tiled(image, self.tile)

    def _zoom(self, height: int, width: int) -> float:
        return 1.0 if self.short_side is None else self.short_side / min(height, width)

    def _tiled(self, image: NDArray[np.uint8], tile: int) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        zoom, margin = self._zoom(height, width), _aligned(tile // 4)
        step = _aligned(tile - 2 * margin)
        result = np.empty((height, width), np.uint8)
        for top, left in product(range(0, height, step), range(0, width, step)):
            bottom, right = min(top + step, height), min(left + step, width)
            outer_top, outer_left = max(top - margin, 0), max(left - margin, 0)
            window = image[outer_top : bottom + margin, outer_left : right + margin]
            classes = self._classes(window, zoom)
            inner = classes[top - outer_top : bottom - outer_top, left - outer_left : right - outer_left]
            result[top:bottom, left:right] = inner
        return result

    def _classes(self, image: NDArray[np.uint8], zoom: float) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        pixels = torch.tensor(image).permute(2, 0, 1).unsqueeze(0).to(self.mean.device)
        normalised = (pixels.float() / 255 - self.mean) / self.std
        views = [
            (scale * zoom, mirror) for scale in self.scales for mirror in ((False, True) if self.flip else (False,))
        ]
        logits = [self._view_logits(normalised, factor, mirror, (height, width)) for factor, mirror in views]
        scores = logits[0] if len(logits) == 1 else torch.stack([each.softmax(1) for each in logits]).mean(0)
        return scores.argmax(1)[0].to(torch.uint8).cpu().numpy()

    def _view_logits(self, image: Tensor, factor: float, mirror: bool, size: tuple[int, int]) -> Tensor:
        if factor != 1.0:
            zoomed = (max(1, round(image.shape[-2] * factor)), max(1, round(image.shape[-1] * factor)))
            image = interpolate(image, size=zoomed, mode="bilinear", align_corners=False, antialias=True)
        if mirror:
            image = image.flip(-1)
        logits = self.network_logits(self.network, image, size)
        return logits.flip(-1) if mirror else logits


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
