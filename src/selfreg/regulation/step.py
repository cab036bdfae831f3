"""One step of training: the five terms, and what they share (labels on each grid, each exit's log-probabilities)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from selfreg.regulation import losses
from selfreg.regulation.local_presence import LabelWindows, as_windows, local_presence_loss
from selfreg.regulation.losses import Teacher, average_cells, common_grid, grid
from selfreg.regulation.options import MethodOptions
from selfreg.regulation.outputs import ExitOutputs
from selfreg.regulation.targets import CellLabels, class_presence


class Step:
    """Computes the raw terms of one batch; exits are numbered from 0, the shallowest, to `last`, the own output.

    The grid of a self-regulation term is the coarser of its teacher's and its student's. A teacher's probabilities are
    averaged over the cells of that grid, so that a fine teacher gives a coarse student fractions, as the labels do; a
    student's logits are averaged where the student is the finer one. The own output is compared at `own_map` if there
    is one, and in any case no finer than the finest exit: there is nobody to compare with finer than that.
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
        self.image_logits = outputs.image_logits
        self.features = outputs.features
        maps = [losses.full_precision(class_map) for class_map in outputs.class_maps]
        if self.at_label_resolution:
            corners = options.variant == "authors"  # as in their code
            maps = [losses.resize_logits(class_map, grid(labels), align_corners=corners) for class_map in maps]
        self.maps = maps
        self.last = len(maps) - 1
        self.own_map = None if outputs.own_map is None else losses.full_precision(outputs.own_map)
        self.class_weights = None if class_weights is None else class_weights.to(maps[0])
        self.cells = CellLabels(
            labels, maps[0].shape[1], ignore_index=ignore_index, confidence=confidence, class_weights=self.class_weights
        )
        self.known = (labels != ignore_index).flatten(1).any(dim=1)
        self._logits: dict[tuple[int, tuple[int, int]], Tensor] = {}
        self._log_p: dict[tuple[int, tuple[int, int], float], Tensor] = {}
        self._cross_entropy: dict[tuple[int, tuple[int, int], float], Tensor] = {}
        self._teachers: dict[tuple[int, tuple[int, int]], Teacher] = {}
        self._windows: dict[tuple[int, int], LabelWindows] = {}

    # --- the terms, one value per exit ---

    def segmentation(self) -> list[Tensor]:
        """b's term: every exit against the labels, the network's own output last and always at label resolution."""
        return [self._exit_segmentation(index) for index in range(self.last)] + [self._own_segmentation()]

    def classification(self) -> list[Tensor]:
        """a's term: every exit's image logits against the tags, or against the classes found in the labels."""
        presence, known = self.image_labels, torch.ones_like(self.known)
        if presence is None:
            presence = class_presence(self.labels, self.maps[0].shape[1], ignore_index=self.ignore_index)
            known = self.known
        return [losses.classification_loss(logits, presence, known) for logits in self.image_logits]

    def local_presence(self) -> list[Tensor]:
        """Every exit against the classes that occur in each window, on its own grid."""
        return [self._local_presence(index) for index in range(self.last + 1)]

    def sr_f(self) -> list[Tensor]:
        """Shallow teaches deep: exits 1 to last, of exit 0."""
        students = range(1, self.last + 1)
        if self.options.variant == "feature":
            return [self._feature(index) for index in students]
        if self.options.variant == "authors":
            return [self._hard_label(index) for index in students]
        return [self._distill(0, index) for index in students]

    def sr_l(self) -> list[Tensor]:
        """Deep teaches shallow: exits 0 to last - 1, of the own output."""
        students = range(self.last)
        if self.options.variant == "authors":
            known = self.known if self.image_labels is None else torch.ones_like(self.known)
            teacher = self.image_logits[self.last]
            return [losses.presence_distillation_loss(self.image_logits[i], teacher, known) for i in students]
        return [self._distill(self.last, index) for index in students]

    # --- one exit ---

    def _exit_segmentation(self, index: int) -> Tensor:
        if self.at_label_resolution:
            return self._at_labels(self.maps[index])
        size = grid(self.maps[index])
        counts = self.cells.weighted_counts(size)
        if self.class_weights is None:
            return losses.ratio(self._cell_cross_entropy(index, size, 1.0).sum(), counts.sum())
        return losses.cell_segmentation_loss(self._log_probabilities(index, size, 1.0), counts)

    def _own_segmentation(self) -> Tensor:
        if self.own_loss is None:
            return self._at_labels(self.maps[self.last])
        logits = losses.resize_logits(self.maps[self.last], grid(self.labels))
        known = {} if self.confidence is None else {"confidence": self.confidence}
        loss = self.own_loss(logits, self.labels, **known)
        if loss.ndim:
            raise ValueError(f"own_loss must give a scalar, not {tuple(loss.shape)}: take its mean")
        return loss

    def _at_labels(self, class_map: Tensor) -> Tensor:
        return losses.segmentation_loss(
            class_map,
            self.labels,
            ignore_index=self.ignore_index,
            class_weights=self.class_weights,
            confidence=self.confidence,
        )

    def _local_presence(self, index: int) -> Tensor:
        size = grid(self._compared(index))
        log_p = self._log_probabilities(index, size, 1.0)
        return local_presence_loss(log_p, self._label_windows(size), self.options.local_presence_average)

    def _distill(self, teacher_index: int, index: int) -> Tensor:
        size = common_grid(self._compared(teacher_index), self._compared(index))
        teacher = self._teacher(teacher_index, size)
        gate = None
        if self.options.variant == "verified":
            student = self._cell_cross_entropy(index, size, self.options.temperature)
            gate = losses.verified_gate(student, teacher)
        log_p = self._log_probabilities(index, size, self.options.temperature)
        return losses.distillation_loss(log_p, teacher, self.cells.valid(size), gate) * self.options.temperature**2

    def _hard_label(self, index: int) -> Tensor:
        teacher = self._compared(0)
        size = common_grid(teacher, self._compared(index))
        valid = self.cells.valid(grid(teacher))
        return losses.hard_label_loss(self._log_probabilities(index, size, 1.0), teacher, valid)

    def _feature(self, index: int) -> Tensor:
        teacher, student = (losses.full_precision(self.features[i]) for i in (0, index))
        size = common_grid(teacher, student)
        return losses.feature_loss(
            average_cells(student, size), average_cells(teacher.detach(), size), self.cells.valid(size)
        )

    # --- shared between terms ---

    def _compared(self, index: int) -> Tensor:
        """The logits with which an exit takes part in self-regulation."""
        if index < self.last or self.at_label_resolution:
            return self.maps[index]
        own = self.maps[index] if self.own_map is None else self.own_map
        exits = self.maps[: self.last]
        finest = max((grid(class_map) for class_map in exits), key=lambda size: size[0] * size[1], default=grid(own))
        return self._averaged(index, own, (min(own.shape[2], finest[0]), min(own.shape[3], finest[1])))

    def _averaged(self, index: int, logits: Tensor, size: tuple[int, int]) -> Tensor:
        if (index, size) not in self._logits:
            with torch.enable_grad():
                self._logits[index, size] = average_cells(logits, size)
        return self._logits[index, size]

    def _log_probabilities(self, index: int, size: tuple[int, int], temperature: float) -> Tensor:
        key = (index, size, temperature)
        if key not in self._log_p:
            logits = self._averaged(index, self._compared(index), size)
            with torch.enable_grad():
                logits = logits if temperature == 1.0 else logits / temperature
                self._log_p[key] = logits.log_softmax(dim=1)
        return self._log_p[key]

    def _cell_cross_entropy(self, index: int, size: tuple[int, int], temperature: float) -> Tensor:
        key = (index, size, temperature)
        if key not in self._cross_entropy:
            log_p = self._log_probabilities(index, size, temperature)
            self._cross_entropy[key] = losses.cell_cross_entropy(log_p, self.cells.counts(size))
        return self._cross_entropy[key]

    def _label_windows(self, size: tuple[int, int]) -> LabelWindows:
        if size not in self._windows:
            pairs = zip(size, grid(self.labels), strict=True)
            cells = [(of, self.options.local_presence_window * of / pixels) for of, pixels in pairs]
            rows, columns = (min(of, max(2, round(across))) for of, across in cells)
            self._windows[size] = as_windows(self.cells.counts(size), (rows, columns))
        return self._windows[size]

    def _teacher(self, index: int, size: tuple[int, int]) -> Teacher:
        if (index, size) not in self._teachers:
            own = grid(self._compared(index))
            with torch.no_grad():
                log_q = self._log_probabilities(index, own, self.options.temperature)
                if size != own:
                    probabilities = average_cells(self._teacher(index, own).probabilities, size)
                    log_q = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
            counts = self.cells.counts(size) if self.options.variant == "verified" else None
            self._teachers[index, size] = losses.as_teacher(log_q, counts)
        return self._teachers[index, size]
