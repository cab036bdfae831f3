"""Pixel-adaptive mask refinement (PAMR): scores are averaged over neighbours of similar colour."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from selfreg.weak.refinement.inputs import check_image_and_scores

DILATIONS = (1, 2, 4, 8, 12, 24)
"""Distances in pixels of the eight neighbours of each dilation (Araslanov & Roth)."""

SHARPNESS = 0.1
"""Colour differences are divided by this fraction of the local standard deviation (the authors' setting)."""


@torch.no_grad()
def pamr(
    image: NDArray[np.uint8], scores: Tensor, *, dilations: Sequence[int] = DILATIONS, iterations: int = 10
) -> Tensor:
    """Refine scores by local colours: each pixel averages the scores of similarly coloured neighbours.

    With N(p) the neighbours of pixel p, I_c its colours and sigma_c(p) their standard deviation over p and N(p):

        k(p, q)  = - 1/3 sum_c |I_c(p) - I_c(q)| / (0.1 sigma_c(p))
        a(p, q)  = exp k(p, q) / sum_{r in N(p)} exp k(p, r)
        m_{t+1}(p) = sum_{q in N(p)} a(p, q) m_t(q)

    Each step is a convex combination, so non-negative scores that sum to 1 stay so. The image is continued beyond its
    border by its nearest pixel. Time and memory grow with 8 len(dilations) H W.

    Args:
        image: Photograph, uint8 (H, W, 3).
        scores: float32 (C, H, W), any number of classes; the computation runs on their device.
        dilations: Distances of the neighbours in pixels; each gives the eight neighbours of a dilated 3 x 3 window.
        iterations: Number of averaging steps.

    Returns:
        Refined scores, float32 (C, H, W).

    Raises:
        ValueError: If image and scores do not fit together, a dilation is not positive, or iterations is negative.

    Source: Araslanov & Roth, "Single-Stage Semantic Segmentation from Image Labels", CVPR 2020, section on
    pixel-adaptive mask refinement. That sigma counts p once and divides by the number of pixels is this project's.
    """
    check_image_and_scores(image, scores)
    if not dilations or min(dilations) < 1 or iterations < 0:
        raise ValueError(
            f"PAMR needs dilations of at least 1 and iterations of at least 0; got {tuple(dilations)} and {iterations}"
        )
    affinity = local_affinity(image, dilations).to(scores.device)
    reach = max(dilations)
    refined = scores.float()
    for _ in range(iterations):
        averaged = torch.zeros_like(refined)
        for weight, neighbour in zip(affinity, _neighbours(refined, dilations, reach), strict=True):
            averaged.addcmul_(weight, neighbour)
        refined = averaged
    return refined


def local_affinity(image: NDArray[np.uint8], dilations: Sequence[int]) -> Tensor:
    """Return a(p, q) of `pamr`: float32 (8 len(dilations), H, W), which sums to 1 over the neighbours."""
    channels = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1) / 255
    reach = max(dilations)
    count = 8 * len(dilations) + 1
    total, squares = torch.zeros_like(channels), torch.zeros_like(channels)
    for neighbour in _neighbours(channels, dilations, reach):
        difference = neighbour - channels
        total += difference
        squares += difference.square()
    # variance of differences from the pixel itself equals that of the colours and avoids cancellation
    variance = (squares / count - (total / count).square()).clamp(min=0)
    scale = SHARPNESS * variance.sqrt() + 1e-8
    logits = torch.stack(
        [-((neighbour - channels).abs_() / scale).mean(0) for neighbour in _neighbours(channels, dilations, reach)]
    )
    return logits.softmax(0)


def _neighbours(maps: Tensor, dilations: Sequence[int], reach: int) -> Iterator[Tensor]:
    """Yield the maps (C, H, W) shifted to each neighbour in turn, as views; the border is replicated."""
    height, width = maps.shape[1:]
    padded = functional.pad(maps[None], (reach, reach, reach, reach), mode="replicate")[0]
    for dilation in dilations:
        for down in (-dilation, 0, dilation):
            for right in (-dilation, 0, dilation):
                if down or right:
                    top, left = reach + down, reach + right
                    yield padded[:, top : top + height, left : left + width]
