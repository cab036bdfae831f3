"""Read the data once before training to find errors and to count classes."""

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfreg.config import TrainingConfig
from selfreg.data import Labels, Source
from selfreg.data.label_counts import absent_classes, label_fault
from selfreg.terminal import progress_over

# reading more than this many pairs takes longer than a wrong one is worth; `selfreg check-data` reads all
READ_AT_MOST = 5000


@dataclass(frozen=True)
class Survey:
    """Content of the masks of a split: `pixels` of each class, int64 (K,), and the distinct `shapes` (H, W)."""

    pixels: NDArray[np.int64]
    shapes: list[tuple[int, int]]


def survey(source: Source, description: str = "checking data") -> Survey:
    """Read every image and mask, or 5,000 evenly spaced ones where there are more.

    Raises:
        ValueError: A file is missing, damaged, of another size or has a wrong label, as the source says, or
            nothing can be learned from the labels (see `label_fault`).
    """
    step = -(-len(source) // READ_AT_MOST)

    def look(index: int) -> tuple[NDArray[np.int64], tuple[int, int]]:
        mask = source.read(index).mask
        return np.bincount(mask.ravel(), minlength=256), (mask.shape[0], mask.shape[1])

    indices = range(0, len(source), step)
    with ThreadPoolExecutor() as pool:
        results = pool.map(look, indices)
        found = list(progress_over(results, description, total=len(indices)))
    total: NDArray[np.int64] = np.sum([pixels for pixels, _ in found], axis=0)
    _check_labels(total, source.labels, description.removeprefix("checking "))
    return Survey(total[: source.labels.num_classes], sorted({shape for _, shape in found}))


def _check_labels(pixels: NDArray[np.int64], labels: Labels, where: str) -> None:
    """Raise ValueError for labels from which nothing can be learned; warn about classes that never occur."""
    fault = label_fault(pixels, labels, where)
    if fault is not None:
        raise ValueError(fault)
    absent = absent_classes(pixels, labels)
    if absent:
        shown = ", ".join(absent[:10]) + (f" and {len(absent) - 10} more" if len(absent) > 10 else "")
        warnings.warn(f"{where}: {len(absent)} of {labels.num_classes} classes never occur: {shown}", stacklevel=3)


def balanced_weights(pixels: NDArray[np.int64]) -> Tensor:
    """Class weights (K,) float32 from pixels per class: root of median over own frequency, mean 1 over the pixels.

    The square root weakens median-frequency balancing (Eigen & Fergus, ICCV 2015), with which rare classes are
    predicted beyond their borders; it is this project's choice. A class that never occurs has weight 1.
    """
    frequency = pixels / max(pixels.sum(), 1)
    present = frequency > 0
    weights = np.ones(len(pixels))
    if present.any():
        weights[present] = np.sqrt(np.median(frequency[present]) / frequency[present])
        weights[present] /= (weights * frequency).sum()
    return torch.from_numpy(weights).float()


def given_class_weights(config: TrainingConfig, class_names: Sequence[str]) -> Tensor | None:
    """The class weights (K,) float32 that `training.class_weights` lists; None for `none` and `balanced`.

    Raises:
        ValueError: A list of another length than there are classes, or a name that is no class.
    """
    weights = config.class_weights
    if isinstance(weights, str):
        return None
    if isinstance(weights, dict):
        unknown = [name for name in weights if name not in class_names]
        if unknown:
            raise ValueError(
                f"training.class_weights: {unknown[0]!r} is no class of the data; these are {', '.join(class_names)}"
            )
        weights = [weights.get(name, 1.0) for name in class_names]
    if len(weights) != len(class_names):
        raise ValueError(f"training.class_weights: {len(weights)} weights for {len(class_names)} classes")
    if not any(weights):
        raise ValueError("training.class_weights: are 0 for every class of the data, so that nothing would be learnt")
    return torch.tensor(weights, dtype=torch.float32)
