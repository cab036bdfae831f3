"""Differences between two arms of a study, paired by seed and image, with Student's t intervals over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from selfreg.evaluation import Verdict, verdict_of
from selfreg.evaluation.bootstrap import percentile_interval
from selfreg.evaluation.scores import Floats


@dataclass(frozen=True)
class PairedDifference:
    """Difference of an arm and a control in one measure, in its unit: mean over `seeds`, and interval.

    The ends of the interval are NaN if it is not known; such a difference is not distinguishable from zero.
    """

    value: float
    low: float
    high: float
    seeds: tuple[int, ...]

    def verdict(self, higher_is_better: bool) -> Verdict:
        """ "better", "worse" or "not distinguishable" from zero."""
        return verdict_of(self.low, self.high, higher_is_better)


def paired_difference(
    arm: Mapping[int, Floats], control: Mapping[int, Floats], *, confidence: float | None = 0.95
) -> PairedDifference | None:
    """Compute the difference of two arms in one measure.

    Only seeds that both arms have are used: within a seed, both start from the same weights and see the same crops, and
    all are evaluated on the same resamples of the images. With S seeds and D the mean over seeds of the differences,
    the interval is

        D +- sqrt(t^2 * V_seeds + z^2 * V_images).

    V_seeds is the variance of the seeds' differences (n - 1) divided by S, V_images the variance of D over the
    resamples; t and z are quantiles (97.5 % for a confidence of 95 %) of Student's t with S - 1 degrees of freedom and
    of the normal distribution. The coverage is at least the confidence, whatever the share of each part. (One
    quantile with Satterthwaite's degrees of freedom covers too little if few seeds happen to agree: 87 % with two seeds
    and a tenth of the variance from images.) An interaction of seed and image contributes to both variances. With one
    seed only the images are resampled and the interval consists of percentiles; it does not cover another training.

    The simulated coverage is printed by `benchmarks/coverage.py`. A bootstrap over few seeds covers much less: 47 %
    with two seeds and 76 % with three if only the seeds differ.

    Source: Banerjee, "Approximate confidence interval for linear functions of means of k populations when the
    population variances are not equal", Sankhya 1960.

    Args:
        arm: Output of `resampled_scores` by seed.
        control: The same for the control.
        confidence: Confidence level in (0, 1); None for no interval.

    Returns:
        None if the arms have no seed in common, or the measure is not defined for any of them.
    """
    seeds = tuple(
        each for each in sorted(arm.keys() & control.keys()) if not np.isnan([arm[each][0], control[each][0]]).any()
    )
    if not seeds:
        return None
    differences = np.stack([arm[each] - control[each] for each in seeds])
    value = float(differences[:, 0].mean())
    if confidence is None:
        return PairedDifference(value, nan, nan, seeds)
    resampled = differences[:, 1:].mean(0)
    if len(seeds) == 1:
        low, high = (float(end) for end in percentile_interval(resampled, confidence))
        return PairedDifference(value, low, high, seeds)
    of_seeds = float(differences[:, 0].var(ddof=1)) / len(seeds)
    half = _half_width(of_seeds, _variance(resampled), len(seeds), confidence)
    return PairedDifference(value, value - half, value + half, seeds)


def _half_width(of_seeds: float, of_images: float, num_seeds: int, confidence: float) -> float:
    """Half the width of the interval from the two variances of the mean difference."""
    tail = (1 + confidence) / 2
    seeds, images = student.ppf(tail, num_seeds - 1) ** 2 * of_seeds, norm.ppf(tail) ** 2 * of_images
    return float((seeds + images) ** 0.5)


def _variance(resampled: Floats) -> float:
    known = resampled[~np.isnan(resampled)]
    return float(known.var(ddof=1)) if len(known) > 1 else 0.0


def coverage_of(num_seeds: int) -> str:
    """Describe what the intervals cover."""
    if num_seeds == 1:
        return "Intervals: 95 %, paired, images alone resampled 1,000 times; one seed cannot show how trainings differ."
    return (
        "Intervals: 95 %, paired, Student's t over seeds and images together (images resampled 1,000 times); "
        "with two or three seeds they are wide."
    )


def mean_and_spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean, and standard deviation (n - 1) of two values or more; None if there are too few values."""
    known: Any = np.array([value for value in values if value is not None and np.isfinite(value)])
    if len(known) == 0:
        return None, None
    return float(known.mean()), float(known.std(ddof=1)) if len(known) > 1 else None
