"""When to stop: intervals that stay valid although the results are looked at after each pair of trainings.

Looking repeatedly makes an ordinary interval too narrow: it gets several opportunities to exclude the truth by chance.
A group-sequential design spends the total error of 5 % over the looks. With few pairs the variance is as uncertain as
the mean, so the bounds are quantiles of Student's t instead of the normal ones of the textbook, and the error that each
look adds is determined by simulation.

Source: error spending of Lan & DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 1983, with the
power family of Kim & DeMets, Biometrika 1987. Student's t, the simulation and the share of a plan are this project's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from selfreg.evaluation.scores import Floats

TOTAL_ERROR = 0.05
"""Probability that at least one interval of a try, over all looks, excludes the truth."""

FIRST_LOOK = 3
"""The first look is after this many pairs, unless fewer fit: the t quantile of two pairs is too large to decide."""

MOST_PAIRS = 10
"""A try ends after this many pairs."""

_SHARE_OF_A_PLAN = 0.9
"""A budget may spend this share of the error that is left; the rest is for a larger budget later."""
_POWER = 3
"""Power of the spending function: looks far from the end of the plan spend little."""
_SIMULATIONS = 200_000
_KEPT_BACK = MOST_PAIRS / _SIMULATIONS
"""Error for looks that come when all else is spent: one simulated try each, the smallest that can be determined."""


@dataclass(frozen=True)
class Plan:
    """What one budget may spend.

    Attributes:
        first: Pairs that were there when the budget began.
        spent: Error that was spent then.
    """

    first: int = 0
    spent: float = 0.0

    def allowed(self, pairs: int, planned: int) -> float:
        """Error that may be spent by the look after `pairs` pairs if the budget suffices for `planned` pairs.

        `planned` may be estimated anew at each look, as long as the estimate does not depend on the results.
        """
        fraction = (pairs - self.first) / max(planned - self.first, 1)
        share = _SHARE_OF_A_PLAN * min(max(fraction, 0.0), 1.0) ** _POWER
        return self.spent + share * max(TOTAL_ERROR - _KEPT_BACK - self.spent, 0.0)


def error_of_look(previous: Mapping[int, float], pairs: int, allowed: float) -> float:
    """Error level of the interval at a look, so that all looks together have the error `allowed`.

    Args:
        previous: Error levels of the earlier looks, by their number of pairs.
        pairs: Pairs of trainings at this look, at least 2.
        allowed: Total error of the earlier looks and this one.

    Returns:
        1 - confidence of Student's t interval at this look, above 0.
    """
    earlier = tuple((number, level) for number, level in sorted(previous.items()) if number < pairs)
    # a second look at the same pairs cannot take back the first one
    return max(_level(earlier, pairs, round(allowed, 9)), previous.get(pairs, 0.0))


@lru_cache(maxsize=1024)
def _level(earlier: tuple[tuple[int, float], ...], pairs: int, allowed: float) -> float:
    crossed = _crossed(earlier)
    new = max(int(allowed * _SIMULATIONS) - int(crossed.sum()), 1)
    left = np.sort(_p_values(pairs)[~crossed])
    return float(left[new])


def spent_error(levels: Mapping[int, float]) -> float:
    """Total error of the looks with these error levels."""
    return float(_crossed(tuple(levels.items())).mean())


def _crossed(levels: tuple[tuple[int, float], ...]) -> NDArray[np.bool_]:
    """Which of the simulated tries have an interval that excludes the truth."""
    crossed = np.zeros(_SIMULATIONS, dtype=bool)
    for pairs, level in levels:
        crossed |= _p_values(pairs) < level
    return crossed


@lru_cache(maxsize=MOST_PAIRS)
def _p_values(pairs: int) -> Floats:
    """Two-sided p-values of the first `pairs` differences of each simulated try, whose true difference is 0."""
    found = _simulated()[:, :pairs]
    statistics = found.mean(1) / (found.std(1, ddof=1) / pairs**0.5)
    values: Floats = 2 * student.sf(np.abs(statistics), pairs - 1)
    return values


@lru_cache(maxsize=1)
def _simulated() -> Floats:
    return np.random.default_rng(0).standard_normal((_SIMULATIONS, MOST_PAIRS))
