"""The refinement stages: the configured steps in their order, each cached image by image."""

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
    """What a step but `affinity`, which has to learn first, does to one image.

    It takes the image (H, W, 3) uint8 and scores (C, H, W) to scores of the same shape and meaning.

    Raises ValueError for options that the step does not know, and where the step's library is missing.
    """
    if step.name == "pamr":
        from selfreg.weak.refinement import pamr

        return lambda image, scores: pamr(image, scores.to(device), **step.options).cpu()
    from selfreg.weak.refinement import dense_crf

    return lambda image, scores: dense_crf(image, scores, **step.options)


def write_refined(tagged: TaggedImages, before: ReadScores, refine: Refine) -> Callable[[int, Path], None]:
    """What a refinement stage does for one image: read the scores of the stage before, refine them, write them.

    An image whose only class is background has nothing to refine.
    """

    def make(index: int, path: Path) -> None:
        scores = before(index)
        if len(scores.classes) > 1:
            scores = Scores(scores.classes, refine(tagged.image(index), scores.values))
        save_scores(path, scores)

    return make


def read_from(folder: Path, ids: tuple[str, ...]) -> ReadScores:
    """The scores of a stage that is whole, by index."""
    return lambda index: load_scores(folder / f"{ids[index]}.npz")


def check_options(step: RefinementStep) -> None:
    """Raise ValueError, before any time is spent, for a step whose options or library are wrong."""
    if step.name == "affinity":
        return  # the configuration has checked them
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    scores = torch.full((2, 16, 16), 0.5)
    options: dict[str, Any] = step.options
    try:
        refinement(step, torch.device("cpu"))(image, scores)
    except TypeError as error:
        raise ValueError(f"refinement {step.name}: options {options}: {error}") from None
