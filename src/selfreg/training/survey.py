"""Reading the data once before training: what is wrong is found while nothing is lost, and classes are counted."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from selfreg.data import Source

# reading more than this many pairs takes longer than a wrong one is worth; `selfreg check-data` reads all
READ_AT_MOST = 5000


def survey(source: Source, description: str = "checking data") -> NDArray[np.int64]:
    """Read every image and mask (evenly spaced ones where there are more than 5,000); return pixels per class (K,).

    Raises ValueError, as the source does, for a file that is missing, damaged, of another size or with a wrong label.
    """
    step = -(-len(source) // READ_AT_MOST)

    def count(index: int) -> NDArray[np.int64]:
        return np.bincount(source.read(index).mask.ravel(), minlength=256)[: source.labels.num_classes]

    indices = range(0, len(source), step)
    with ThreadPoolExecutor() as pool:
        console = Console(stderr=True)
        counts = track(pool.map(count, indices), description, total=len(indices), console=console, transient=True)
        total: NDArray[np.int64] = np.sum(list(counts), axis=0)
        return total


def balanced_weights(pixels: NDArray[np.int64]) -> Tensor:
    """Class weights (K,) float32 from pixels per class: root of median over own frequency, mean 1 over the pixels.

    The root tempers median-frequency balancing (Eigen & Fergus, ICCV 2015), which makes rare classes spill over their
    borders; it is this project's choice. A class that never occurs has weight 1.
    """
    frequency = pixels / max(pixels.sum(), 1)
    present = frequency > 0
    weights = np.ones(len(pixels))
    if present.any():
        weights[present] = np.sqrt(np.median(frequency[present]) / frequency[present])
        weights[present] /= (weights * frequency).sum()
    return torch.from_numpy(weights).float()
