"""Uncertainty of data-set metrics: images are drawn anew, their counts added up, and the metric taken of the sums."""

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
    """How often each image is drawn in each resample: `(resamples, num_images)`, rows sum to `num_images`."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_images, np.full(num_images, 1 / num_images), size=resamples).astype(np.float64)


def stack(counts: Sequence[CountsT]) -> CountsT:
    """One set of counts out of those of N images: fields `(...)` become `(N, ...)`."""
    names = [field.name for field in fields(counts[0])]
    return type(counts[0])(*(np.stack([getattr(count, name) for count in counts]) for name in names))


def add_up(images: CountsT, weights: NDArray[Any]) -> CountsT:
    """Weighted sums over images: fields `(N, ...)` and `weights` `(B, N)` give `(B, ...)`.

    Each field is one matrix product; whole weights keep counts whole.
    """
    sums = []
    for field in fields(images):
        values = np.asarray(getattr(images, field.name))
        sums.append((weights @ values.reshape(len(values), -1)).reshape(len(weights), *values.shape[1:]))
    return type(images)(*sums)


def percentile_interval(values: Floats, confidence: float = 0.95) -> tuple[NDArray[Any], NDArray[Any]]:
    """Percentile interval over the first axis, NaN left out: lower and upper ends, NaN where all is NaN."""
    tail = 100 * (1 - confidence) / 2
    known = ~np.isnan(values).all(0)
    filled = np.where(known, values, 0.0)
    low, high = np.nanpercentile(filled, [tail, 100 - tail], axis=0)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)
