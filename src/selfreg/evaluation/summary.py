"""The measures of a data set from the counts of its images, with 95 % intervals and paired differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreg.evaluation.bootstrap import add_up, draw_resamples, percentile_interval, stack
from selfreg.evaluation.boundary import boundary_scores
from selfreg.evaluation.failures import OBJECT_SIZE_EDGES, failure_scores
from selfreg.evaluation.images import ImageResult
from selfreg.evaluation.measures import CLASS_MEASURES, MEASURES, Measure, verdict_of
from selfreg.evaluation.scores import Floats, pixel_scores

WITH_INTERVALS = (
    *MEASURES,
    "recall_by_size",
    *(key for key, measure in CLASS_MEASURES.items() if measure.headline),
)
"""Keys that `summarise` gives an interval for."""
RESAMPLED = (*MEASURES, "per_class_iou")
"""Keys that `resampled_scores` returns."""


def summarise(
    results: Sequence[ImageResult], class_names: Sequence[str] | None = None, *, bootstrap: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Compute all measures of a data set, ready for JSON.

    Args:
        results: One entry per image, all evaluated with the same options.
        class_names: K names; by default "0", "1", ...
        bootstrap: Number of resamples of the images for the intervals; 0 omits the intervals.
        seed: Seed of the resamples.

    Returns:
        Plain numbers and lists, None where a number is not defined. The keys of `MEASURES` come first. `intervals`
        maps names to 95 % intervals [low, high] and is empty for one image. Lists `per_class_...` follow `class_names`;
        `confusion_matrix` is (K, K + 1): rows are labels, columns predictions, the last column is void.

    Raises:
        ValueError: If there are no results, they were not evaluated with the same options, or the number of names is
            not K.
    """
    _check(results)
    num_classes = results[0].num_classes
    names = [str(index) for index in range(num_classes)] if class_names is None else list(class_names)
    if len(names) != num_classes:
        raise ValueError(f"{len(names)} class names for {num_classes} classes")
    scores = {name: values[0] for name, values in _scores_of_all(results).items()}
    intervals = {}
    if bootstrap and len(results) > 1:
        drawn = _scores(results, draw_resamples(len(results), bootstrap, seed))
        intervals = {name: np.stack(percentile_interval(drawn[name]), axis=-1) for name in WITH_INTERVALS}
    first = {name: scores.pop(name) for name in MEASURES}
    confusion = sum((result.confusion for result in results[1:]), start=results[0].confusion)
    summary = {
        **first,
        "num_images": len(results),
        "num_classes": num_classes,
        "class_names": names,
        "intervals": intervals,
        "size_edges": OBJECT_SIZE_EDGES,
        **scores,
        "confusion_matrix": confusion.toarray(),
    }
    return {name: to_plain(value) for name, value in summary.items()}


def resampled_scores(results: Sequence[ImageResult], *, bootstrap: int = 1000, seed: int = 0) -> dict[str, Floats]:
    """Compute every measure for all images and for resamples of them.

    Args:
        results: One entry per image, all evaluated with the same options.
        bootstrap: Number of resamples B.
        seed: Seed of the resamples. Runs on the same number of images with the same seed share the resamples.

    Returns:
        (1 + B,) for each key of `MEASURES`: the value for all images, then for each resample. `per_class_iou` is
        (1 + B, K).
    """
    whole, drawn = _scores_of_all(results), _scores(results, draw_resamples(len(results), bootstrap, seed))
    return {name: np.concatenate([whole[name], drawn[name]]).astype(np.float64) for name in RESAMPLED}


def paired_differences(
    results_a: Sequence[ImageResult], results_b: Sequence[ImageResult], *, bootstrap: int = 1000, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Compare B with A on the same images, in each measure that is defined for both.

    Args:
        results_a: One entry per image.
        results_b: The same images in the same order.
        bootstrap: Number of resamples of the images; A and B share each resample.
        seed: Seed of the resamples.

    Returns:
        For each key of `MEASURES`: `a`, `b`, `difference` (b - a), its 95 % interval `low`, `high`, `excludes_zero`,
        and `verdict`: "better", "worse" (of B) or "not distinguishable".

    Raises:
        ValueError: If the images differ, or there are fewer than two.
    """
    _check_pair(results_a, results_b)
    weights = draw_resamples(len(results_a), bootstrap, seed)
    whole = _scores_of_all(results_a), _scores_of_all(results_b)
    drawn = _scores(results_a, weights), _scores(results_b, weights)
    differences = {}
    for name, measure in MEASURES.items():
        a, b = whole[0][name][0], whole[1][name][0]
        if not np.isnan([a, b]).any():
            differences[name] = _difference(a, b, drawn[1][name] - drawn[0][name], measure)
    return differences


def paired_class_differences(
    results_a: Sequence[ImageResult], results_b: Sequence[ImageResult], *, bootstrap: int = 1000, seed: int = 0
) -> dict[str, list[dict[str, Any] | None]]:
    """Compare B with A class by class. Arguments and errors are those of `paired_differences`.

    Returns:
        For each headline of `CLASS_MEASURES` one entry per class as in `paired_differences`, None where the measure is
        not defined for both.
    """
    _check_pair(results_a, results_b)
    weights = draw_resamples(len(results_a), bootstrap, seed)
    whole = _scores_of_all(results_a), _scores_of_all(results_b)
    drawn = _scores(results_a, weights), _scores(results_b, weights)
    differences: dict[str, list[dict[str, Any] | None]] = {}
    for name, measure in CLASS_MEASURES.items():
        if measure.headline:
            change = drawn[1][name] - drawn[0][name]
            both = zip(whole[0][name][0], whole[1][name][0], strict=True)
            differences[name] = [
                None if np.isnan([a, b]).any() else _difference(a, b, change[:, index], measure)
                for index, (a, b) in enumerate(both)
            ]
    return differences


def _scores(results: Sequence[ImageResult], weights: NDArray[Any]) -> dict[str, Floats]:
    """Compute every score of the data set under each row of `weights` (B, N); arrays have shape (B, ...)."""
    return {
        **pixel_scores(add_up(stack([result.pixels for result in results]), weights)),
        **boundary_scores(add_up(stack([result.boundaries for result in results]), weights)),
        **failure_scores(add_up(stack([result.failures for result in results]), weights), results[0].background),
    }


def _scores_of_all(results: Sequence[ImageResult]) -> dict[str, Floats]:
    # integer weights keep integer counts
    return _scores(results, np.ones((1, len(results)), dtype=np.int64))


def _difference(a: Any, b: Any, drawn: Floats, measure: Measure) -> dict[str, Any]:
    low, high = (float(end) for end in percentile_interval(drawn))
    return {
        "a": to_plain(a),
        "b": to_plain(b),
        "difference": to_plain(b - a),
        "low": to_plain(low),
        "high": to_plain(high),
        "excludes_zero": low > 0 or high < 0,
        "verdict": verdict_of(low, high, measure.higher_is_better),
    }


def _check(results: Sequence[ImageResult]) -> None:
    if not results:
        raise ValueError("there are no evaluated images")
    if len({(result.num_classes, result.background) for result in results}) > 1:
        raise ValueError("images differ in num_classes or background; evaluate all of them with the same options")


def _check_pair(results_a: Sequence[ImageResult], results_b: Sequence[ImageResult]) -> None:
    _check([*results_a, *results_b])
    if len(results_a) != len(results_b):
        raise ValueError(f"A has {len(results_a)} images and B {len(results_b)}; compare them on the same images")
    for index, (a, b) in enumerate(zip(results_a, results_b, strict=True)):
        if not np.array_equal(a.pixels.labelled, b.pixels.labelled):
            raise ValueError(f"A and B have different labels for image {index}; give the same images in the same order")
    if len(results_a) < 2:
        raise ValueError("a single image gives no interval; compare on two or more images")


def to_plain(value: Any) -> Any:
    """Convert arrays and NumPy numbers to lists and Python numbers, and NaN to None, for JSON."""
    if isinstance(value, Mapping):
        return {name: to_plain(entry) for name, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [to_plain(entry) for entry in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
