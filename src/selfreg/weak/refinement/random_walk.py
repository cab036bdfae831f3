"""Random walk: scores spread over a grid of pixels as far as no boundary stands between them."""

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
"""Affinities in 0..1 of all pairs of pixels of a grid, row after row: (h w, h w), symmetric, 1 on the diagonal."""

POWER = 10.0
"""Exponent of the affinities in the transition matrix (IRN's beta)."""

LOG2_STEPS = 8
"""Binary logarithm of the number of steps (IRN: 2^8)."""

_NEGLIGIBLE = 1e-10  # beside a pixel's affinity 1 with itself; what is left out of 256 steps is below 1e-5


def affinity_from_boundaries(boundaries: Tensor, radius: float = RADIUS) -> Affinity:
    """Affinities of the pixels of a grid that are nearer than `radius`: 1 - the strongest boundary between them.

        a_ij = 1 - max_{k on the straight path from i to j} B_k,    a_ii = 1

    boundaries: B, (h, w) in 0..1, of a class boundary passing through the pixel. Returns a sparse (h w, h w) matrix.

    Raises ValueError for boundaries of another shape or outside 0..1, and for a radius without neighbours.

    Source: Ahn, Cho & Kwak, "Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations" (IRN),
    CVPR 2019, the equation of semantic affinity; which pixels make a path: `selfreg.weak.refinement.paths.path`.
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
    """T_ij = a_ij^power / sum_k a_ik^power: (h w, h w), rows of sum 1.

    Entries that could not change 2^8 steps by 1e-5 are left out, the sum is of those kept. IRN divides columns and
    multiplies from the other side, which with symmetric affinities is the same.
    """
    powers = affinity.astype(np.float64)
    powers.data **= power
    powers.data[powers.data < _NEGLIGIBLE] = 0
    powers.eliminate_zeros()
    powers.data /= np.repeat(np.asarray(powers.sum(axis=1)), np.diff(powers.indptr))
    return powers


def random_walk(scores: Tensor, affinity: Affinity, *, power: float = POWER, log2_steps: int = LOG2_STEPS) -> Tensor:
    """Spread scores by a random walk of 2^log2_steps steps: T^(2^log2_steps) M_c for each class map M_c.

    scores: M, float32 (C, h, w), any non-negative values. affinity: (h w, h w) from `affinity_from_boundaries`, or any
    other that is symmetric with a positive diagonal. power: exponent of the affinities. Returns float32 (C, h, w): at
    each pixel a convex combination of the scores of all, so that scores of sum 1 stay such.

    The class maps are multiplied by the sparse T again and again. Squaring T is fewer products, but T fills up: at
    80 x 53 pixels 256 sparse products are some 10^8 multiplications per class, one dense squaring is 8 10^10.

    Raises ValueError for scores and an affinity that do not fit together and for a negative log2_steps.

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
    # in double precision: hundreds of steps add up their rounding
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
    """Refine an image's scores by a random walk between its class boundaries, on the boundaries' coarser grid.

    scores: float32 (C, H, W), non-negative, of sum 1 over C; boundaries: (h, w) in 0..1, corner pixels on those of the
    image, as `AffinityNetwork.boundaries` gives them; radius in pixels of that grid. Returns scores as they came in,
    (C, H, W). With M the scores on the grid and B the boundaries:

        M'_c = T^(2^log2_steps) (M_c (1 - B)) / sum_d T^(2^log2_steps) (M_d (1 - B))

    What a pixel says counts the less the surer a boundary passes through it. Raises ValueError as `random_walk` and
    `affinity_from_boundaries` do.

    Source: IRN (Ahn et al., CVPR 2019), the equation of propagation; that the result is divided by its sum, so that it
    is a distribution over the classes again, is this project's (IRN divides by each class's maximum).
    """
    check_scores(scores)
    affinity = affinity_from_boundaries(boundaries, radius)
    coarse = shrink(scores.float(), (boundaries.shape[0], boundaries.shape[1]))
    certainty = (1 - boundaries.to(coarse)).clamp(min=1e-4)  # a pixel that is all boundary has still itself to ask
    walked = divide_by_sum(random_walk(coarse * certainty, affinity, power=power, log2_steps=log2_steps))
    return divide_by_sum(resize(walked[None], (scores.shape[1], scores.shape[2]))[0])


def shrink(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Scores (C, H, W) on a coarser grid of `size` = (h, w) whose corner pixels are those of the image.

    Each grid pixel gets the mean of a window about as wide as the grid's stride, so that scores that an earlier
    refinement made sharp are not merely sampled. Scores that are not larger than the grid are resized alone.
    """
    height, width = scores.shape[1:]
    reach = max(height // size[0], width // size[1]) // 2
    averaged = functional.avg_pool2d(scores[None], 2 * reach + 1, 1, reach, count_include_pad=False)
    return resize(averaged, size)[0]
