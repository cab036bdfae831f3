"""What a try found, in sentences."""

from dataclasses import dataclass
from math import isfinite
from statistics import mean
from typing import Any

from selfreg.evaluation.measures import CLASS_MEASURES, MEASURES, Difference
from selfreg.messages import command_line
from selfreg.study.results import ArmResult, StudyResult
from selfreg.trial.budget import budget_text
from selfreg.trial.looks import FIRST_LOOK, MOST_PAIRS
from selfreg.trial.sequence import PRIMARY, RELEVANT, Progress
from selfreg.trial.trainings import ARMS, FULL, IN_WORDS

FAILURES = ("missed_unit_rate", "partial_mislabel_rate", "whole_object_errors")
"""The two failure rates, and the large objects that the second one excludes; reported besides the primary measure."""

_CLASSES_NAMED = 3
_LONGER = 4
"""The training that is advised is this many times as long as those of the try."""


@dataclass(frozen=True)
class Verdict:
    """What a try found.

    Attributes:
        finding: "helps", "harms", "makes no difference that matters" or "cannot be told".
        sentence: The result in one sentence.
        where: Measures and classes that differ.
        cost: Training time, and invented objects.
        advice: What to do next.
        better: Arm of the network that is kept.
    """

    finding: str
    sentence: str
    where: str
    cost: str
    advice: str
    better: str

    @property
    def paragraphs(self) -> list[str]:
        """The sentences after the first one."""
        return [self.where, self.cost, self.advice]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain data."""
        return dict(vars(self))


@dataclass(frozen=True)
class Asked:
    """What the user asked for, for the commands that come next.

    Attributes:
        data: Folder of the data; None for generated scenes.
        network: Name of the network; None if it was chosen.
        seed: Seed of the first pair.
        folder: Folder of the try.
        seconds: The budget, or what was spent if that is more.
    """

    data: str | None
    network: str | None
    seed: int
    folder: str
    seconds: float

    def again(self, seconds: float | None = None) -> str:
        """The command of this try, with a budget if one is given."""
        words = ["selfreg", "try", *([self.data] if self.data else []), "--out", self.folder]
        words += ["--network", self.network] if self.network else []
        words += ["--seed", str(self.seed)] if self.seed else []
        words += ["--budget", budget_text(seconds)] if seconds else []
        return command_line(*words)

    def use(self) -> str:
        """The command that uses the better network."""
        return f"{command_line('selfreg', 'predict', f'{self.folder}/best')} photo.jpg -o masks/"

    def longer(self, arm: str, steps: int) -> str:
        """The command that trains an arm longer."""
        sets = [] if arm == FULL else list(ARMS[arm].overrides)
        words = [word for each in (*sets, f"training.max_steps={steps}") for word in ("--set", each)]
        return command_line("selfreg", "train", f"{self.folder}/try.yaml", *words, "--out", f"{self.folder}/longer")


def reach_verdict(
    result: StudyResult, progress: Progress, *, name: str, asked: Asked, next_pair: float, fewest_steps: int = 0
) -> Verdict:
    """Put the results of a try into words.

    Args:
        result: The base and `full`, all finished pairs.
        progress: Where the try stopped.
        name: Name of the data.
        asked: What the user asked for.
        next_pair: Seconds of another pair.
        fewest_steps: Steps that a training needs for a result; a demonstration may have fewer.
    """
    base, full = result.arms
    better = {"helps": FULL, "harms": base.arm.name}.get(progress.finding) or _higher(base, full)
    return Verdict(
        progress.finding,
        _sentence(result, progress, name) + _too_short(result, progress, fewest_steps),
        _where(result),
        _cost(result),
        _advice(result, progress, asked, next_pair),
        better,
    )


def _sentence(result: StudyResult, progress: Progress, name: str) -> str:
    found = _difference(result, PRIMARY)
    values = "mIoU " + ", ".join(f"{_mean_text(arm, PRIMARY)} with {IN_WORDS[arm.arm.name]}" for arm in result.arms)
    pairs = f"{progress.pairs} pair{'s' * (progress.pairs != 1)} of trainings"
    if found is None:
        return f"{name}: self-regulation cannot be judged, since mIoU is not defined."
    interval = f"{found.text} points, 95 % interval {found.interval_text}, {pairs}"
    if progress.finding in ("helps", "harms"):
        return f"{name}: self-regulation {progress.finding}: {values} ({interval})."
    if progress.pairs < 2:
        return (
            f"{name}: one pair of trainings cannot tell whether self-regulation helps: {values} ({found.text} points); "
            "another pair may differ."
        )
    if progress.finding == "cannot be told":
        largest = max(abs(found.low), abs(found.high))
        return (
            f"{name}: no difference can be shown: {values} ({interval}); one larger than {100 * largest:.1f} points is "
            "unlikely."
        )
    return (
        f"{name}: self-regulation makes no difference that matters (below {100 * RELEVANT:.0f} point): {values} "
        f"({interval})."
    )


def _too_short(result: StudyResult, progress: Progress, fewest_steps: int) -> str:
    """What is said of several pairs of trainings that are too short; one pair cannot tell anyway."""
    steps = result.config.training.max_steps or 0
    if progress.pairs < 2 or steps >= fewest_steps:
        return ""
    return f" This is a demonstration: {steps} steps are too short for a result, which takes {fewest_steps}."


def _where(result: StudyResult) -> str:
    parts = []
    for key in FAILURES:
        found = _difference(result, key)
        if found is None:
            continue
        value = f"{found.text}{'' if found.measure.is_count else ' points'}"
        if found.verdict == "not distinguishable":
            parts.append(f"{found.measure.title}: no difference can be shown ({value})")
        else:
            parts.append(f"{found.measure.title}: {found.verdict} ({value}, interval {found.interval_text})")
    gains = _class_gains(result)
    best = [f"{each} {gain:+.1f}" for gain, each in gains[:_CLASSES_NAMED] if gain > 0]
    worst = [f"{each} {gain:+.1f}" for gain, each in gains[: -_CLASSES_NAMED - 1 : -1] if gain < 0]
    if best:
        parts.append(f"classes that gain most IoU: {', '.join(best)}")
    if worst:
        parts.append(f"classes that lose most: {', '.join(worst)}")
    return f"Where: {'; '.join(parts)}. Single classes are described, not tested." if parts else ""


def _class_gains(result: StudyResult) -> list[tuple[float, str]]:
    """Mean difference of each class's IoU in points, largest first."""
    iou = CLASS_MEASURES["per_class_iou"]
    columns = result.class_differences.get(result.arms[0].arm.name, [])
    column = columns[-1] if columns else None
    named = zip(result.class_names, column or [], strict=False)
    gains = [(iou.scaled(found.value), name) for name, found in named if found is not None and isfinite(found.value)]
    return sorted(gains, reverse=True)


def _cost(result: StudyResult) -> str:
    base, full = result.arms
    ratio = result.relative_cost(full)
    time = f"training took {ratio:.2f} times as long on this machine" if ratio else "the training time was not measured"
    found = _difference(result, "hallucinated_components")
    invented = ""
    if found is not None:
        before, after = _mean_text(base, "hallucinated_components"), _mean_text(full, "hallucinated_components")
        invented = f"; small objects invented: {before} before, {after} with it"
    return f"Cost: {time}, nothing at inference{invented}."


def _advice(result: StudyResult, progress: Progress, asked: Asked, next_pair: float) -> str:
    use = f"`{asked.use()}` uses the better network"
    steps = _LONGER * (result.config.training.max_steps or 0)
    if progress.finding == "helps":
        return f"Next: {use}; `{asked.longer(FULL, steps)}` trains longer, where the gain may be smaller."
    if progress.finding == "harms":
        return f"Next: train without it (`{asked.longer(progress.base, steps)}`); {use}."
    if progress.known:
        return f"Next: choose by cost, plain training is the simpler; {use}."
    more = min(max(FIRST_LOOK, 2 * progress.pairs), MOST_PAIRS) - progress.pairs
    return (
        f"Next: `{asked.again(asked.seconds + more * next_pair)}` adds {more} pair{'s' * (more != 1)} (at most "
        f"{MOST_PAIRS} in all) and narrows the interval; {use}."
    )


def _difference(result: StudyResult, key: str) -> Difference | None:
    base, full = result.arms
    found = result.differences.get(base.arm.name, {}).get(full.arm.name, {}).get(key)
    return None if found is None else Difference(MEASURES[key], found.value, found.low, found.high)


def _mean_text(arm: ArmResult, key: str) -> str:
    values = [value for seed in arm.scores if (value := arm.value(key, seed)) is not None]
    unit = "" if MEASURES[key].is_count else " %"
    return MEASURES[key].text(mean(values)) + unit if values else "unknown"


def _higher(base: ArmResult, full: ArmResult) -> str:
    """The arm with the higher mean mIoU; the base if they are equal."""
    means = [mean([arm.value(PRIMARY, seed) or 0.0 for seed in arm.scores]) for arm in (base, full)]
    return full.arm.name if means[1] > means[0] else base.arm.name
