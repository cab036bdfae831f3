"""What is measured before trainings are planned."""

import pytest

from selfreg.trial import measuring
from selfreg.trial.facts import Cost, DataFacts, Device, NetworkChoice, Times
from trial.test_rules import FACTS, NETWORK

Measured = list[tuple[int, list[int]]]


def measure_on(monkeypatch: pytest.MonkeyPatch, largest: dict[int, int]) -> Measured:
    """Measure on a machine that slows down above 192 pixels; `largest` has the largest size for each batch size.

    Returns:
        What will be measured: the images per step and the sizes.
    """
    measured: Measured = []

    def measure(_f: DataFacts, _n: NetworkChoice, device: Device, sides: list[int]) -> Cost:
        measured.append((device.batch_size, sides))
        if max(sides) > largest[device.batch_size]:
            raise MemoryError
        steps = [0.3 * side / 160 if side <= 192 else 3.0 * (side / 360) ** 2 for side in sides]
        return Cost(4.0, 0.05, tuple(Times(side, step, step, 0.1) for side, step in zip(sides, steps, strict=True)))

    monkeypatch.setattr(measuring, "_measure", measure)
    return measured


def test_the_chosen_input_size_is_a_measured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = measure_on(monkeypatch, {8: 512})
    schedule, cost, _ = measuring.plan_trainings(FACTS, NETWORK, lambda: 1200.0)
    # by the two small sizes, a larger one fits as well
    (_, first), (_, [larger]), *_ = measured
    assert first == [160, 192]
    assert cost.is_measured(schedule.short_side)
    assert schedule.short_side < larger
    assert 3 * cost.pair(FACTS, schedule.short_side, schedule.steps) < 1200
    sides = [each.short_side for each in cost.times]
    assert sides == sorted({side for _, each in measured for side in each})


def test_a_size_that_memory_does_not_hold_is_measured_with_a_smaller_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = measure_on(monkeypatch, {8: 192, 4: 512})
    schedule, cost, device = measuring.plan_trainings(FACTS, NETWORK, lambda: 36000.0)
    assert device.batch_size == 4
    assert cost.is_measured(schedule.short_side)
    # nothing that was measured with the larger batch is kept
    assert {each.short_side for each in cost.times} == {side for batch, each in measured if batch == 4 for side in each}


def test_a_machine_for_less_than_two_images_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    measure_on(monkeypatch, {8: 192, 4: 100, 2: 100})
    with pytest.raises(MemoryError, match="not even two images fit into the memory of"):
        measuring.plan_trainings(FACTS, NETWORK, lambda: 36000.0)
