"""Local presence: which classes occur in each window of a class map, asked of every exit (this project's).

Symbols as in `selfreg.regulation.losses`; computed in the precision of the log-probabilities, and 0 with a graph where
nothing is valid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from selfreg.regulation.losses import grid, mean_over_processes

ABSENT_WEIGHT = 4.0
"""What a class that is absent from a window counts beside a present one in `local_presence_loss`."""

_LOG_HALF = math.log(0.5)
_LEAST_LOG_REST = -40.0
"""log(1 - p) of an absent class is taken to be no less: beyond, cross-entropy alone corrects it."""


class LabelWindows(NamedTuple):
    """What the labels of one grid say of its windows, without gradient; made by `as_windows`.

    size: (rows, columns) of cells of a window; hidden: (2, N, K, h, w) bool, the cells that do not matter where class k
    is present, since it has no pixel in them, and where it is absent, since none of their pixels is valid; classes: (2,
    N, K, h', w') bool, the windows in which class k is present, and those in which it is absent and another is not.
    """

    size: tuple[int, int]
    hidden: Tensor
    classes: Tensor


@torch.no_grad()
def as_windows(counts: Tensor, size: tuple[int, int], classes: Tensor | None = None) -> LabelWindows:
    """Ask the class counts (N, K, h, w), of which only counts > 0 matters, what occurs in windows of rows x columns.

    classes: the answer, where another grid that cuts the image into the same windows has given it.
    """
    if classes is None:
        present = _largest(counts, size)[0] > 0
        classes = torch.stack([present, present.any(dim=1, keepdim=True) & ~present])
    return LabelWindows(size, hidden_cells(counts), classes)


def hidden_cells(counts: Tensor) -> Tensor:
    """`LabelWindows.hidden` of class counts (..., K, h, w), (2, ..., K, h, w)."""
    elsewhere = counts == 0
    return torch.stack([elsewhere, elsewhere.all(dim=-3, keepdim=True).expand_as(elsewhere)])


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
    rows = log_probabilities.movedim(1, -1).flatten(0, -2)
    return local_presence_of_exits(rows, [log_probabilities[None]], [windows], average)[0]


def local_presence_of_exits(
    rows: Tensor, maps: Sequence[Tensor], windows: Sequence[LabelWindows], average: Literal["class", "pair"] = "class"
) -> Tensor:
    """`local_presence_loss` of all exits, (exits,), in the order of `maps`.

    rows: log p of every cell of every exit, (rows, K); maps: the same as maps, (exits, N, K, h, w) for each grid, whose
    rows follow each other; windows: of the labels on each grid.
    """
    log_rest = _LogRest.apply(rows)
    with torch.no_grad():
        # Grows with p like log p, and tells p = 1 - 1e-9 from 1 - 1e-12 as well as 1e-9 from 1e-12.
        certainty = torch.where(rows > _LOG_HALF, -log_rest[:, None], rows)
        start, cells = 0, []
        for part, of, labels in zip(torch.split(certainty, [_cells(of) for of in maps]), maps, windows, strict=True):
            shape = (of.shape[0], of.shape[1], *grid(of), of.shape[2])
            cells.append(_surest_cells(part.view(shape).movedim(-1, 2), labels, start))
            start += len(part)
        surest = torch.cat(cells)
    log_m = rows.gather(0, surest)
    # log(1 - m): of the other classes' probabilities where m is above 1/2, since 1 - m would be rounded there.
    rest = torch.where(
        log_m > _LOG_HALF,
        log_rest.gather(0, surest.flatten()).view_as(surest),
        torch.log1p(-log_m.clamp(max=_LOG_HALF).exp()),
    )
    missed, invented = _weights(windows, [len(of) for of in maps], average, rows.dtype)
    losses = torch.addcmul(log_m * missed, rest, invented, value=ABSENT_WEIGHT)
    parts = torch.split(losses, [len(of) for of in cells])
    sums = [part.view(len(of), -1).sum(dim=1) for part, of in zip(parts, maps, strict=True)]
    return torch.cat(sums) * -0.5


class _LogRest(torch.autograd.Function):
    """log(1 - p) of the class with p > 1/2 in each row of log p (rows, K), from the other classes' log p: (rows,).

    About 0 in a row without one. By hand, since autograd would keep two more tensors of the rows' size.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        log_rest = rows.masked_fill(rows > _LOG_HALF, -torch.inf).logsumexp(dim=1).clamp_(min=_LEAST_LOG_REST)
        ctx.save_for_backward(rows, log_rest)
        return log_rest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        rows, log_rest = ctx.saved_tensors
        shares: Tensor = (rows - log_rest[:, None]).exp_().masked_fill_(rows > _LOG_HALF, 0.0)
        return shares.mul_((gradient * (log_rest > _LEAST_LOG_REST))[:, None])


def _surest_cells(certainty: Tensor, windows: LabelWindows, start: int) -> Tensor:
    """The rows of the cells where m_k(W) is, (exits * N * h' * w', K), the first cell of the maps being row `start`."""
    exits, batch, num_classes, height, width = certainty.shape
    seen = certainty.masked_fill(windows.hidden[:, None], -torch.inf)
    own, anywhere = _largest(seen.flatten(0, 2), windows.size)[1].view(2, exits, *windows.classes.shape[1:])
    cells = torch.where(windows.classes[0], own, anywhere)
    first = torch.arange(start, start + exits * batch * height * width, height * width, device=cells.device)
    return (cells + first.view(exits, batch, 1, 1, 1)).movedim(2, -1).reshape(-1, num_classes)


def _largest(maps: Tensor, window: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The largest value in each window of maps (N, K, h, w), and its place in h * w; windows overlap by half."""
    step = (max(1, window[0] // 2), max(1, window[1] // 2))
    if window == (2 * step[0], 2 * step[1]) and all(of > by for of, by in zip(grid(maps), step, strict=True)):
        # Halves first, each of which two windows share: reads every cell once and not four times.
        halves, cells = F.max_pool2d(maps, step, step, ceil_mode=True, return_indices=True)
        largest, places = F.max_pool2d(halves, 2, 1, return_indices=True)
        return largest, cells.flatten(2).gather(2, places.flatten(2)).view_as(places)
    return F.max_pool2d(maps, window, step, ceil_mode=True, return_indices=True)


def _weights(
    windows: Sequence[LabelWindows], exits: Sequence[int], average: str, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """What each class in each window counts in the mean of the present and of the absent ones, (windows, K) each.

    exits: how many exits each grid has, for each of which its windows are repeated.
    """
    known: dict[int, Tensor] = {}
    for of in windows:
        if id(of.classes) not in known:
            counted = of.classes.movedim(2, -1)
            everywhere = (1, 2, 3, 4) if average == "pair" else (1, 2, 3)
            places = mean_over_processes(counted.sum(dim=everywhere, keepdim=True, dtype=dtype))
            number = (places > 0).sum(dim=-1, keepdim=True)  # of classes, each of which counts alike
            known[id(of.classes)] = counted / (places * number).clamp_min(torch.finfo(dtype).tiny)
    repeated = [
        known[id(of.classes)][:, None].expand(-1, count, *(-1,) * 4).flatten(1, -2)
        for of, count in zip(windows, exits, strict=True)
    ]
    missed, invented = torch.cat(repeated, dim=1)
    return missed, invented


def _cells(maps: Tensor) -> int:
    """The number of cells of maps (exits, N, K, h, w)."""
    return maps.numel() // maps.shape[2]
