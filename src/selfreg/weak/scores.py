"""Per-pixel scores of the classes of an image's tags: how they are stored and how they become masks."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from selfreg.files import whole_file
from selfreg.input_files import SCORES_LIMIT, check_archive, check_file
from selfreg.messages import one_line

VOID = 255


class Scores(NamedTuple):
    """Scores of the classes of one image.

    Activation maps hold values in [0, 1] for foreground classes only. The inputs and outputs of refinements hold the
    background first (if the data have one) and sum to 1 at every pixel.

    Attributes:
        classes: The C class indices.
        values: float32 (C, H, W); channel c belongs to `classes[c]`.
    """

    classes: list[int]
    values: Tensor


def save_scores(path: Path, scores: Scores) -> None:
    """Write scores atomically, quantised to steps of 1/255."""
    quantised = (scores.values.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, classes=np.asarray(scores.classes, dtype=np.uint8), values=quantised)


def load_scores(path: Path) -> Scores:
    """Read scores written by `save_scores`.

    Raises:
        ValueError: If the file is missing or damaged.
    """
    try:
        check_file(path, SCORES_LIMIT)
        check_archive(path, SCORES_LIMIT)
        with np.load(path) as content:
            classes, values = content["classes"], content["values"]
        if (
            classes.dtype != np.uint8
            or values.dtype != np.uint8
            or values.ndim != 3
            or classes.shape != values.shape[:1]
        ):
            raise ValueError(f"{classes.dtype} {classes.shape} and {values.dtype} {values.shape}")
        return Scores(classes.tolist(), torch.from_numpy(values).float() / 255)
    except Exception as error:  # numpy and zlib raise whatever the broken bytes lead them to
        raise ValueError(f"{path}: cannot be read ({one_line(error)}): delete {path.parent} and start again") from None


def with_background(activation: Scores, size: tuple[int, int], background: int | None, threshold: float) -> Scores:
    """Turn activation maps into scores at image size that sum to 1, with a constant background score.

    The best class of a pixel is the background exactly where no activation exceeds the threshold.

    Args:
        activation: Activation maps on their coarse grid.
        size: Image size (H, W).
        background: Index of the background class; None if the data have none (only activations are normalised then).
        threshold: Score of the background at every pixel, before normalisation.

    Source: IRN's scoring of CAMs; the normalisation is this project's.
    """
    values = activation.values
    if len(activation.classes) and values.shape[-2:] != size:
        values = interpolate(values[None], size=size, mode="bilinear", align_corners=False)[0]
    classes = list(activation.classes)
    if not classes:
        values = torch.zeros(0, *size)
    if background is not None:
        classes = [background, *classes]
        values = torch.cat([torch.full((1, *size), threshold), values])
    return Scores(classes, normalised(values))


def normalised(values: Tensor) -> Tensor:
    """Divide (C, H, W) by the sum at each pixel; where the sum is 0 all classes get the same score."""
    total = values.sum(dim=0, keepdim=True)
    return torch.where(total > 0, values / total.clamp_min(1e-12), 1 / max(len(values), 1))


def class_map(scores: Scores) -> NDArray[np.uint8]:
    """Return the best class of each pixel, (H, W) uint8; void everywhere if the image has no class."""
    if not scores.classes:
        return np.full(tuple(scores.values.shape[-2:]), VOID, dtype=np.uint8)
    best = scores.values.argmax(dim=0).numpy()
    result: NDArray[np.uint8] = np.asarray(scores.classes, dtype=np.uint8)[best]
    return result


def confidence_map(scores: Scores) -> NDArray[np.float32]:
    """Return best minus second-best score, (H, W) float32 in [0, 1]; 1 for a single class, 0 for none."""
    values = scores.values
    if len(values) < 2:
        return np.full(tuple(values.shape[-2:]), float(len(values)), dtype=np.float32)
    best, second = values.topk(2, dim=0).values
    margin: NDArray[np.float32] = (best - second).clamp(0, 1).numpy()
    return margin
