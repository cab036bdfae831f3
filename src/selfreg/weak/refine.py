"""The refinement stages: the configured steps in order, cached image by image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfreg.config.weak import RefinementStep
from selfreg.weak.scores import Scores, load_scores, save_scores
from selfreg.weak.tagged import TaggedImages

Refine = Callable[[NDArray[np.uint8], Tensor], Tensor]
ReadScores = Callable[[int], Scores]


def refinement(step: RefinementStep, device: torch.device) -> Refine:
    """Return the function by which a step refines one image; `affinity`, which is trained first, is not among them.

    Args:
        step: The step and its options.
        device: Where it computes.

    Returns:
        A function of an image (H, W, 3) uint8 and scores (C, H, W) that returns refined scores (C, H, W).

    Raises:
        ValueError: For unknown options, or if the step's library is not installed.
    """
    if step.name == "pamr":
        from selfreg.weak.refinement import pamr

        return lambda image, scores: pamr(image, scores.to(device), **step.options).cpu()
    from selfreg.weak.refinement import dense_crf

    return lambda image, scores: dense_crf(image, scores, **step.options)


def write_refined(tagged: TaggedImages, before: ReadScores, refine: Refine) -> Callable[[int, Path], None]:
    """Return the function that reads, refines and writes the scores of one image.

    An image whose only class is background is written as it is.
    """

    def make(index: int, path: Path) -> None:
        scores = before(index)
        if len(scores.classes) > 1:
            scores = Scores(scores.classes, refine(tagged.image(index), scores.values))
        save_scores(path, scores)

    return make


def read_from(folder: Path, ids: tuple[str, ...]) -> ReadScores:
    """Return the reader of a finished stage's scores, by index."""
    return lambda index: load_scores(folder / f"{ids[index]}.npz")


def check_options(step: RefinementStep) -> None:
    """Raise ValueError, before time is spent, if a step's options are wrong or its library is missing."""
    if step.name == "affinity":
        return  # the configuration has checked them
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    scores = torch.full((2, 16, 16), 0.5)
    options: dict[str, Any] = step.options
    try:
        refinement(step, torch.device("cpu"))(image, scores)
    except TypeError as error:
        raise ValueError(f"refinement {step.name}: options {options}: {error}") from None
