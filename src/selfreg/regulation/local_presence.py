"""Local presence: the classes that occur in each window of a class map (this project's term).

Symbols are those of `selfreg.regulation.losses`. The loss is computed in the precision of the log-probabilities; if no
pixel is valid, it is 0 with a graph.
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
"""Weight of absent classes relative to present ones in `local_presence_loss`."""

_LOG_HALF = math.log(0.5)
_LEAST_LOG_REST = -40.0
"""log(1 - p) of an absent class is taken to be no less: beyond, cross-entropy alone corrects it."""


class LabelWindows(NamedTuple):
    """Presence of classes in the windows of one grid, without gradient; made by `as_windows`.

    Attributes:
        size: Rows and columns of a window, in cells.
        hidden: (2, N, K, h, w) bool: cells to ignore where class k is present, since they have no pixel of it, and
            cells to ignore where it is absent, since they have no valid pixel.
        classes: (2, N, K, h', w') bool: windows in which class k is present, and windows in which it is absent but
            another class is present.
    """

    size: tuple[int, int]
    hidden: Tensor
    classes: Tensor


@torch.no_grad()
def as_windows(counts: Tensor, size: tuple[int, int], classes: Tensor | None = None) -> LabelWindows:
    """Find the classes in windows of rows x columns of cells.

    Args:
        counts: Class counts (N, K, h, w); only counts > 0 matters.
        size: Rows and columns of a window.
        classes: `LabelWindows.classes`, if known from another grid with the same windows of the image.
    """
    if classes is None:
        present = _largest(counts, size)[0] > 0
        classes = torch.stack([present, present.any(dim=1, keepdim=True) & ~present])
    return LabelWindows(size, hidden_cells(counts), classes)


def hidden_cells(counts: Tensor) -> Tensor:
    """`LabelWindows.hidden` for class counts (..., K, h, w): (2, ..., K, h, w)."""
    elsewhere = counts == 0
    return torch.stack([elsewhere, elsewhere.all(dim=-3, keepdim=True).expand_as(elsewhere)])


def local_presence_loss(
    log_probabilities: Tensor, windows: LabelWindows, average: Literal["class", "pair"] = "class"
) -> Tensor:
    """Binary cross-entropy of the presence of classes in windows, in which small objects count as much as large ones.

    In windows P_k, which contain a pixel of class k, m_k(W) = max_{u in W, c_k(u) > 0} p_k(u) is the largest
    probability of the class in its own cells. In the other windows A_k, m_k(W) = max_{u in W} p_k(u) over all cells
    with a valid pixel:

        L = 1/2 (mean_k mean_{W in P_k} - log m_k(W)  +  4 mean_k mean_{W in A_k} - log(1 - m_k(W)))

    A missed object is a class that is present in a window but not predicted there; a mislabelled part of a large object
    is a class that is predicted but absent. The mean over the classes that have such windows in the batch gives rare
    classes the same weight as frequent ones. Windows overlap by half; windows without valid pixels are ignored.

    Args:
        log_probabilities: log p, (N, K, h, w).
        windows: Windows of the labels on the same grid.
        average: "class" as above, or "pair" for the mean over all pairs of a class and a window.

    Returns:
        Scalar.

    Source: this project, derived from the image-level classification of the multi-exit loss.
    """
    rows = log_probabilities.movedim(1, -1).flatten(0, -2)
    return local_presence_of_exits(rows, [log_probabilities[None]], [windows], average)[0]


def local_presence_of_exits(
    rows: Tensor, maps: Sequence[Tensor], windows: Sequence[LabelWindows], average: Literal["class", "pair"] = "class"
) -> Tensor:
    """`local_presence_loss` of all exits, (exits,), in the order of `maps`.

    Args:
        rows: log p of every cell of every exit, (rows, K).
        maps: The same values as maps (exits, N, K, h, w), one per grid, in the order of the rows.
        windows: Windows of the labels on each grid.
        average: As in `local_presence_loss`.
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
    """log(1 - p) of the class with p > 1/2 in each row of log p (rows, K), computed from the other classes: (rows,).

    About 0 in a row without such a class. The backward pass is written by hand, since autograd would keep two more
    tensors.
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
    """Maximum of each window of maps (N, K, h, w), and its index in h * w; windows overlap by half."""
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
    """Weight of each class in each window in the means over present and absent ones, (windows, K) each.

    Args:
        windows: Windows of each grid.
        exits: Number of exits of each grid, for each of which its windows are repeated.
        average: As in `local_presence_loss`.
        dtype: Type of the weights.
    """
    known: list[tuple[Tensor, Tensor]] = []  # compared by `is`: torch.compile would compile anew for every `id`
    weights = []
    for of in windows:
        weight = next((weight for classes, weight in known if classes is of.classes), None)
        if weight is None:
            counted = of.classes.movedim(2, -1)
            everywhere = (1, 2, 3, 4) if average == "pair" else (1, 2, 3)
            places = mean_over_processes(counted.sum(dim=everywhere, keepdim=True, dtype=dtype))
            number = (places > 0).sum(dim=-1, keepdim=True)  # of classes, each of which counts alike
            weight = counted / (places * number).clamp_min(torch.finfo(dtype).tiny)
            known.append((of.classes, weight))
        weights.append(weight)
    repeated = [
        weight[:, None].expand(-1, count, *(-1,) * 4).flatten(1, -2)
        for weight, count in zip(weights, exits, strict=True)
    ]
    missed, invented = torch.cat(repeated, dim=1)
    return missed, invented


def _cells(maps: Tensor) -> int:
    """Number of cells of maps (exits, N, K, h, w)."""
    return maps.numel() // maps.shape[2]
