"""Local presence: which classes occur in each window of a class map, asked of every exit (this project's).

Symbols as in `selfreg.regulation.losses`; computed in the precision of the log-probabilities, and 0 with a graph where
nothing is valid.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from selfreg.regulation.losses import grid, mean_over_processes, ratio

ABSENT_WEIGHT = 4.0
"""What a class that is absent from a window counts beside a present one in `local_presence_loss`."""

_LARGEST_LOG_PROBABILITY = -1e-6
_ELSEWHERE = -100.0
"""Added to log p of a class where it is not, and taken off again: e^-100 is nothing beside p where the class is."""
_VOID = -1e30


class LabelWindows(NamedTuple):
    """What the labels of one grid say of its windows, without gradient; made by `as_windows`.

    size: (rows, columns) of cells of a window; shift: added to log p before the largest of a window is taken, so that
    it is one of the class's own cells where there is one, and no cell of void, (N, K, h, w); present: where class k has
    a pixel in window W; absent: where it has none, and W has a valid one, both (N, K, h', w') bool.
    """

    size: tuple[int, int]
    shift: Tensor
    present: Tensor
    absent: Tensor


@torch.no_grad()
def as_windows(counts: Tensor, size: tuple[int, int]) -> LabelWindows:
    """Ask the class counts (N, K, h, w), of which only counts > 0 matters, what occurs in windows of rows x columns."""
    elsewhere = torch.where(counts.amax(dim=1, keepdim=True) > 0, _ELSEWHERE, _VOID)
    shift = elsewhere * (counts == 0)
    present = _largest(counts, size) > 0
    return LabelWindows(size, shift, present, present.any(dim=1, keepdim=True) & ~present)


def local_presence_loss(
    log_probabilities: Tensor, windows: LabelWindows, average: Literal["class", "pair"] = "class"
) -> Tensor:
    """Which classes occur in each window of a class map: every small object counts as much as a large one.

    With m_k(W) = max_{u in W, c_k(u) > 0} p_k(u), the largest probability of class k over its own cells in window W, in
    windows P_k in which it has a pixel, and m_k(W) = max_{u in W} p_k(u) over all cells with a valid pixel in the
    others, A_k:

        L = 1/2 (mean_k mean_{W in P_k} - log m_k(W)  +  4 mean_k mean_{W in A_k} - log(1 - m_k(W)))

    A missed object is a class that is present in a window and predicted nowhere where it is, a wrong part of a large
    object one that is predicted and absent. The mean over classes, those with such a window in the batch, lets a rare
    class count as much as a common one; average="pair" takes the mean over all pairs of a class and a window in P_k, or
    in A_k, instead. log_probabilities: log p (N, K, h, w); windows: of the labels on the same grid. Windows overlap by
    half; one without a valid pixel is left out. Source: this project's, after the image-level classification of the
    multi-exit loss.
    """
    largest = _largest(log_probabilities + windows.shift, windows.size)
    log_rest = (-torch.expm1((largest - _ELSEWHERE).clamp(max=_LARGEST_LOG_PROBABILITY))).log()
    mean = _class_mean if average == "class" else _pair_mean
    missed = mean(-largest, windows.present)
    invented = mean(-log_rest, windows.absent)
    return 0.5 * (missed + ABSENT_WEIGHT * invented)


def _largest(maps: Tensor, window: tuple[int, int]) -> Tensor:
    """The largest value in each window of maps (N, K, h, w); windows overlap by half."""
    step = (max(1, window[0] // 2), max(1, window[1] // 2))
    if window == (2 * step[0], 2 * step[1]) and all(of > by for of, by in zip(grid(maps), step, strict=True)):
        # Halves first, each of which two windows share: reads every cell once and not four times.
        return F.max_pool2d(F.max_pool2d(maps, step, step, ceil_mode=True), 2, 1)
    return F.max_pool2d(maps, window, step, ceil_mode=True)


def _class_mean(values: Tensor, counted: Tensor) -> Tensor:
    """The mean over classes of each one's mean over its counted places, (N, K, h, w); classes without any left out."""
    everywhere = (0, 2, 3)
    places = mean_over_processes(counted.sum(dim=everywhere).to(values))
    means = torch.where(counted, values, 0.0).sum(dim=everywhere) / torch.where(places > 0, places, 1.0)
    return means.sum() / (places > 0).sum().clamp_min(1)


def _pair_mean(values: Tensor, counted: Tensor) -> Tensor:
    """The mean over the counted ones, of whatever class, (N, K, h, w)."""
    return ratio(torch.where(counted, values, 0.0).sum(), counted.sum())
