"""The order of trainings, the budget and the end of a try, with trainings that are numbers."""

import json
from functools import partial

import numpy as np
import pytest
from pydantic import TypeAdapter

from selfreg.trial.sequence import Progress, judge
from trial.fakes import FakeTrainings, conduct_fakes

BASE = {0: 0.500, 1: 0.504, 2: 0.498, 3: 0.501, 4: 0.503, 5: 0.499, 6: 0.502, 7: 0.500, 8: 0.501, 9: 0.498}


def shifted(by: float, jitter: float = 0.0) -> FakeTrainings:
    """`full` differs from `base` by a constant, and by an alternating jitter."""
    return FakeTrainings(
        lambda arm, seed: BASE[seed] + (arm == "full") * (by + jitter * (-1) ** seed * (1 + seed / 10))
    )


@pytest.mark.parametrize(("by", "finding"), [(0.05, "helps"), (-0.05, "harms")])
def test_a_clear_difference_ends_the_try_before_the_budget(by: float, finding: str) -> None:
    trainings = shifted(by, jitter=0.0005)
    progress, told = conduct_fakes(trainings, 2000)
    assert progress.finding == finding
    assert progress.pairs == 3
    assert trainings.clock.now < 700
    assert "enough is known" in told[-1]


def test_a_difference_that_is_surely_small_ends_the_try_too() -> None:
    progress, _ = conduct_fakes(shifted(0.001, jitter=0.0005), 2000)
    assert progress.finding == "makes no difference that matters"


def test_an_open_question_uses_the_budget_and_does_not_exceed_it() -> None:
    trainings = shifted(0.01, jitter=0.04)
    progress, told = conduct_fakes(trainings, 1250)
    assert progress.finding == "cannot be told"
    assert progress.pairs == 6
    assert trainings.clock.now <= 1250
    assert max(progress.levels) == 6
    assert any("not decided" in line for line in told)


def test_looks_begin_at_the_third_pair_unless_only_two_fit() -> None:
    assert sorted(conduct_fakes(shifted(0.01, 0.04), 1250)[0].levels) == [3, 4, 5, 6]
    assert sorted(conduct_fakes(shifted(0.01, 0.04), 450)[0].levels) == [2]
    assert conduct_fakes(shifted(0.01, 0.04), 250)[0].levels == {}


def test_the_better_candidate_of_the_first_seed_is_the_base_and_the_other_is_not_trained_again() -> None:
    trainings = FakeTrainings(lambda arm, seed: BASE[seed] + (arm == "balanced") * 0.02)
    progress, _ = conduct_fakes(trainings, 850, candidates=("base", "balanced"))
    assert progress.base == "balanced"
    assert trainings.trained[:3] == [("base", 0), ("balanced", 0), ("full", 0)]
    assert {arm for arm, seed in trainings.trained if seed} == {"balanced", "full"}


def test_a_larger_budget_continues_with_further_seeds_and_wider_intervals() -> None:
    trainings = shifted(0.01, 0.04)
    first, _ = conduct_fakes(trainings, 650)
    assert first.pairs == 3
    before = dict(first.levels)
    restored = TypeAdapter(Progress).validate_json(json.dumps(first.to_json()))
    restored.begin_budget()
    last, _ = conduct_fakes(trainings, 1250, restored)
    assert last.pairs == 6
    assert {pairs: last.levels[pairs] for pairs in before} == before
    assert len(trainings.trained) == 12


def test_nothing_is_trained_once_the_answer_is_known() -> None:
    trainings = shifted(0.05, jitter=0.0005)
    progress, _ = conduct_fakes(trainings, 2000)
    number = len(trainings.trained)
    conduct_fakes(trainings, 4000, progress)
    assert len(trainings.trained) == number


def test_a_pair_of_which_a_part_is_there_needs_only_the_rest_of_the_time() -> None:
    trainings = shifted(0.01, 0.04)
    progress, _ = conduct_fakes(trainings, 450)
    trainings.trained.append(("base", progress.pairs))
    progress, _ = conduct_fakes(trainings, trainings.clock.now + 120, progress)
    assert progress.pairs == 3


def test_verdicts_over_simulated_tries_are_wrong_in_at_most_5_percent() -> None:
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        noise = {arm: generator.normal(0.5, 0.02, 10) for arm in ("base", "balanced", "full")}
        trainings = FakeTrainings(partial(lambda noise, arm, seed: noise[arm][seed], noise))
        progress, _ = conduct_fakes(trainings, 1300, candidates=("base",))
        wrong += progress.finding in ("helps", "harms")
    assert wrong <= 10


def test_an_interval_is_judged_by_where_it_lies() -> None:
    assert judge(0.001, 0.05) == "helps"
    assert judge(-0.05, -0.001) == "harms"
    assert judge(-0.004, 0.009) == "makes no difference that matters"
    assert judge(-0.004, 0.011) == "cannot be told"


def test_a_pair_that_an_earlier_command_has_half_trained_does_not_count_as_a_quick_one() -> None:
    trainings = FakeTrainings(lambda _, seed: 0.5 + 0.1 * seed, trained=[("base", 0), ("full", 0), ("base", 1)])
    progress, _ = conduct_fakes(trainings, 150, Progress(base="base", pairs=1, pair_seconds=[200.0]))
    assert (progress.pairs, progress.pair_seconds) == (2, [200.0])
