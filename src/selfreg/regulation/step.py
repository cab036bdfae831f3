"""One training step: the five terms, and the tensors that they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from selfreg.regulation import losses
from selfreg.regulation.cells import ExitCells, Size
from selfreg.regulation.local_presence import LabelWindows, as_windows, local_presence_of_exits
from selfreg.regulation.losses import Teacher, average_cells, common_grid, full_precision, grid
from selfreg.regulation.options import MethodOptions
from selfreg.regulation.outputs import ExitOutputs
from selfreg.regulation.targets import CellLabels


class Step:
    """Raw terms of one batch. Exits are numbered from 0 (the shallowest) to `last` (the network's own output).

    Each term is a vector with one value per exit. Exits with the same grid share tensors (exits, N, K, h, w), and every
    equation is evaluated once for all of them, since on a GPU the number of operations matters more than their size.

    The grid of a self-regulation term is the coarser of its teacher's and its student's grid. A teacher's probabilities
    are averaged over the cells of that grid, so a fine teacher gives a coarse student class fractions, as the labels
    do. The logits of a student with a finer grid are averaged. The own output is compared at `own_map` if there is one,
    and never on a finer grid than that of the finest exit.
    """

    def __init__(
        self,
        options: MethodOptions,
        outputs: ExitOutputs,
        labels: Tensor,
        *,
        ignore_index: int,
        class_weights: Tensor | None,
        own_loss: Callable[..., Tensor] | None,
        image_labels: Tensor | None,
        confidence: Tensor | None,
    ) -> None:
        self.options = options
        self.at_label_resolution = options.exit_resolution == "label"
        self.ignore_index = ignore_index
        self.own_loss = own_loss
        self.labels = labels
        self.image_labels = image_labels
        self.confidence = confidence
        self.image_logits = torch.stack(outputs.image_logits)
        self.features = outputs.features
        self.network_loss = outputs.network_loss
        self.maps = outputs.class_maps
        if self.at_label_resolution:
            corners = options.variant == "authors"  # as in their code
            maps = [full_precision(class_map) for class_map in self.maps]
            self.maps = [losses.resize_logits(class_map, grid(labels), align_corners=corners) for class_map in maps]
        self.last = len(self.maps) - 1
        self.exits = ExitCells([*self.maps[: self.last], self._compared_output(outputs.own_map)])
        self.class_weights = None if class_weights is None else class_weights.to(labels.device)
        self.cells = CellLabels(
            labels,
            self.maps[0].shape[1],
            ignore_index=ignore_index,
            confidence=confidence,
            class_weights=self.class_weights,
        )
        if not self.at_label_resolution and self.last:
            self.cells.rows(self.exits.exits)
        self._cross_entropy: dict[tuple[Size, float], Tensor] = {}
        self._teachers: dict[Size, Teacher] = {}
        self._divergence: dict[Size, dict[tuple[int, int], Tensor]] = {}
        self._divisor: Tensor | None = None

    # --- the terms, one value per exit ---

    def segmentation(self) -> Tensor:
        """Segmentation term (weight b): every exit against the labels; the own output last, at label resolution."""
        exits, own = self.maps[: self.last], self._own_segmentation()
        if self.at_label_resolution or not exits:
            return torch.stack([*(self._at_labels(class_map) for class_map in exits), own])
        pixels = self._valid_pixels(weighted=True)
        grids = dict.fromkeys(grid(class_map) for class_map in exits)
        means = {size: self._cell_segmentation(size, pixels) for size in grids}
        return torch.stack([*(means[grid(class_map)][index] for index, class_map in enumerate(exits)), own])

    def classification(self) -> Tensor:
        """Classification term (weight a): every exit's image logits against the tags, or the classes in the labels."""
        presence = self.cells.presence() if self.image_labels is None else self.image_labels
        return losses.classification_loss(self.image_logits, presence, self._known())

    def local_presence(self) -> Tensor:
        """Local presence: every exit against the classes that occur in each window, on its own grid."""
        grids = self.exits.exits
        values = local_presence_of_exits(
            self.exits.log_probabilities(),
            [self.exits.on_grid(size) for size in grids],
            self._label_windows(),
            self.options.local_presence_average,
        ).unbind()
        found = dict(zip([(size, index) for size in grids for index in grids[size]], values, strict=True))
        return torch.stack([found[grid(logits), index] for index, logits in enumerate(self.exits.maps)])

    def sr_f(self) -> Tensor:
        """SR-F, shallow to deep: exits 1 to `last` are taught by exit 0."""
        students = range(1, self.last + 1)
        if self.options.variant == "feature":
            return self._stacked([self._feature(index) for index in students])
        if self.options.variant == "authors":
            return self._stacked([self._hard_label(index) for index in students])
        return self._distilled(0, students)

    def sr_l(self) -> Tensor:
        """SR-L, deep to shallow: exits 0 to `last` - 1 are taught by the network's output."""
        if self.options.variant == "authors":
            students, teacher = self.image_logits[:-1], self.image_logits[-1]
            return losses.presence_distillation_loss(students, teacher, self._known())
        return self._distilled(self.last, range(self.last))

    # --- one exit, or all exits of one grid ---

    def _own_segmentation(self) -> Tensor:
        if self.network_loss is not None:
            if self.own_loss is not None:
                raise ValueError("the network computes the loss of its own output itself: leave out own_loss")
            return self.network_loss
        if self.own_loss is None:
            return self._at_labels(self.maps[self.last])
        logits = losses.resize_logits(full_precision(self.maps[self.last]), grid(self.labels))
        known = {} if self.confidence is None else {"confidence": self.confidence}
        loss = self.own_loss(logits, self.labels, **known)
        if not isinstance(loss, Tensor) or not loss.is_floating_point():
            given = loss.dtype if isinstance(loss, Tensor) else type(loss).__name__
            raise TypeError(f"own_loss must give a floating tensor that has a gradient, not {given}")
        if loss.ndim:
            raise ValueError(f"own_loss must give a scalar, not {tuple(loss.shape)}: take its mean")
        constant = logits.requires_grad and not loss.requires_grad
        # a constant is right where nothing is valid; the labels are read in this case alone
        if constant and bool((self.labels != self.ignore_index).any()):
            raise ValueError("own_loss gave a value without gradient: it must be differentiable in its logits")
        return loss

    def _at_labels(self, class_map: Tensor) -> Tensor:
        return losses.segmentation_loss(
            class_map,
            self.labels,
            ignore_index=self.ignore_index,
            class_weights=self.class_weights,
            confidence=self.confidence,
        )

    def _cell_segmentation(self, size: Size, pixels: Tensor) -> dict[int, Tensor]:
        if self.class_weights is None:
            cross_entropy = self._cell_cross_entropy(size, 1.0)
        else:
            cross_entropy = losses.cell_cross_entropy(self.exits.on_grid(size), self.cells.weighted_counts(size))
        mean = cross_entropy.sum(dim=(1, 2, 3)) / pixels
        return dict(zip(self.exits.exits[size], mean.unbind(), strict=True))

    def _distilled(self, teacher: int, students: Sequence[int]) -> Tensor:
        """Divergence from one teacher to each student, mean over valid pixels."""
        if not students:
            return self._stacked([])
        values = [self._divergences(self._common_grid(teacher, index))[teacher, index] for index in students]
        mean = self._stacked(values) / self._valid_pixels()
        return mean if self.options.temperature == 1.0 else mean * self.options.temperature**2

    def _divergences(self, size: Size) -> dict[tuple[int, int], Tensor]:
        """Sum over a grid of n(u) g(u) times the divergence, for every pair (teacher, student) with this grid."""
        if size not in self._divergence:
            temperature = self.options.temperature
            teacher = self._teacher(size)
            weights = self.cells.valid(size)
            if self.options.variant == "verified":
                weights = weights * losses.verified_gate(self._cell_cross_entropy(size, temperature), teacher)
            divergence = losses.divergence(self.exits.on_grid(size, temperature), teacher)
            sums = (weights * divergence).sum(dim=(-3, -2, -1)).flatten().unbind()
            pairs = [(index, student) for index in self._distilling() for student in self.exits.exits[size]]
            self._divergence[size] = dict(zip(pairs, sums, strict=True))
        return self._divergence[size]

    def _hard_label(self, index: int) -> Tensor:
        teacher = self.exits.maps[0]
        size = self._common_grid(0, index)
        return losses.hard_label_loss(self.exits.of_exit(index, size), teacher, self.cells.valid(grid(teacher)))

    def _feature(self, index: int) -> Tensor:
        teacher, student = (full_precision(self.features[i]) for i in (0, index))
        size = common_grid(teacher, student)
        return losses.feature_loss(
            average_cells(student, size), average_cells(teacher.detach(), size), self.cells.valid(size)
        )

    # --- shared between terms ---

    def _compared_output(self, own_map: Tensor | None) -> Tensor:
        """The logits of the own output for self-regulation."""
        own = self.maps[self.last] if own_map is None or self.at_label_resolution else own_map
        finest = grid(self.maps[0]) if self.last else grid(own)
        for size in map(grid, self.maps[: self.last]):  # and no max(key=...), at which torch.compile breaks off
            finest = size if math.prod(size) > math.prod(finest) else finest
        size = min(own.shape[2], finest[0]), min(own.shape[3], finest[1])
        return own if grid(own) == size else average_cells(full_precision(own), size)

    def _common_grid(self, teacher: int, student: int) -> Size:
        return common_grid(self.exits.maps[teacher], self.exits.maps[student])

    def _known(self) -> Tensor:
        """Whether the classes of each image are known, (N,) bool: it has tags or a valid pixel."""
        if self.image_labels is not None:
            return torch.ones(len(self.labels), dtype=torch.bool, device=self.labels.device)
        return self.cells.presence().amax(dim=1) > 0

    def _cell_cross_entropy(self, size: Size, temperature: float) -> Tensor:
        if (size, temperature) not in self._cross_entropy:
            log_p = self.exits.on_grid(size, temperature)
            self._cross_entropy[size, temperature] = losses.cell_cross_entropy(log_p, self.cells.counts(size))
        return self._cross_entropy[size, temperature]

    def _distilling(self) -> list[int]:
        """The teachers of class maps."""
        options = self.options
        teachers = {0: options.sr_f_weight > 0 and options.variant != "feature", self.last: options.sr_l_weight > 0}
        return [index for index, teaches in teachers.items() if teaches]

    def _teacher(self, size: Size) -> Teacher:
        """The teachers on one grid, broadcastable with the exits of that grid: (teachers, 1, N, K, h, w)."""
        if not self._teachers:
            sizes = list(self.exits.exits)
            # all cells of all grids as one column, which is then split into the grids' maps
            column = self._column_of_teachers(sizes)
            cells = [len(self.labels) * math.prod(of) for of in sizes]
            fields = [torch.split(field, cells, dim=-2) for field in column if field is not None]
            for of, *parts in zip(sizes, *fields, strict=True):
                maps = [part.view(*part.shape[:-2], len(self.labels), *of) for part in parts]
                self._teachers[of] = Teacher(maps[0].movedim(1, 2)[:, None], *(part[:, None] for part in maps[1:]))
        return self._teachers[size]

    def _column_of_teachers(self, sizes: list[Size]) -> Teacher:
        by_grid: dict[Size, list[int]] = {}
        for index in self._distilling():
            by_grid.setdefault(grid(self.exits.maps[index]), []).append(index)
        with torch.no_grad():
            log_q = torch.cat([self._rows_of_teachers(indices, own, sizes) for own, indices in by_grid.items()])
            counts = self.cells.rows(sizes).T[..., None] if self.options.variant == "verified" else None
            return losses.as_teacher(log_q.transpose(1, 2)[..., None], counts)

    def _rows_of_teachers(self, indices: list[int], own: Size, sizes: list[Size]) -> Tensor:
        """log q of teachers that share their own grid, averaged over the cells of every grid: (teachers, cells, K)."""
        log_q = torch.stack([self.exits.of_exit(index, own, self.options.temperature) for index in indices])
        rows = {own: log_q.movedim(2, -1).flatten(1, 3)}
        others = [size for size in sizes if size != own]
        if others:
            q = log_q.exp().flatten(0, 1)
            averaged = [average_cells(q, size).movedim(1, -1).reshape(len(log_q), -1, q.shape[1]) for size in others]
            log_averaged = torch.cat(averaged, dim=1).clamp_min(torch.finfo(q.dtype).tiny).log()
            rows |= dict(zip(others, torch.split(log_averaged, [of.shape[1] for of in averaged], dim=1), strict=True))
        return torch.cat([rows[size] for size in sizes], dim=1)

    def _valid_pixels(self, *, weighted: bool = False) -> Tensor:
        """Divisor of sums over the cells of a batch."""
        if weighted and self.class_weights is not None:
            return losses.divisor(self.cells.valid_pixels(weighted=True), self.image_logits.dtype)
        if self._divisor is None:
            self._divisor = losses.divisor(self.cells.valid_pixels(), self.image_logits.dtype)
        return self._divisor

    def _label_windows(self) -> list[LabelWindows]:
        """Classes in the windows of every grid; grids with the same windows share the result."""
        known: dict[tuple[float, ...], Tensor] = {}
        found = []
        pixels = grid(self.labels)
        for size in self.exits.exits:
            window = self._window(size)
            nests = all(of % cells == 0 for of, cells in zip(pixels, size, strict=True))
            # sides and steps in pixels; a grid whose cells differ in size shares with none
            of_cells = (*window, window[0] // 2, window[1] // 2)
            key = tuple(cells * of / side for cells, of, side in zip(of_cells, pixels * 2, size * 2, strict=True))
            key = key if nests else (*key, *size)
            windows = as_windows(self.cells.counts(size), window, known.get(key))
            known[key] = windows.classes
            found.append(windows)
        return found

    def _window(self, size: Size) -> Size:
        """Rows and columns of a window of local presence, in cells of a grid."""
        rows, columns = (
            min(cells, max(2, round(self.options.local_presence_window * cells / of)))
            for cells, of in zip(size, grid(self.labels), strict=True)
        )
        return rows, columns

    def _stacked(self, values: list[Tensor]) -> Tensor:
        return torch.stack(values) if values else self.image_logits.new_zeros(0)
