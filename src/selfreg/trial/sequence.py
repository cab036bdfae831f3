"""Pairs of trainings one after another, until the difference is known or the budget is spent."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from selfreg.evaluation.measures import MEASURES, Difference
from selfreg.evaluation.scores import Floats
from selfreg.study.intervals import PairedDifference, paired_difference
from selfreg.trial.budget import Budget, OutOfTime
from selfreg.trial.looks import FIRST_LOOK, MOST_PAIRS, Plan, error_of_look, spent_error

PRIMARY = "miou"
"""The measure that decides when to stop and what the verdict is."""

RELEVANT = 0.01
"""A difference in mIoU below this (one point) does not matter: if the interval shows that, the try ends."""

Finding = Literal["helps", "harms", "makes no difference that matters", "cannot be told"]


class Trainings(Protocol):
    """The trainings of a try, by arm and index of the seed."""

    def finished(self, arm: str, seed: int) -> bool:
        """Whether a training has finished."""

    def train(self, arm: str, seed: int) -> None:
        """Train an arm, or finish its training. Raises `OutOfTime` if the budget is spent before."""

    def scores(self, arm: str, seed: int) -> Mapping[str, Floats]:
        """The scores of a finished training, as of `resampled_scores`."""


@dataclass
class Progress:
    """What a try has found so far; kept in the folder, so that it continues.

    Attributes:
        base: The arm that `full` is compared with; empty before it is chosen.
        pairs: Finished pairs of trainings.
        levels: Error level of each look, by number of pairs.
        first: Pairs that were finished when the current budget began.
        spent_before: Error that was spent then.
        pair_seconds: Duration of each pair, scoring included.
        finding: What the last look found.
    """

    base: Annotated[str, Field(pattern="^(base|balanced)?$")] = ""
    pairs: Annotated[int, Field(ge=0, le=MOST_PAIRS)] = 0
    levels: dict[int, float] = field(default_factory=dict)
    first: int = 0
    spent_before: float = 0.0
    pair_seconds: list[float] = field(default_factory=list)
    finding: Finding = "cannot be told"

    @property
    def known(self) -> bool:
        """Whether the difference is known, so that more trainings are not needed."""
        return self.finding != "cannot be told" or self.pairs >= MOST_PAIRS

    @property
    def confidence(self) -> float | None:
        """Confidence level of the interval at the last look, 0.95 if there was none; None for one pair.

        An interval of one pair would cover the images alone and call a difference of two trainings one of the arms.
        """
        if self.pairs < 2:
            return None
        level = self.levels.get(self.pairs, 0.0)
        return 1 - level if level else 0.95

    def next_pair(self, expected: float) -> float:
        """Estimated seconds of the next pair: of the slower of the last two, `expected` before there is one."""
        return max(self.pair_seconds[-2:], default=expected)

    def begin_budget(self) -> None:
        """Begin a new, larger budget: its looks share the error that is left."""
        self.first, self.spent_before = self.pairs, spent_error(self.levels)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data."""
        return asdict(self)


def conduct(
    trainings: Trainings,
    budget: Budget,
    progress: Progress,
    *,
    candidates: tuple[str, ...],
    expected_pair: float,
    reserve: float,
    keep: Callable[[Progress], None],
    tell: Callable[[str], None],
) -> None:
    """Train pairs until the difference is known, the budget is spent, or there are `MOST_PAIRS`.

    The base is the candidate with the higher mIoU in the first seed. It is chosen on the images and in the training
    with which it is compared afterwards, which favours it a little.

    Args:
        trainings: Trains and scores.
        budget: The time that may be used.
        progress: Where an earlier command stopped; changed in place.
        candidates: Arms of which the better one becomes the base.
        expected_pair: Estimated seconds of a pair, for the time before one is finished.
        reserve: Seconds that are needed at the end for the verdict and the pages.
        keep: Called when `progress` has changed.
        tell: Called with lines for the user.
    """

    def fits() -> bool:
        """Whether the next pair, of which a part may be there, can be finished within the budget."""
        missing = sum(not trainings.finished(arm, progress.pairs) for arm in (progress.base, "full"))
        return budget.left - reserve >= progress.next_pair(expected_pair) * missing / 2

    while not progress.known and (progress.pairs == 0 or fits()):
        since = budget.spent
        # the duration of what is left of a pair says nothing about the next one
        partly = any(trainings.finished(arm, progress.pairs) for arm in (progress.base or candidates[0], "full"))
        try:
            with budget.enforced(reserve):
                _train_pair(trainings, progress, candidates)
        except OutOfTime:
            tell(f"the budget is spent before pair {progress.pairs + 1} is finished; a larger --budget continues it")
            break
        progress.pairs += 1
        if not partly and (progress.pairs > 1 or len(candidates) == 1):
            progress.pair_seconds.append(budget.spent - since)
        keep(progress)
        more = int((budget.left - reserve) / progress.next_pair(expected_pair))
        _look(trainings, progress, planned=min(MOST_PAIRS, progress.pairs + max(0, more)), tell=tell)
        keep(progress)
    if not progress.known and progress.pairs > 1:
        # no further look follows in this budget, so it may spend all of its error
        _look(trainings, progress, planned=progress.pairs, tell=tell)
        keep(progress)


def _train_pair(trainings: Trainings, progress: Progress, candidates: tuple[str, ...]) -> None:
    seed = progress.pairs
    if not progress.base:
        for arm in candidates:
            trainings.train(arm, seed)
        progress.base = max(candidates, key=lambda arm: float(trainings.scores(arm, seed)[PRIMARY][0]))
    for arm in (progress.base, "full"):
        trainings.train(arm, seed)
        trainings.scores(arm, seed)


def difference_of(trainings: Trainings, progress: Progress, confidence: float) -> PairedDifference | None:
    """Difference of `full` and the base in mIoU over the finished pairs."""
    full, base = (
        {seed: trainings.scores(arm, seed)[PRIMARY] for seed in range(progress.pairs)}
        for arm in ("full", progress.base)
    )
    return paired_difference(full, base, confidence=confidence)


def _look(trainings: Trainings, progress: Progress, *, planned: int, tell: Callable[[str], None]) -> None:
    pairs = progress.pairs
    if pairs < min(FIRST_LOOK, planned) or pairs < 2:
        later = f"the first look is after pair {min(FIRST_LOOK, planned)}" if planned > 1 else "no other one fits"
        tell(f"pair {pairs} of about {planned} is finished; {later}")
        return
    allowed = Plan(progress.first, progress.spent_before).allowed(pairs, planned)
    level = error_of_look(progress.levels, pairs, allowed)
    if level == progress.levels.get(pairs):
        return
    progress.levels[pairs] = level
    found = difference_of(trainings, progress, 1 - level)
    if found is None:
        return
    progress.finding = judge(found.low, found.high)
    if progress.known:
        what = "enough is known"
    else:
        what = f"not decided yet; about {planned} pairs fit" if planned > pairs else "not decided"
    shown = Difference(MEASURES[PRIMARY], found.value, found.low, found.high)
    tell(f"pair {pairs}: difference in mIoU {shown.text} points, interval {shown.interval_text}: {what}")


def judge(low: float, high: float) -> Finding:
    """Judge an interval of the difference in mIoU."""
    if low > 0:
        return "helps"
    if high < 0:
        return "harms"
    return "makes no difference that matters" if max(-low, high) < RELEVANT else "cannot be told"
