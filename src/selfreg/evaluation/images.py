"""All metrics of one image, and of a data set out of those of its images, with their uncertainty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from selfreg.evaluation.bootstrap import add_up, draw_resamples, interval, stack
from selfreg.evaluation.boundary import BoundaryCounts, boundary_scores, count_boundaries
from selfreg.evaluation.failures import SIZE_EDGES, FailureCounts, count_failures, failure_scores
from selfreg.evaluation.instances import InstanceCounts, count_instances, instance_scores
from selfreg.evaluation.maps import compact, pair_counts
from selfreg.evaluation.scores import Floats, PixelCounts, pixel_scores
from selfreg.evaluation.units import DEFAULT_THRESHOLDS, Thresholds

HIGHER_IS_BETTER = {
    "miou": True,
    "boundary_iou": True,
    "missed_unit_rate": False,
    "partial_mislabel_rate": False,
    "pixel_accuracy": True,
    "mean_accuracy": True,
    "frequency_weighted_iou": True,
    "trimap_iou": True,
    "missed_small_object_rate": False,
    "missed_part_rate": False,
    "missed_unit_rate_low": False,
    "missed_small_object_rate_low": False,
    "missed_part_rate_low": False,
    "mislabelled_object_rate": False,
    "background_hole_rate": False,
    "whole_object_errors": False,
    "hallucinated_components": False,
    "iiou": True,
}
"""The headline numbers, in the order of reports, and whether more is better."""

WITH_INTERVALS = (
    *HIGHER_IS_BETTER,
    "recall_by_size",
    "per_class_iou",
    "per_class_missed_unit_rate",
    "per_class_partial_mislabel_rate",
)
"""What ``summarise`` gives an interval for."""


@dataclass(frozen=True, eq=False)
class ImageResult:
    """What one image adds to every metric: counts per class. Small, and fit to be sent between processes."""

    num_classes: int
    background: int | None
    confusion: csr_array
    """``(num_classes, num_classes + 1)`` int64: rows labels, columns predictions, the last one void."""
    pixels: PixelCounts
    boundaries: BoundaryCounts
    failures: FailureCounts
    instances: InstanceCounts | None = None
    """None where no instance map was given."""


def evaluate_image(
    prediction: Any,
    label: Any,
    num_classes: int,
    *,
    ignore_index: int = 255,
    background: int | None = None,
    instances: Any = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> ImageResult:
    """Count everything that the metrics need in one image.

    ``prediction`` and ``label`` are integer arrays ``(H, W)`` of 0..num_classes-1 or ``ignore_index``, at the label's
    own resolution; a void prediction is wrong. ``background`` names the class without objects, if there is one;
    ``instances`` ``(H, W)`` numbers objects from 1. Raises ValueError for maps that do not fit each other or hold
    anything else.
    """
    maps = compact(prediction, label, num_classes, ignore_index)
    failures = count_failures(maps, background, thresholds)
    confusion = pair_counts(maps.prediction, maps.label, num_classes)[:num_classes]
    return ImageResult(
        num_classes=num_classes,
        background=background,
        confusion=csr_array(confusion),
        pixels=PixelCounts(
            correct=np.diagonal(confusion).copy(),
            labelled=confusion.sum(1),
            predicted=confusion[:, :num_classes].sum(0),
        ),
        boundaries=count_boundaries(maps),
        failures=failures,
        instances=None if instances is None else count_instances(maps, np.asarray(instances)),
    )


def _scores(results: Sequence[ImageResult], weights: NDArray[Any]) -> dict[str, Floats]:
    """Every score of the data set under each row of ``weights`` ``(B, N)``: arrays ``(B, ...)``."""
    scores = {
        **pixel_scores(add_up(stack([result.pixels for result in results]), weights)),
        **boundary_scores(add_up(stack([result.boundaries for result in results]), weights)),
        **failure_scores(add_up(stack([result.failures for result in results]), weights), results[0].background),
    }
    instances = [result.instances for result in results if result.instances is not None]
    if instances:
        scores |= instance_scores(add_up(stack(instances), weights))
    return scores


def _check(results: Sequence[ImageResult]) -> None:
    if not results:
        raise ValueError("there are no evaluated images")
    if len({(result.num_classes, result.background, result.instances is None) for result in results}) > 1:
        raise ValueError("images differ in num_classes, background or instance maps; evaluate all of them alike")


def summarise(
    results: Sequence[ImageResult], class_names: Sequence[str] | None = None, *, bootstrap: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """All metrics of a data set, ready for JSON: plain numbers and lists, None where a number is not defined.

    The numbers of ``HIGHER_IS_BETTER`` lie at the top; ``intervals`` holds the 95 % interval ``[low, high]`` of each,
    of ``recall_by_size`` and of three per-class lists, from ``bootstrap`` resamples of the images (empty for one
    image); ``per_class_...`` are in the order of ``class_names``. Raises ValueError for no results or results not
    evaluated alike.
    """
    _check(results)
    num_classes = results[0].num_classes
    names = [str(index) for index in range(num_classes)] if class_names is None else list(class_names)
    if len(names) != num_classes:
        raise ValueError(f"{len(names)} class names for {num_classes} classes")
    scores = {name: values[0] for name, values in _scores(results, np.ones((1, len(results)), dtype=np.int64)).items()}
    intervals = {}
    if bootstrap and len(results) > 1:
        drawn = _scores(results, draw_resamples(len(results), bootstrap, seed))
        intervals = {name: np.stack(interval(drawn[name]), axis=-1) for name in WITH_INTERVALS if name in drawn}
    headline = {name: scores.pop(name) for name in HIGHER_IS_BETTER if name in scores}
    confusion = sum((result.confusion for result in results[1:]), start=results[0].confusion)
    summary = {
        **headline,
        "num_images": len(results),
        "num_classes": num_classes,
        "class_names": names,
        "intervals": intervals,
        "size_edges": SIZE_EDGES,
        **scores,
        "confusion_matrix": confusion.toarray(),
    }
    return {name: to_plain(value) for name, value in summary.items()}


def paired_differences(
    results_a: Sequence[ImageResult], results_b: Sequence[ImageResult], *, bootstrap: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """How B differs from A on the same images, for each number of ``HIGHER_IS_BETTER`` that is defined for both.

    Each entry holds ``a``, ``b``, ``difference`` (b - a), its 95 % interval ``low``, ``high``, ``excludes_zero`` and
    ``verdict``: "better", "worse" (of B) or "not distinguishable". Each resample draws the same images for both and
    takes the data-set metric of each. Raises ValueError unless both hold the same images in the same order, two at
    least.
    """
    _check([*results_a, *results_b])
    if len(results_a) != len(results_b):
        raise ValueError(f"A has {len(results_a)} images and B {len(results_b)}; compare them on the same images")
    for index, (a, b) in enumerate(zip(results_a, results_b, strict=True)):
        if not np.array_equal(a.pixels.labelled, b.pixels.labelled):
            raise ValueError(f"A and B have different labels for image {index}; give the same images in the same order")
    if len(results_a) < 2:
        raise ValueError("one image says nothing about uncertainty; compare on two or more")
    everything = np.ones((1, len(results_a)), dtype=np.int64)
    scores_a, scores_b = _scores(results_a, everything), _scores(results_b, everything)
    weights = draw_resamples(len(results_a), bootstrap, seed)
    drawn_a, drawn_b = _scores(results_a, weights), _scores(results_b, weights)
    differences = {}
    for name, higher_is_better in HIGHER_IS_BETTER.items():
        if name not in scores_a or np.isnan([scores_a[name][0], scores_b[name][0]]).any():
            continue
        low, high = (float(end) for end in interval(drawn_b[name] - drawn_a[name]))
        verdict = "not distinguishable"
        if low > 0 or high < 0:
            verdict = "better" if (low > 0) == higher_is_better else "worse"
        differences[name] = {
            "a": to_plain(scores_a[name][0]),
            "b": to_plain(scores_b[name][0]),
            "difference": to_plain(scores_b[name][0] - scores_a[name][0]),
            "low": to_plain(low),
            "high": to_plain(high),
            "excludes_zero": low > 0 or high < 0,
            "verdict": verdict,
        }
    return differences


def to_plain(value: Any) -> Any:
    """Turn arrays and NumPy numbers into lists and Python numbers, NaN into None, for JSON."""
    if isinstance(value, Mapping):
        return {name: to_plain(entry) for name, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [to_plain(entry) for entry in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
