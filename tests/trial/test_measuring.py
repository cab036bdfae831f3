"""What is measured before trainings are planned."""

from dataclasses import replace

import pytest

from selfreg.trial import measuring
from selfreg.trial.facts import Cost, DataFacts, Device, NetworkChoice, Times
from trial.test_rules import COST, FACTS, NETWORK


def test_the_chosen_input_size_is_a_measured_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # by the two small sizes, a step of 360 pixels takes 0.7 s; in truth it takes 3 s
    small = (Times(160, 0.3, 0.35, 0.08), Times(192, 0.35, 0.4, 0.09))
    measured: list[int] = []

    def measure_size(_f: DataFacts, _n: NetworkChoice, device: Device, cost: Cost, side: int) -> tuple[Cost, Device]:
        measured.append(side)
        slow = 3.0 * (side / 360) ** 2
        times = sorted([*cost.times, Times(side, slow, slow, 0.1)], key=lambda each: each.short_side)
        return replace(cost, times=tuple(times)), device

    monkeypatch.setattr(measuring, "measure_cost", lambda *_: (replace(COST, times=small), Device("CPU")))
    monkeypatch.setattr(measuring, "measure_size", measure_size)
    schedule, cost, _ = measuring.plan_trainings(FACTS, NETWORK, lambda: 1200.0)
    assert measured
    assert cost.is_measured(schedule.short_side)
    assert schedule.short_side < measured[0]
    assert 3 * cost.pair(FACTS, schedule.short_side, schedule.steps) < 1200
