"""The class maps of all exits cell by cell: one row of K numbers for each cell of each exit."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from selfreg.regulation.losses import average_cells, common_grid, full_precision, grid

Size = tuple[int, int]


class ExitCells:
    """Log-probabilities of all exits, computed in one pass whatever their grids.

    A term is taken on the exit's own grid, or on the coarser of a teacher's and its student's. The cells of all exits
    on all these grids are the rows of one matrix, so that a softmax is one operation; `on_grid` shows those of one grid
    as maps again. Rows hold the classes side by side, as channels-last class maps do.

    Args:
        maps: Logits of every exit, (N, K, h_i, w_i), shallow to deep, the network's own output last.

    Attributes:
        exits: The exits on each grid, by its (height, width).
        maps: The argument.
    """

    def __init__(self, maps: list[Tensor]) -> None:
        self.maps = maps
        self.exits: dict[Size, list[int]] = {}
        teachers = (maps[0], maps[-1])
        for index, logits in enumerate(maps):
            sizes = [grid(logits), *(common_grid(teacher, logits) for teacher in teachers)]
            for size in dict.fromkeys(sizes):
                self.exits.setdefault(size, []).append(index)
        self._rows: Tensor | None = None
        self._log_probabilities: dict[float, Tensor] = {}
        self._on_grid: dict[float, dict[Size, Tensor]] = {}

    def log_probabilities(self, temperature: float = 1.0) -> Tensor:
        """log softmax(F / T) of every cell, float32 or float64 (rows, K)."""
        if temperature not in self._log_probabilities:
            with torch.enable_grad():  # a teacher may be the first to ask
                rows = full_precision(self._logits())
                rows = rows if temperature == 1.0 else rows / temperature
                self._log_probabilities[temperature] = rows.log_softmax(dim=1)
        return self._log_probabilities[temperature]

    def on_grid(self, size: Size, temperature: float = 1.0) -> Tensor:
        """The same of the exits on one grid, (exits, N, K, h, w), in the order of `exits[size]`."""
        if temperature not in self._on_grid:
            batch, num_classes = self.maps[0].shape[:2]
            shapes = [(len(exits), batch, *of, num_classes) for of, exits in self.exits.items()]
            rows = self.log_probabilities(temperature)
            with torch.enable_grad():
                parts = torch.split(rows, [math.prod(shape[:-1]) for shape in shapes])
                maps = [part.view(shape).movedim(-1, 2) for part, shape in zip(parts, shapes, strict=True)]
            self._on_grid[temperature] = dict(zip(self.exits, maps, strict=True))
        return self._on_grid[temperature][size]

    def of_exit(self, index: int, size: Size, temperature: float = 1.0) -> Tensor:
        """The same of one exit, (N, K, h, w)."""
        return self.on_grid(size, temperature)[self.exits[size].index(index)]

    def _logits(self) -> Tensor:
        if self._rows is None:
            placed = [(self.maps[index], size) for size, exits in self.exits.items() for index in exits]
            maps = [
                logits if grid(logits) == size else average_cells(full_precision(logits), size)
                for logits, size in placed
            ]
            self._rows = torch.cat([logits.movedim(1, -1).flatten(0, -2) for logits in maps])
        return self._rows
