"""The training objective: multi-exit loss, local presence and both self-regulation losses, weighted and warmed up."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from selfreg.regulation import losses
from selfreg.regulation.options import MethodOptions
from selfreg.regulation.outputs import ExitOutputs
from selfreg.regulation.step import Step

TERMS = ("segmentation", "classification", "local_presence", "sr_f", "sr_l")


@dataclass(frozen=True)
class LossTerms:
    """The terms of one step: scalars after the reduction over exits, and the weighted total.

    A term whose weight is 0 (also during the warm-up) is not computed and is 0.

    Attributes:
        segmentation: Pixel-wise part of the multi-exit loss.
        classification: Image-level part of the multi-exit loss.
        local_presence: Which classes occur in each window.
        sr_f: Shallow teaches deep.
        sr_l: Deep teaches shallow.
        total: b * segmentation + a * classification + w(t) * (l_P * local_presence + l_F * sr_f + l_L * sr_l).
        weights: Factor of each term in the total, w(t) included.
        per_exit: The values of each computed term before the reduction, shape (exits,), detached, shallow to deep: all
            N exits, but for sr_f, which has no value for exit 1 (the teacher), and sr_l, which has none for exit N.
    """

    segmentation: Tensor
    classification: Tensor
    local_presence: Tensor
    sr_f: Tensor
    sr_l: Tensor
    total: Tensor
    weights: dict[str, float] = field(default_factory=dict)
    per_exit: dict[str, Tensor] = field(default_factory=dict)

    def raw(self) -> dict[str, Tensor]:
        """The unweighted terms by name, total left out."""
        return {name: getattr(self, name) for name in TERMS}

    def weighted(self) -> dict[str, Tensor]:
        """The terms as they enter the total, by name; their sum is the total."""
        return {name: value * self.weights[name] for name, value in self.raw().items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class SelfRegulation(MethodOptions):
    """The whole objective of self-regulation.

    L = sum_i [a BCE(z_i, p(y)) + b CE(F_i, y)]
        + w(t) (l_F sum_{i>=2} D_F(F_i <- sg[F_1]) + l_L sum_{i<N} D_L(F_i <- sg[F_N]) + l_P sum_i D_P(F_i, y))

    D_P is `local_presence_loss`, this project's addition: which classes occur in each window. With
    `local_presence_weight=0` the rest is the paper's objective. D_F and D_L each have one teacher, which is detached.
    The variants differ in D_F and D_L:

    - `authors`: D_F is the cross-entropy against the hard decisions of F_1; D_L the binary cross-entropy of z_i against
      sigmoid(z_N) (the authors' demonstration code).
    - `distill`: T^2 KL(softmax(F_teacher / T) || softmax(F_i / T)) per valid pixel, in both directions (what the paper
      most likely does).
    - `feature`: D_F is the distance of normalised stage features and needs `MultiExit(features=True)`; D_L as in
      `distill`.
    - `verified` (this project's): as `distill`, but only in cells where the teacher is right and gives the ground truth
      more likelihood than the student does (`verified_gate`). The sum over these cells is still divided by all valid
      pixels n: L = (1 / n) sum_i sum_u n(u) g_i(u) T^2 KL(q(u) || p_i(u)).

    With `exit_resolution="exit"` the losses of an exit are taken on its own grid, against class fractions; a teacher's
    probabilities are averaged over the student's cells, and the network's own output takes part in SR no finer than the
    finest exit. With `"label"` all class maps are upsampled to label resolution, as in the authors' code. The
    segmentation term of the network's own output is at label resolution in both cases.

    Args:
        variant: One of the four above; the only positional argument. All other options are those of `MethodOptions`.
        ignore_index: Label that counts as no class.
        class_weights: Weights of the classes in the segmentation term, shape (K,), or None.
        own_loss: Loss of the network's own output in place of cross-entropy (Dice, OHEM, focal, ...), or None. It is
            called with logits (N, K, H, W) float32 at label resolution and labels (N, H, W), and with `confidence=` too
            where the step has one, and gives a scalar; it has to leave out void and to weight classes itself. The exits
            keep cross-entropy.

    Raises:
        ValueError: If an option is unknown or out of range.

    Examples:
        >>> import selfreg, torch
        >>> network = selfreg.build_network("timm:resnet10t", num_classes=3)
        >>> model = selfreg.MultiExit(network, num_classes=3).train()
        >>> objective = selfreg.SelfRegulation(ignore_index=255, local_presence_weight=0.0)
        >>> images, masks = torch.randn(2, 3, 64, 96), torch.randint(3, (2, 64, 96))
        >>> terms = objective(model(images), masks, progress=0.5)
        >>> terms.total.backward()
        >>> [name for name, value in terms.weighted().items() if value > 0]
        ['segmentation', 'classification', 'sr_f', 'sr_l']

    Source: the paper, except for D_P and `verified`.
    """

    ignore_index: int = 255
    class_weights: Tensor | None = None
    own_loss: Callable[..., Tensor] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.class_weights is not None and not isinstance(self.class_weights, Tensor):
            kind = type(self.class_weights).__name__
            raise ValueError(f"class_weights must be a tensor (K,), not a {kind}: torch.tensor([1.0, 2.0, ...])")
        if self.class_weights is not None and self.class_weights.device.type != "meta":
            _check_weights(self.class_weights, "class_weights")

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
        device = labels.device.type
        # the device `meta`, on which a step can be tried without memory or data, has no autocast
        with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
            return self._terms(outputs, labels, progress, image_labels, confidence)

    def _terms(
        self,
        outputs: ExitOutputs,
        labels: Tensor,
        progress: float,
        image_labels: Tensor | None,
        confidence: Tensor | None,
    ) -> LossTerms:
        warm = self.regulation_weight(progress)
        weights = {
            "segmentation": self.segmentation_weight,
            "classification": self.classification_weight,
            "local_presence": warm * self.local_presence_weight,
            "sr_f": warm * self.sr_f_weight,
            "sr_l": warm * self.sr_l_weight,
        }
        step = Step(
            self,
            outputs,
            labels,
            ignore_index=self.ignore_index,
            class_weights=self.class_weights,
            own_loss=self.own_loss,
            image_labels=image_labels,
            confidence=confidence,
        )
        # Segmentation last: autograd runs the latest first, so that the own output's label-resolution tensors are gone
        # before self-regulation asks for its own, and the peak of memory stays that of the plain network.
        computed = {
            "sr_l": step.sr_l,
            "sr_f": step.sr_f,
            "local_presence": step.local_presence,
            "classification": step.classification,
            "segmentation": step.segmentation,
        }
        total = _keep_graph(outputs, classified=weights["classification"] > 0)
        raw = {name: torch.zeros_like(total) for name in TERMS}
        per_exit: dict[str, Tensor] = {}
        for name, term in computed.items():
            if weights[name] > 0:
                values = term()
                raw[name] = values.mean() if self.reduction == "mean" and len(values) else values.sum()
                per_exit[name] = values.detach()
        for name, weight in weights.items():
            if weight > 0:
                total = total.add(raw[name], alpha=weight)
        return LossTerms(**raw, total=total, weights=weights, per_exit=per_exit)

    def _check(
        self,
        outputs: ExitOutputs,
        labels: Tensor,
        progress: float,
        image_labels: Tensor | None,
        confidence: Tensor | None,
    ) -> None:
        if not isinstance(outputs, ExitOutputs):
            kind = type(outputs).__name__
            raise ValueError(f"the objective takes ExitOutputs, not a {kind}: is the model in eval mode?")
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
        # a read of values would split the compiled objective
        if confidence is not None and confidence.device.type == "cpu" and not torch.compiler.is_compiling():
            _check_weights(confidence, "confidence")


def _keep_graph(outputs: ExitOutputs, *, classified: bool) -> Tensor:
    """A zero that depends on every output, so that each exit's parameters get a gradient whatever the weights.

    Image logits lie behind every parameter of an exit but the projection of features; where they are classified they
    have a gradient already. Sums over empty slices: no arithmetic on any map, and no NaN from an infinite logit.
    """
    zero = torch.zeros_like(losses.full_precision(outputs.image_logits[0][0, 0]))
    for tensor in outputs.features if classified else (*outputs.image_logits, *outputs.features):
        zero = zero + losses.full_precision(tensor[:0]).sum()
    return zero


def _check_weights(weights: Tensor, name: str) -> None:
    if not bool(((weights >= 0) & (weights < math.inf)).all()):
        lowest, highest = float(weights.min()), float(weights.max())
        raise ValueError(f"{name} must be finite and not negative, not {lowest:g} to {highest:g}")


def _check_range(labels: Tensor, num_classes: int, ignore_index: int) -> None:
    lowest, highest = torch.aminmax(labels.masked_fill(labels == ignore_index, 0))
    if lowest < 0 or highest >= num_classes:
        value = int(lowest if lowest < 0 else highest)
        raise ValueError(f"label {value} is neither in 0..{num_classes - 1} nor ignore_index = {ignore_index}")
