"""Checks of arguments that all refinements share."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def check_scores(scores: Tensor) -> None:
    """Raise ValueError unless scores are floats (C, H, W) with at least one class and one pixel."""
    if scores.ndim != 3 or 0 in scores.shape or not torch.is_floating_point(scores):
        raise ValueError(
            f"scores must be floats (C, H, W) with at least one class and one pixel, not {scores.dtype} "
            f"{tuple(scores.shape)}"
        )


def check_image_and_scores(image: NDArray[np.uint8], scores: Tensor) -> None:
    """Raise ValueError unless the image is uint8 (H, W, 3) and has the scores' height and width."""
    check_scores(scores)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"an image must be uint8 (H, W, 3), not {image.dtype} {image.shape}")
    if image.shape[:2] != tuple(scores.shape[1:]):
        raise ValueError(
            f"the image has {image.shape[0]} x {image.shape[1]} pixels, its scores have {scores.shape[1]} x "
            f"{scores.shape[2]}; resize the scores to the image first"
        )


def divide_by_sum(scores: Tensor) -> Tensor:
    """Divide non-negative scores (C, H, W) by their sum over C, which must be positive."""
    return scores / scores.sum(0, keepdim=True)
