"""Bootstrap of data-set metrics: resample the images, sum their counts, compute the metric from the sums."""

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from selfreg.evaluation.scores import Floats

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CountsT = TypeVar("CountsT", bound="DataclassInstance")
"""A dataclass whose fields are arrays of counts."""


def draw_resamples(num_images: int, resamples: int, seed: int) -> Floats:
    """Draw bootstrap resamples of the images.

    Args:
        num_images: Number of images N.
        resamples: Number of resamples B.
        seed: Seed of the random numbers.

    Returns:
        How often each resample contains each image, (B, N) float64; every row sums to N.

    Source: Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979.
    """
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_images, np.full(num_images, 1 / num_images), size=resamples).astype(np.float64)


def stack(counts: Sequence[CountsT]) -> CountsT:
    """Stack the counts of N images: fields of shape (...) become (N, ...)."""
    names = [field.name for field in fields(counts[0])]
    return type(counts[0])(*(np.stack([getattr(count, name) for count in counts]) for name in names))


def add_up(images: CountsT, weights: NDArray[Any]) -> CountsT:
    """Sum the counts of images with weights.

    Args:
        images: Stacked counts, fields of shape (N, ...).
        weights: Weight of each image in each of B sums, (B, N); integer weights keep integer counts.

    Returns:
        Counts with fields of shape (B, ...).
    """
    sums = []
    for field in fields(images):
        values = np.asarray(getattr(images, field.name))
        sums.append((weights @ values.reshape(len(values), -1)).reshape(len(weights), *values.shape[1:]))
    return type(images)(*sums)


def percentile_interval(values: Floats, confidence: float = 0.95) -> tuple[NDArray[Any], NDArray[Any]]:
    """Percentile interval over the first axis, ignoring NaN.

    Args:
        values: Resampled values, (B, ...).
        confidence: Confidence level in (0, 1).

    Returns:
        Lower and upper ends, each (...); NaN where all values are NaN.
    """
    tail = 100 * (1 - confidence) / 2
    known = ~np.isnan(values).all(0)
    filled = np.where(known, values, 0.0)
    low, high = np.nanpercentile(filled, [tail, 100 - tail], axis=0)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)
