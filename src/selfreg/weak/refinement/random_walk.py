"""Random walk: spreads scores over a grid of pixels, between class boundaries."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from selfreg.networks.blocks import resize
from selfreg.weak.refinement.inputs import check_scores, divide_by_sum
from selfreg.weak.refinement.paths import RADIUS, displacements, ends, path_maxima

Affinity = sparse.csr_array[np.float32, tuple[int, int]]
"""Affinities in 0..1 of all pairs of pixels in row-major order: (h w, h w), symmetric, 1 on the diagonal."""

POWER = 10.0
"""Exponent of the affinities in the transition matrix (IRN's beta)."""

LOG2_STEPS = 8
"""Binary logarithm of the number of steps (IRN: 2^8)."""

_NEGLIGIBLE = 1e-10  # relative to the diagonal, 1; the error over 256 steps is below 1e-5


def affinity_from_boundaries(boundaries: Tensor, radius: float = RADIUS) -> Affinity:
    """Compute the affinities of nearby pixels: 1 minus the strongest boundary between them.

        a_ij = 1 - max_{k on the straight path from i to j} B_k,    a_ii = 1

    Args:
        boundaries: B, probabilities (h, w) in 0..1 that a class boundary passes through the pixel.
        radius: Pairs nearer than this have an affinity, in pixels of the grid.

    Returns:
        A sparse (h w, h w) matrix.

    Raises:
        ValueError: If boundaries have another shape or lie outside 0..1, or the radius is 1 or less.

    Source: Ahn, Cho & Kwak, "Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations" (IRN),
    CVPR 2019, the equation of semantic affinity; the pixels of a path: `selfreg.weak.refinement.paths.path`.
    """
    if boundaries.ndim != 2 or boundaries.numel() == 0:
        raise ValueError(f"boundaries must be (h, w) with at least one pixel, not {tuple(boundaries.shape)}")
    if not (boundaries.min() >= 0 and boundaries.max() <= 1):
        raise ValueError("boundaries must lie in 0..1; take the sigmoid of logits first")
    boundaries = boundaries.detach().cpu().float()
    pixels = torch.arange(boundaries.numel()).view(boundaries.shape)
    rows, columns, values = [pixels.flatten()], [pixels.flatten()], [torch.ones(boundaries.numel())]
    for displacement in displacements(radius):
        first, second = (end.flatten() for end in ends(pixels, displacement))
        affinity = (1 - path_maxima(boundaries, displacement)).flatten()
        rows += [first, second]
        columns += [second, first]
        values += [affinity, affinity]
    indices = (torch.cat(rows).numpy(), torch.cat(columns).numpy())
    return sparse.csr_array((torch.cat(values).numpy(), indices), shape=(pixels.numel(), pixels.numel()))


def transition_matrix(affinity: Affinity, power: float = POWER) -> sparse.csr_array[np.float64, tuple[int, int]]:
    """Compute T_ij = a_ij^power / sum_k a_ik^power: (h w, h w), rows summing to 1.

    Entries that cannot change 2^8 steps by 1e-5 are left out; the sum is over those kept. IRN normalises columns and
    multiplies from the other side, which is the same for symmetric affinities.
    """
    powers = affinity.astype(np.float64)
    powers.data **= power
    powers.data[powers.data < _NEGLIGIBLE] = 0
    powers.eliminate_zeros()
    powers.data /= np.repeat(np.asarray(powers.sum(axis=1)), np.diff(powers.indptr))
    return powers


def random_walk(scores: Tensor, affinity: Affinity, *, power: float = POWER, log2_steps: int = LOG2_STEPS) -> Tensor:
    """Spread scores by a random walk of 2^log2_steps steps: T^(2^log2_steps) M_c for each class map M_c.

    The class maps are multiplied by the sparse T repeatedly. Squaring T takes fewer products, but T fills up: at 80 x
    53 pixels, 256 sparse products are about 10^8 multiplications per class, one dense squaring is 8 10^10.

    Args:
        scores: M, float32 (C, h, w), non-negative.
        affinity: (h w, h w), from `affinity_from_boundaries` or any other that is symmetric with a positive diagonal.
        power: Exponent of the affinities.
        log2_steps: Binary logarithm of the number of steps.

    Returns:
        float32 (C, h, w); at each pixel a convex combination of all scores, so that scores that sum to 1 still do.

    Raises:
        ValueError: If scores and affinity do not fit together, or log2_steps is negative.

    Source: IRN (Ahn et al., CVPR 2019), the equations of the transition matrix and of propagation.
    """
    check_scores(scores)
    classes, height, width = scores.shape
    if affinity.shape != (height * width, height * width):
        raise ValueError(
            f"an affinity of scores with {height} x {width} pixels must be {height * width} square, "
            f"not {affinity.shape[0]} x {affinity.shape[1]}"
        )
    if log2_steps < 0:
        raise ValueError(f"log2_steps is {log2_steps}; a walk of 1 step has 0, of 256 steps 8")
    transition = transition_matrix(affinity, power)
    # double precision, since rounding accumulates over hundreds of steps
    walked: NDArray[np.float64] = np.ascontiguousarray(scores.detach().cpu().double().numpy().reshape(classes, -1).T)
    for _ in range(2**log2_steps):
        walked = np.asarray(transition @ walked)
    return torch.from_numpy(walked.T.astype(np.float32, order="C")).view(classes, height, width).to(scores.device)


def walk_within_boundaries(
    scores: Tensor,
    boundaries: Tensor,
    *,
    radius: float = RADIUS,
    power: float = POWER,
    log2_steps: int = LOG2_STEPS,
) -> Tensor:
    """Refine the scores of an image by a random walk between its class boundaries, on the boundaries' coarser grid.

    With M the scores on the grid and B the boundaries:

        M'_c = T^(2^log2_steps) (M_c (1 - B)) / sum_d T^(2^log2_steps) (M_d (1 - B))

    Scores are down-weighted by the boundary probability.

    Args:
        scores: float32 (C, H, W), non-negative, summing to 1 over C.
        boundaries: (h, w) in 0..1 as `AffinityNetwork.boundaries` returns them; corners coincide with the image's.
        radius: In pixels of the boundaries' grid.
        power: Exponent of the affinities.
        log2_steps: Binary logarithm of the number of steps.

    Returns:
        Scores (C, H, W), summing to 1 over C.

    Raises:
        ValueError: As `random_walk` and `affinity_from_boundaries` do.

    Source: IRN (Ahn et al., CVPR 2019), the equation of propagation. The division by the sum, which makes the result a
    distribution over the classes again, is this project's (IRN divides by the maximum of each class).
    """
    check_scores(scores)
    affinity = affinity_from_boundaries(boundaries, radius)
    coarse = shrink(scores.float(), (boundaries.shape[0], boundaries.shape[1]))
    certainty = (1 - boundaries.to(coarse)).clamp(
        min=1e-4
    )  # keeps a pixel that is certainly a boundary from dividing by zero
    walked = divide_by_sum(random_walk(coarse * certainty, affinity, power=power, log2_steps=log2_steps))
    return divide_by_sum(resize(walked[None], (scores.shape[1], scores.shape[2]))[0])


def shrink(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize scores (C, H, W) to a coarser grid of `size` = (h, w) whose corner pixels coincide with the image's.

    Each grid pixel gets the mean of a window about as wide as the grid's stride, so that sharp scores are averaged and
    not merely sampled. Scores that are not larger than the grid are only resized.
    """
    height, width = scores.shape[1:]
    reach = max(height // size[0], width // size[1]) // 2
    averaged = functional.avg_pool2d(scores[None], 2 * reach + 1, 1, reach, count_include_pad=False)
    return resize(averaged, size)[0]
