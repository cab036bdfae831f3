"""The training objective: multi-exit loss and both self-regulation losses, weighted, warmed up, each term by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from selfreg.regulation import losses
from selfreg.regulation.outputs import ExitOutputs
from selfreg.regulation.targets import CellLabels, class_fractions, class_presence

VARIANTS = ("authors", "distill", "feature", "verified")


@dataclass(frozen=True)
class LossTerms:
    """The terms of one step, scalars: raw ones after the reduction over exits, and the weighted total.

    segmentation, classification: the two parts of the multi-exit loss; sr_f: shallow teaches deep; sr_l: deep teaches
    shallow; total = b * segmentation + a * classification + w(t) * (l_F * sr_f + l_L * sr_l). A term whose weight is
    0 (during warm-up, too) is not computed and reads 0. weights: the factor of each raw term in the total, w(t)
    included.
    """

    segmentation: Tensor
    classification: Tensor
    sr_f: Tensor
    sr_l: Tensor
    total: Tensor
    weights: dict[str, float] = field(default_factory=dict)

    def raw(self) -> dict[str, Tensor]:
        """The unweighted terms by name, total left out."""
        return {name: getattr(self, name) for name in ("segmentation", "classification", "sr_f", "sr_l")}

    def weighted(self) -> dict[str, Tensor]:
        """The terms as they enter the total, by name; their sum is the total."""
        return {name: value * self.weights[name] for name, value in self.raw().items()}


class SelfRegulation:
    """The whole objective of self-regulation.

    L = sum_i [a BCE(z_i, p(y)) + b CE(F_i, y)]
        + w(t) (l_F sum_{i>=2} D_F(F_i <- sg[F_1]) + l_L sum_{i<N} D_L(F_i <- sg[F_N]))

    Stars: one teacher for each direction, detached. Variants, by what D_F and D_L are:

    - "authors": D_F cross-entropy against the hard decisions of F_1; D_L binary cross-entropy of z_i against
      sigmoid(z_N) (the authors' demonstration code);
    - "distill": T^2 KL(softmax(F_teacher / T) || softmax(F_i / T)) per valid pixel, both ways (what the paper most
      likely does);
    - "feature": D_F the distance of normalised stage features (wants `MultiExit(features=True)`); D_L as in "distill";
    - "verified": as "distill", only where the teacher is right and gives the truth more likelihood than the student
      does (`verified_gate`; this project's): L = (1 / n) sum_i sum_u n(u) g_i(u) T^2 KL(q(u) || p_i(u)). Still
      divided by all valid pixels n, so that a teacher with little to say has little force.

    exit_resolution "exit": an exit's losses are taken on its own grid, against class fractions; a teacher's
    probabilities are averaged over the student's cells, and the own output, where finer than the finest exit, takes
    part in SR averaged to that exit's grid. "label": everything upsampled to label resolution (the authors'). The own
    output's segmentation term is at label resolution in both. reduction: "sum" or "mean" over exits. warm_up:
    fraction of training without SR; warm_up_shape "step": w(t) = [t >= warm_up], "ramp": w(t) = min(1, t / warm_up).
    class_weights: (K,), for the segmentation term. temperature: T.

    Raises ValueError for an unknown variant or an option out of range.
    Source: the paper; weights a = 0.2, b = 0.8, l_F = l_L = 1, warm-up 0.25 as in the authors' code.
    """

    def __init__(
        self,
        variant: Literal["authors", "distill", "feature", "verified"] = "distill",
        *,
        ignore_index: int = 255,
        exit_resolution: Literal["exit", "label"] = "exit",
        classification_weight: float = 0.2,
        segmentation_weight: float = 0.8,
        sr_f_weight: float = 1.0,
        sr_l_weight: float = 1.0,
        reduction: Literal["sum", "mean"] = "sum",
        temperature: float = 1.0,
        warm_up: float = 0.25,
        warm_up_shape: Literal["step", "ramp"] = "step",
        class_weights: Tensor | None = None,
    ) -> None:
        _require_one_of("variant", variant, VARIANTS)
        _require_one_of("exit_resolution", exit_resolution, ("exit", "label"))
        _require_one_of("reduction", reduction, ("sum", "mean"))
        _require_one_of("warm_up_shape", warm_up_shape, ("step", "ramp"))
        weights = (classification_weight, segmentation_weight, sr_f_weight, sr_l_weight)
        if any(not 0 <= weight < float("inf") for weight in weights):
            raise ValueError(f"weights must be finite and not negative, not {weights}")
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be positive, not {temperature}")
        if not 0 <= warm_up <= 1:
            raise ValueError(f"warm_up is a fraction of training in [0, 1], not {warm_up}")
        self.variant = variant
        self.ignore_index = ignore_index
        self.exit_resolution = exit_resolution
        self.classification_weight = classification_weight
        self.segmentation_weight = segmentation_weight
        self.sr_f_weight = sr_f_weight
        self.sr_l_weight = sr_l_weight
        self.reduction = reduction
        self.temperature = temperature
        self.warm_up = warm_up
        self.warm_up_shape = warm_up_shape
        self.class_weights = class_weights

    def regulation_weight(self, progress: float) -> float:
        """w(t) at training progress t in [0, 1]."""
        if self.warm_up_shape == "ramp" and self.warm_up > 0:
            return min(1.0, progress / self.warm_up)
        return 1.0 if progress >= self.warm_up else 0.0

    def __call__(
        self,
        outputs: ExitOutputs,
        labels: Tensor,
        progress: float,
        *,
        image_labels: Tensor | None = None,
        confidence: Tensor | None = None,
    ) -> LossTerms:
        """Compute the terms of one step.

        outputs: from `MultiExit`, or plain tensors in the same form. labels: (N, H, W) int64 in [0, K) or ignore_index.
        progress: training progress in [0, 1]. image_labels: (N, K) of 0 and 1, the true image-level tags (weak
        supervision); they take the place of the classes found in `labels`. confidence: (N, H, W) float, what each
        pixel counts in every pixel term.

        Raises ValueError for shapes that do not fit, labels out of range (checked on CPU only, where it needs no
        synchronisation), progress out of range and missing features.
        """
        self._check(outputs, labels, progress, image_labels, confidence)
        with torch.autocast(labels.device.type, enabled=False):
            return _Step(self, outputs, labels, progress, image_labels, confidence).terms()

    def _check(
        self,
        outputs: ExitOutputs,
        labels: Tensor,
        progress: float,
        image_labels: Tensor | None,
        confidence: Tensor | None,
    ) -> None:
        maps = outputs.class_maps
        if not maps or len(maps) != len(outputs.image_logits):
            raise ValueError(
                f"{len(maps)} class maps and {len(outputs.image_logits)} image logits: give one of each per exit"
            )
        batch, num_classes = maps[-1].shape[:2]
        for class_map, logits in zip(maps, outputs.image_logits, strict=True):
            if (
                class_map.ndim != 4
                or class_map.shape[:2] != (batch, num_classes)
                or logits.shape != (batch, num_classes)
            ):
                raise ValueError(
                    f"class map {tuple(class_map.shape)} and image logits {tuple(logits.shape)}: N, K must agree"
                )
        if labels.ndim != 3 or labels.shape[0] != batch or labels.dtype != torch.int64:
            raise ValueError(f"labels must be int64 ({batch}, H, W), not {labels.dtype} {tuple(labels.shape)}")
        if image_labels is not None and image_labels.shape != (batch, num_classes):
            raise ValueError(f"image_labels must be ({batch}, {num_classes}), not {tuple(image_labels.shape)}")
        if confidence is not None and confidence.shape != labels.shape:
            raise ValueError(
                f"confidence must have the labels' shape {tuple(labels.shape)}, not {tuple(confidence.shape)}"
            )
        if not 0 <= progress <= 1:
            raise ValueError(f"progress is a fraction of training in [0, 1], not {progress}")
        if self.class_weights is not None and self.class_weights.shape != (num_classes,):
            raise ValueError(f"class_weights must be ({num_classes},), not {tuple(self.class_weights.shape)}")
        if self.variant == "feature" and self.sr_f_weight > 0 and len(outputs.features) != len(maps):
            raise ValueError("variant 'feature' needs features of every exit: build MultiExit with features=True")
        if labels.device.type == "cpu":
            _check_range(labels, num_classes, self.ignore_index)


class _Step:
    """One step's tensors, and what its terms share: labels per grid, log-probabilities per exit."""

    def __init__(
        self,
        objective: SelfRegulation,
        outputs: ExitOutputs,
        labels: Tensor,
        progress: float,
        image_labels: Tensor | None,
        confidence: Tensor | None,
    ) -> None:
        self.objective = objective
        self.outputs = outputs
        self.labels = labels
        self.image_labels = image_labels
        self.confidence = confidence
        self.maps = [losses.full_precision(class_map) for class_map in outputs.class_maps]
        num_classes = self.maps[0].shape[1]
        weights = objective.class_weights
        self.class_weights = None if weights is None else weights.to(self.maps[0])
        self.cells = CellLabels(
            labels,
            num_classes,
            ignore_index=objective.ignore_index,
            confidence=confidence,
            class_weights=self.class_weights,
        )
        self.known = (labels != objective.ignore_index).flatten(1).any(dim=1)
        warm = objective.regulation_weight(progress)
        self.weights = {
            "segmentation": objective.segmentation_weight,
            "classification": objective.classification_weight,
            "sr_f": warm * objective.sr_f_weight,
            "sr_l": warm * objective.sr_l_weight,
        }
        if objective.exit_resolution == "label":
            self.maps = [losses.resize_logits(class_map, _grid(labels)) for class_map in self.maps]
        self.students = self._on_exit_grids()
        self._log_probabilities: dict[tuple[int, float], Tensor] = {}

    def terms(self) -> LossTerms:
        zero = self._keep_graph()
        # SR comes before the own output's segmentation term, so that autograd, which runs the latest first, is done
        # with that term's label-resolution tensors before SR asks for its own: the peak of memory stays the base's.
        computed: dict[str, Callable[[], Tensor]] = {
            "sr_l": self._sr_l,
            "sr_f": self._sr_f,
            "classification": self._classification,
            "segmentation": self._segmentation,
        }
        raw = {name: term() if self.weights[name] > 0 else zero.detach() for name, term in computed.items()}
        total = zero
        for name, weight in self.weights.items():
            if weight > 0:
                total = total + weight * raw[name]
        return LossTerms(**raw, total=total, weights=self.weights)

    # --- the four terms ---

    def _segmentation(self) -> Tensor:
        at_exits = [self._exit_segmentation(index) for index in range(len(self.maps) - 1)]
        return self._reduce([*at_exits, self._label_segmentation(self.maps[-1])])

    def _exit_segmentation(self, index: int) -> Tensor:
        if self.objective.exit_resolution == "label":
            return self._label_segmentation(self.maps[index])
        counts = self.cells.weighted_counts(_grid(self.maps[index]))
        return losses.cell_segmentation_loss(self._log_p(index, 1.0), counts)

    def _label_segmentation(self, class_map: Tensor) -> Tensor:
        return losses.segmentation_loss(
            class_map,
            self.labels,
            ignore_index=self.objective.ignore_index,
            class_weights=self.class_weights,
            confidence=self.confidence,
        )

    def _classification(self) -> Tensor:
        known = self.known
        presence = self.image_labels
        if presence is None:
            presence = class_presence(self.labels, self.maps[0].shape[1], ignore_index=self.objective.ignore_index)
        else:
            known = torch.ones_like(known)
        return self._reduce([losses.classification_loss(z, presence, known) for z in self.outputs.image_logits])

    def _sr_f(self) -> Tensor:
        students = range(1, len(self.maps))
        if self.objective.variant == "feature":
            return self._reduce([self._feature(index) for index in students])
        if self.objective.variant == "authors":
            teacher = self.students[0]
            valid = self.cells.valid(_grid(teacher)) / _pixels_per_cell(self.labels, teacher)
            return self._reduce([losses.hard_label_loss(self._log_p(index, 1.0), teacher, valid) for index in students])
        return self._distill(0, students)

    def _sr_l(self) -> Tensor:
        students = range(len(self.maps) - 1)
        if self.objective.variant == "authors":
            *student_logits, teacher = self.outputs.image_logits
            known = torch.ones_like(self.known) if self.image_labels is not None else self.known
            return self._reduce([losses.presence_distillation_loss(z, teacher, known) for z in student_logits])
        return self._distill(len(self.maps) - 1, students)

    def _distill(self, teacher_index: int, students: range) -> Tensor:
        temperature = self.objective.temperature
        with torch.no_grad():
            teacher = self._log_p(teacher_index, temperature).exp()
        return self._reduce([self._distill_one(index, teacher) for index in students])

    def _distill_one(self, index: int, teacher: Tensor) -> Tensor:
        temperature = self.objective.temperature
        student = self.students[index]
        size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
        if size == _grid(student):
            log_p = self._log_p(index, temperature)
        else:
            log_p = (losses.average_cells(student, size) / temperature).log_softmax(dim=1)
        with torch.no_grad():
            teacher = losses.average_cells(teacher, size)
            valid = self.cells.valid(size)
            weights = valid
            if self.objective.variant == "verified":
                weights = valid * losses.verified_gate(log_p, teacher, class_fractions(self.cells.counts(size)))
        return losses.distillation_loss(log_p, teacher, weights, valid) * temperature**2

    def _feature(self, index: int) -> Tensor:
        teacher, student = self.outputs.features[0], self.outputs.features[index]
        size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
        student = losses.average_cells(losses.full_precision(student), size)
        teacher = losses.average_cells(losses.full_precision(teacher).detach(), size)
        return losses.feature_loss(student, teacher, self.cells.valid(size))

    # --- shared ---

    def _on_exit_grids(self) -> list[Tensor]:
        """The class maps as SR compares them: the own output averaged to the finest exit's grid where it is finer."""
        if (
            self.objective.exit_resolution == "label"
            or len(self.maps) == 1
            or self.weights["sr_f"] + self.weights["sr_l"] == 0
        ):
            return self.maps
        finest = max((_grid(class_map) for class_map in self.maps[:-1]), key=lambda grid: grid[0] * grid[1])
        own = self.maps[-1]
        size = (min(own.shape[2], finest[0]), min(own.shape[3], finest[1]))
        return [*self.maps[:-1], losses.average_cells(own, size)]

    def _log_p(self, index: int, temperature: float) -> Tensor:
        key = (index, temperature)
        if key not in self._log_probabilities:
            with torch.enable_grad():
                logits = self.students[index]
                logits = logits if temperature == 1.0 else logits / temperature
                self._log_probabilities[key] = logits.log_softmax(dim=1)
        return self._log_probabilities[key]

    def _reduce(self, values: list[Tensor]) -> Tensor:
        if not values:
            return self.maps[-1].new_zeros(())
        total = torch.stack(values).sum()
        return total / len(values) if self.objective.reduction == "mean" else total

    def _keep_graph(self) -> Tensor:
        """A zero that depends on every output, so that each exit's parameters get a gradient whatever the weights.

        Sums over empty slices: no arithmetic, and no NaN from an infinite logit. Class maps reach the loss by their own
        terms, and are listed only where those are off.
        """
        kept = list(self.outputs.image_logits) + list(self.outputs.features)
        if self.weights["segmentation"] == 0:
            kept += self.outputs.class_maps
        return torch.stack([losses.full_precision(tensor[:0]).sum() for tensor in kept]).sum().to(self.maps[0].dtype)


def _grid(tensor: Tensor) -> tuple[int, int]:
    return tensor.shape[-2], tensor.shape[-1]


def _pixels_per_cell(labels: Tensor, class_map: Tensor) -> float:
    return labels.shape[1] * labels.shape[2] / (class_map.shape[2] * class_map.shape[3])


def _require_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")


def _check_range(labels: Tensor, num_classes: int, ignore_index: int) -> None:
    wrong = (labels != ignore_index) & ((labels < 0) | (labels >= num_classes))
    if bool(wrong.any()):
        value = int(labels[wrong][0])
        raise ValueError(f"label {value} is neither in 0..{num_classes - 1} nor ignore_index = {ignore_index}")
