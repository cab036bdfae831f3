"""Trainings that are numbers, and a clock that only they advance."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from selfreg.evaluation.scores import Floats
from selfreg.trial.budget import Budget
from selfreg.trial.sequence import Progress, conduct


class Clock:
    """A clock in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeTrainings:
    """Trainings that take `seconds` each and have the mIoU that `miou(arm, seed)` says."""

    miou: Callable[[str, int], float]
    clock: Clock = field(default_factory=Clock)
    seconds: float = 100.0
    trained: list[tuple[str, int]] = field(default_factory=list)

    def finished(self, arm: str, seed: int) -> bool:
        return (arm, seed) in self.trained

    def train(self, arm: str, seed: int) -> None:
        if not self.finished(arm, seed):
            self.clock.now += self.seconds
            self.trained.append((arm, seed))

    def scores(self, arm: str, seed: int) -> Mapping[str, Floats]:
        return {"miou": np.full(3, self.miou(arm, seed))}


def conduct_fakes(
    trainings: FakeTrainings,
    seconds: float,
    progress: Progress | None = None,
    candidates: tuple[str, ...] = ("base",),
) -> tuple[Progress, list[str]]:
    """Conduct a try with fake trainings in a budget; return where it stopped and what it told."""
    progress, told = progress or Progress(), list[str]()
    budget = Budget(seconds, clock=trainings.clock, spent=trainings.clock.now)
    conduct(
        trainings,
        budget,
        progress,
        candidates=candidates,
        expected_pair=2 * trainings.seconds,
        reserve=10.0,
        keep=lambda _: None,
        tell=told.append,
    )
    return progress, told
