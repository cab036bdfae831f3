"""Results of a study: the scores of every arm and their differences to the controls."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np

from selfreg.config import Config
from selfreg.evaluation import MEASURES
from selfreg.evaluation.scores import Floats
from selfreg.evaluation.summary import to_plain
from selfreg.study.arms import StudyArm
from selfreg.study.intervals import PairedDifference, coverage_of, mean_and_spread, paired_difference


@dataclass(frozen=True, eq=False)
class ArmResult:
    """Results of one arm.

    Attributes:
        arm: Name and overrides.
        scores: Output of `resampled_scores`, by seed and measure.
        seconds: Training time by seed, of uninterrupted runs only.
        curve: Validation mIoU by epoch, mean over seeds.
        miou_by_depth: Validation mIoU of every exit after the last epoch, from shallow to deep, the network's output
            last, mean over seeds; empty for an arm without exits.
    """

    arm: StudyArm
    scores: Mapping[int, Mapping[str, Floats]]
    seconds: Mapping[int, float]
    curve: Mapping[int, float]
    miou_by_depth: tuple[float, ...] = ()

    def value(self, measure: str, seed: int) -> float | None:
        """One measure of one run on the whole split; None if the run is missing or the measure is not defined."""
        found = self.scores.get(seed, {}).get(measure)
        return None if found is None or np.isnan(found[0]) else float(found[0])

    def class_value(self, measure: str, seed: int, index: int) -> float | None:
        """One measure of one class; None if the run is missing or the measure is not defined."""
        found = self.scores.get(seed, {}).get(measure)
        return None if found is None or np.isnan(found[0, index]) else float(found[0, index])


@dataclass(frozen=True, eq=False)
class StudyResult:
    """Results of a study; the first arm is the base or takes its place.

    Attributes:
        config: The study's configuration.
        num_images: Number of evaluated images.
        seeds: Seeds of the study.
        arms: Results by arm.
        failures: The message of each failed run, by name.
        class_names: Names of the classes.
        confidence: Confidence level of each interval; None for differences without intervals.
        intervals: Description of the intervals, if they are not the fixed ones of `coverage_of`.
    """

    config: Config
    num_images: int
    seeds: tuple[int, ...]
    arms: tuple[ArmResult, ...]
    failures: Mapping[str, str]
    class_names: tuple[str, ...] = ()
    confidence: float | None = 0.95
    intervals: str = ""

    @cached_property
    def differences(self) -> dict[str, dict[str, dict[str, PairedDifference]]]:
        """Differences by control (the first arm, and `mea` for the arms after it), arm and measure, if known."""
        controls = [result for index, result in enumerate(self.arms) if index == 0 or result.arm.name == "mea"]
        return {
            control.arm.name: {
                other.arm.name: {
                    measure: difference
                    for measure in MEASURES
                    if (difference := self._difference(other, control, measure)) is not None
                }
                for other in self.arms
                if other is not control and other is not self.arms[0]
            }
            for control in controls
        }

    @cached_property
    def class_differences(self) -> dict[str, list[list[PairedDifference | None] | None]]:
        """Differences of the classes' IoU for each arm, by control; None for an arm that is not compared with it."""
        by_name = {result.arm.name: result for result in self.arms}
        classes = range(len(self.class_names))
        return {
            control: [
                [self._difference(result, by_name[control], "per_class_iou", index) for index in classes]
                if result.arm.name in held
                else None
                for result in self.arms
            ]
            for control, held in self.differences.items()
        }

    @property
    def coverage(self) -> str:
        """Description of what the intervals cover, for the pair of arms with the fewest common seeds."""
        if self.intervals:
            return self.intervals
        pairs = [entry for by_arm in self.differences.values() for each in by_arm.values() for entry in each.values()]
        return coverage_of(min((len(entry.seeds) for entry in pairs), default=len(self.seeds)))

    def relative_cost(self, result: ArmResult) -> float | None:
        """Median training time of an arm divided by that of the first arm; None if either has no uninterrupted run."""
        base = self.arms[0].seconds
        if not result.seconds or not base or not median(base.values()):
            return None
        return median(result.seconds.values()) / median(base.values())

    def _difference(
        self, arm: ArmResult, control: ArmResult, measure: str, class_index: int | None = None
    ) -> PairedDifference | None:
        entry = slice(None) if class_index is None else (slice(None), class_index)
        both = [
            {seed: scores[measure][entry] for seed, scores in each.scores.items() if measure in scores}
            for each in (arm, control)
        ]
        return paired_difference(*both, confidence=self.confidence)

    def to_json(self) -> dict[str, Any]:
        """All results as plain data; percentages as fractions."""
        arms = {result.arm.name: self._arm_json(result) for result in self.arms}
        differences = {
            control: {
                arm: {
                    measure: {
                        "difference": entry.value,
                        "low": entry.low,
                        "high": entry.high,
                        "seeds": entry.seeds,
                        "verdict": entry.verdict(MEASURES[measure].higher_is_better),
                    }
                    for measure, entry in measures.items()
                }
                for arm, measures in by_arm.items()
            }
            for control, by_arm in self.differences.items()
        }
        content = {
            "config": self.config.model_dump(mode="json"),
            "split": self.config.data.val_split,
            "num_images": self.num_images,
            "seeds": self.seeds,
            "arms": arms,
            "differences": differences,
            "intervals": self.coverage,
            "failed_runs": dict(self.failures),
        }
        plain: dict[str, Any] = to_plain(content)
        return plain

    def _arm_json(self, result: ArmResult) -> dict[str, Any]:
        measures = {}
        for measure in MEASURES:
            values = [result.value(measure, seed) for seed in self.seeds]
            if any(value is not None for value in values):
                middle, spread = mean_and_spread(values)
                measures[measure] = {"mean": middle, "spread": spread, "values": values}
        return {
            "overrides": result.arm.overrides,
            "measures": measures,
            "seconds": [result.seconds.get(seed) for seed in self.seeds],
            "relative_cost": self.relative_cost(result),
            "val_miou_by_epoch": {str(epoch): value for epoch, value in result.curve.items()},
            "val_miou_by_depth": list(result.miou_by_depth),
        }
