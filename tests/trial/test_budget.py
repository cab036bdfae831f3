"""Times as arguments, and the clock of a try."""

import time

import pytest

from selfreg.trial.budget import Budget, OutOfTime, budget_text, parse_budget
from trial.fakes import Clock


def test_a_budget_is_a_number_with_a_unit() -> None:
    assert [parse_budget(text) for text in ("90s", "30m", "2h", "1h30m", "0.5h")] == [90, 1800, 7200, 5400, 1800]


@pytest.mark.parametrize("text", ["", "30", "m", "-3m", "0m", "3 m", "30min", "inf", "nan", "1e9h", "٣m"])
def test_anything_else_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="--budget"):
        parse_budget(text)


def test_a_written_budget_can_be_read_again() -> None:
    for seconds in (1, 61, 125, 3601, 80_000):
        assert parse_budget(budget_text(seconds)) >= seconds


def test_the_time_of_earlier_commands_counts() -> None:
    clock = Clock()
    budget = Budget(100, spent=70, clock=clock)
    clock.now = 20
    assert (budget.spent, budget.left, budget.text) == (90, 10, "0:10")
    clock.now = 200
    assert budget.text == "0:00"


def test_work_is_ended_when_the_tolerance_is_used_up() -> None:
    with pytest.raises(OutOfTime), Budget(0.1).enforced(reserve=0.0):
        time.sleep(5)
    with Budget(60).enforced(reserve=0.0):
        pass
