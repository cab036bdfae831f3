"""Scores of the stages against true masks, which no stage reads; without true masks there are none."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from selfreg.config import Config
from selfreg.data import Source
from selfreg.evaluation.maps import compact, pair_counts
from selfreg.evaluation.scores import divide, intersection_over_union, mean_over_classes
from selfreg.opening import open_split
from selfreg.terminal import progress_over
from selfreg.weak.refine import ReadScores
from selfreg.weak.scores import VOID

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 13))

MaskOf = Callable[[int], NDArray[np.uint8]]


@dataclass(frozen=True)
class StageScore:
    """Comparison of one stage's masks with the true ones; all values in [0, 1], NaN where undefined.

    Attributes:
        miou: Mean IoU over the pixels that the stage labels.
        coverage: Share of the truly labelled pixels that the stage labels.
        miou_of_all: Mean IoU where every pixel that the stage leaves void counts as missed.
        per_class_iou: IoU of each class, over the pixels that the stage labels.
    """

    miou: float
    coverage: float
    miou_of_all: float
    per_class_iou: list[float]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data; undefined numbers are None."""
        fields = asdict(self)
        fields["per_class_iou"] = [_defined(value) for value in self.per_class_iou]
        return {name: value if isinstance(value, list) else _defined(value) for name, value in fields.items()}


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value


def open_scoring_source(config: Config) -> Source | str:
    """Open the training split with its true masks, or return the reason why there are none."""
    if config.data.options.get("tags_only"):
        return "data.options.tags_only is set"
    try:
        return open_split(config, config.data.train_split)
    except ValueError as error:
        return str(error)


def count_pairs(source: Source, mask_of: MaskOf, description: str) -> NDArray[np.int64]:
    """Count pixels by true class (row) and mask (column): (K, K + 1) int64; the last column is void in the mask."""
    num_classes = source.labels.num_classes
    counts = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    for index in progress_over(range(len(source)), description):
        counts += _pairs(mask_of(index), source.read(index).mask, num_classes)
    return counts[:num_classes]


def _pairs(mask: NDArray[np.uint8], truth: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    maps = compact(mask, truth, num_classes, VOID)
    return pair_counts(maps.prediction, maps.label, num_classes)


def score_of(counts: NDArray[np.int64]) -> StageScore:
    """Compute the score of counted pixels (see `count_pairs`)."""
    labelled = counts[:, :-1]
    correct = np.diag(labelled)
    predicted = labelled.sum(axis=0)
    iou = intersection_over_union(correct, labelled.sum(axis=1), predicted)
    of_all = intersection_over_union(correct, counts.sum(axis=1), predicted)
    return StageScore(
        float(mean_over_classes(iou)),
        float(divide(labelled.sum(), counts.sum())),
        float(mean_over_classes(of_all)),
        iou.tolist(),
    )


def sweep_thresholds(
    source: Source,
    activation: ReadScores,
    background: int,
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[float, StageScore]:
    """Score the activation maps at several background thresholds in one pass over the images."""
    num_classes = source.labels.num_classes
    counts = {threshold: np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64) for threshold in thresholds}
    for index in progress_over(range(len(source)), "sweeping"):
        truth = source.read(index).mask
        classes, values = activation(index)
        best = np.zeros(truth.shape, dtype=np.float32)
        named = np.full(truth.shape, background, dtype=np.uint8)
        if classes:
            whole = interpolate(values[None], size=truth.shape, mode="bilinear", align_corners=False)[0]
            best = whole.amax(dim=0).numpy()
            named = np.asarray(classes, dtype=np.uint8)[whole.argmax(dim=0).numpy()]
        for threshold in thresholds:
            mask = np.where(best > threshold, named, np.uint8(background))
            counts[threshold] += _pairs(mask, truth, num_classes)
    return {threshold: score_of(count[:num_classes]) for threshold, count in counts.items()}
