"""Images and scores for the tests of refinement."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def random_case(seed: int, largest: int = 14, classes: int | None = None) -> tuple[NDArray[np.uint8], Tensor]:
    """An image of a few flat patches with noise, and scores of 1 to 4 classes."""
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, largest + 1, 2)
    patches = np.kron(generator.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3)), np.ones((4, 4, 1), dtype=int))
    image = np.clip(patches[:height, :width] + generator.integers(-5, 6, (height, width, 3)), 0, 255).astype(np.uint8)
    scores = generator.dirichlet(np.full(classes or generator.integers(1, 5), 0.5), (height, width))
    return image, torch.from_numpy(scores.transpose(2, 0, 1).astype(np.float32))


def two_halves(height: int = 40, width: int = 60) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Tensor]:
    """An image with an edge in the middle, its label map, and scores whose edge is three pixels beside it, blurred."""
    generator = np.random.default_rng(0)
    label = np.zeros((height, width), dtype=np.uint8)
    label[:, width // 2 :] = 1
    colours = np.array([[60, 120, 60], [170, 90, 80]])
    image = np.clip(colours[label] + generator.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)
    position = torch.arange(width) - (width // 2 + 3) + 0.5
    right = torch.sigmoid(position / 3).expand(height, width)
    return image, label, torch.stack([1 - right, right])


def wrong_share(scores: Tensor, label: NDArray[np.uint8]) -> float:
    """Share of pixels whose best class is not the label's."""
    return float((scores.argmax(0).numpy() != label).mean())
