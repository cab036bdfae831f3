import os
from concurrent.futures.process import BrokenProcessPool

import pytest

from selfreg.workers import map_in_processes


def double(number: int) -> int:
    return 2 * number


def double_or_die(number: int) -> int:
    if number in (3, 20):
        os._exit(9)
    return 2 * number


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_tasks(processes: int) -> None:
    assert list(map_in_processes(double, range(30), processes=processes)) == list(range(0, 60, 2))


def test_tasks_that_kill_their_process_are_named_and_the_others_done() -> None:
    results = list(map_in_processes(double_or_die, range(30), processes=2, died=lambda task: -task))
    assert results == [-number if number in (3, 20) else 2 * number for number in range(30)]


def test_a_process_that_dies_is_an_error_where_nobody_answers_for_it() -> None:
    with pytest.raises(BrokenProcessPool):
        list(map_in_processes(double_or_die, range(30), processes=2))


def test_an_error_of_the_work_is_raised() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(map_in_processes(int, ["1", "x"] * 10, processes=2))
