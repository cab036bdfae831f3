"""Class activation maps: where the classifier sees the classes of an image's tags."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from selfreg.config.weak import CamConfig
from selfreg.data import normalise
from selfreg.weak.classifier_network import class_maps
from selfreg.weak.scores import Scores, save_scores
from selfreg.weak.tagged import TaggedImages

# stride of the grid on which the maps are stored; the network's own grid is coarser
GRID_STRIDE = 4
# every backbone divides sides that are multiples of this evenly
SIDE_MULTIPLE = 32

ClassMaps = Callable[[Tensor], Sequence[Tensor]]


def grid_of(height: int, width: int) -> tuple[int, int]:
    """Return the size (h, w) on which the activation maps of an image are stored."""
    return -(-height // GRID_STRIDE), -(-width // GRID_STRIDE)


def positive_maps(maps_of: ClassMaps, image: Tensor, size: tuple[int, int], depths: int) -> Tensor:
    """Sum the positive parts of the class maps of the deepest `depths` exits, resized to `size`: (K, h, w).

    With several exits each map is first divided by its maximum; with one exit nothing is scaled. The image is padded
    with zeros (the mean colour) to sides that the network divides evenly, and the maps are cropped accordingly.

    Args:
        maps_of: Function from images (N, 3, H, W) to the class maps of all exits.
        image: Normalised image (3, H, W).
        size: Size (h, w) of the result.
        depths: Number of exits, counted from the deepest.
    """
    height, width = image.shape[-2:]
    padded = pad(image[None], (0, -width % SIDE_MULTIPLE, 0, -height % SIDE_MULTIPLE))
    maps = list(maps_of(padded))[-depths:]
    total = torch.zeros(maps[0].shape[1], *size, device=image.device)
    for each in maps:
        whole = interpolate(each.float().relu(), size=padded.shape[-2:], mode="bilinear", align_corners=False)
        inside = interpolate(whole[..., :height, :width], size=size, mode="bilinear", align_corners=False)[0]
        total += inside if depths == 1 else by_class_maximum(inside)
    return total


def merged_maps(
    maps_of: ClassMaps,
    image: Tensor,
    size: tuple[int, int],
    *,
    scales: Sequence[float] = (0.5, 1.0, 1.5, 2.0),
    flip: bool = True,
    depths: int = 1,
) -> Tensor:
    """Sum of `positive_maps` over scales, and over the image and its mirror image: (K, h, w) on the grid `size`.

    Source: IRN (Ahn et al., CVPR 2019): scales 0.5, 1, 1.5, 2 with flips, ReLU, sum.
    """
    views = []
    for scale in scales:
        zoomed = image
        if scale != 1:
            sides = [max(1, round(side * scale)) for side in image.shape[-2:]]
            zoomed = interpolate(image[None], size=sides, mode="bilinear", align_corners=False, antialias=True)[0]
        views.append(positive_maps(maps_of, zoomed, size, depths))
        if flip:
            views.append(positive_maps(maps_of, zoomed.flip(-1), size, depths).flip(-1))
    return torch.stack(views).sum(dim=0)


def by_class_maximum(maps: Tensor) -> Tensor:
    """Divide each map of (K, h, w) by its own maximum, giving [0, 1]; a map without positive values stays 0."""
    largest = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(largest > 0, maps / largest.clamp_min(1e-12), 0.0)


@torch.inference_mode()
def activation_maps(
    classifier: nn.Module,
    image: NDArray[np.uint8],
    channels: Sequence[int],
    config: CamConfig,
    statistics: tuple[Sequence[float], Sequence[float]],
    device: torch.device,
) -> Tensor:
    """Compute the activation maps of an image for the classes of its tags.

    Args:
        classifier: In eval mode with its exits running (`show_exits`).
        image: Photograph (H, W, 3) uint8.
        channels: Channels of the classifier, the C foreground classes of the image's tags.
        config: The section `cam`.
        statistics: Mean and standard deviation of the input.
        device: Where the classifier computes.

    Returns:
        Maps (C, h, w) float32 in [0, 1], each divided by its own maximum, on a quarter of the image's grid.
    """
    size = grid_of(*image.shape[:2])
    if not channels:
        return torch.zeros(0, *size)
    chosen = list(channels)
    maps = merged_maps(
        lambda images: [maps[:, chosen] for maps in class_maps(classifier, images)],
        normalise(image, *statistics).to(device),
        size,
        scales=config.scales,
        flip=config.flip,
        depths=config.depths,
    )
    return by_class_maximum(maps).cpu()


def write_activation_maps(
    tagged: TaggedImages,
    classifier: nn.Module,
    config: CamConfig,
    statistics: tuple[Sequence[float], Sequence[float]],
    device: torch.device,
) -> Callable[[int, Path], None]:
    """Return the function that computes and writes the activation maps of one image."""

    def make(index: int, path: Path) -> None:
        classes = tagged.classes_of(index)
        channels = [tagged.foreground.index(class_index) for class_index in classes]
        values = activation_maps(classifier, tagged.image(index), channels, config, statistics, device)
        save_scores(path, Scores(classes, values))

    return make
