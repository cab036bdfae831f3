"""Intervals that are looked at repeatedly: the total error, by an independent simulation."""

import numpy as np
import pytest
import scipy.stats

from selfreg.trial.looks import TOTAL_ERROR, Plan, error_of_look, spent_error


def plan_looks(planned: int, plan: Plan, before: dict[int, float] | None = None) -> dict[int, float]:
    levels = dict(before or {})
    for pairs in range(max(plan.first + 1, 3), planned + 1):
        levels[pairs] = error_of_look(levels, pairs, plan.allowed(pairs, planned))
    return levels


def test_the_first_look_alone_has_the_level_that_it_may_spend() -> None:
    assert error_of_look({}, 3, 0.03) == pytest.approx(0.03, abs=0.002)


@pytest.mark.parametrize("planned", [3, 5, 10])
def test_all_looks_together_exclude_the_truth_in_at_most_5_percent_of_tries(planned: int) -> None:
    levels = plan_looks(planned, Plan())
    draws = np.random.default_rng(7).standard_normal((20_000, planned))
    wrong = np.zeros(len(draws), dtype=bool)
    for pairs, level in levels.items():
        wrong |= scipy.stats.ttest_1samp(draws[:, :pairs], 0, axis=1).pvalue < level
    assert 0.035 < wrong.mean() < TOTAL_ERROR


def test_a_larger_budget_spends_only_what_the_first_one_left() -> None:
    first = plan_looks(3, Plan())
    both = plan_looks(6, Plan(first=3, spent=spent_error(first)), first)
    assert both[3] == first[3]
    assert spent_error(first) < spent_error(both) < TOTAL_ERROR
    assert both[6] > 0


def test_looks_without_a_test_of_the_last_pairs_would_be_wrong_too_often() -> None:
    draws = np.random.default_rng(1).standard_normal((20_000, 10))
    wrong = np.zeros(len(draws), dtype=bool)
    for pairs in range(3, 11):
        wrong |= scipy.stats.ttest_1samp(draws[:, :pairs], 0, axis=1).pvalue < 0.05
    assert wrong.mean() > 2 * TOTAL_ERROR


def test_a_second_look_at_the_same_pairs_never_narrows_what_was_excluded() -> None:
    levels = {3: error_of_look({}, 3, 0.01)}
    again = error_of_look(levels, 3, 0.03)
    assert again == pytest.approx(0.03, abs=0.002)
    assert error_of_look({3: again}, 3, 0.01) == again


def test_budgets_that_grow_in_small_steps_never_exhaust_the_error() -> None:
    levels: dict[int, float] = {}
    for pairs in range(2, 11):
        plan = Plan(first=pairs - 1, spent=spent_error(levels) if levels else 0.0)
        levels[pairs] = error_of_look(levels, pairs, plan.allowed(pairs, pairs))
    assert min(levels.values()) > 0
    assert spent_error(levels) < TOTAL_ERROR
