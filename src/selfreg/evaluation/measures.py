"""Key, title, unit, direction and rank of every measure, for tables, pages and documents.

To add a measure, add one entry to `MEASURES` and return it under the same key from the function that computes it
(`failure_scores`, `boundary_scores` or `pixel_scores`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, isnan
from typing import Literal

Verdict = Literal["better", "worse", "not distinguishable"]

MOST_DECIMALS = 3
"""A difference is written with at most this many decimals."""


@dataclass(frozen=True)
class Measure:
    """One number that describes predictions on a data set.

    Attributes:
        key: Name in JSON and in Python.
        title: Name in tables and on pages.
        meaning: Explanation in one line.
        higher_is_better: Direction.
        is_count: A count, written as it is; otherwise a share in [0, 1], written in percent.
        headline: Whether summaries show it; the others are details of `selfreg evaluate` and of the JSON files.
    """

    key: str
    title: str
    meaning: str
    higher_is_better: bool
    is_count: bool = False
    headline: bool = False

    @property
    def unit(self) -> str:
        """`%`, or an empty string for a count."""
        return "" if self.is_count else "%"

    @property
    def arrow(self) -> str:
        """An arrow pointing up if higher is better, down otherwise."""
        return "↑" if self.higher_is_better else "↓"

    def scaled(self, value: float) -> float:
        """Convert a value to its unit: 0.632 becomes 63.2 percent; counts are unchanged."""
        return float(value) if self.is_count else 100.0 * value

    def text(self, value: float | None, places: int | None = None) -> str:
        """Write a value without its unit, or `-` where it is not defined."""
        if value is None or not isfinite(value):
            return "-"
        return f"{self.scaled(value):.{self._places if places is None else places}f}"

    @property
    def _places(self) -> int:
        return 0 if self.is_count else 1


@dataclass(frozen=True)
class Difference:
    """Difference of two runs, or of two arms of a study, in one measure, with its 95 % interval.

    Values have the unit of the measure: fractions in [0, 1], or counts.
    """

    measure: Measure
    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """Better, worse or not distinguishable."""
        return verdict_of(self.low, self.high, self.measure.higher_is_better)

    @property
    def text(self) -> str:
        """The value with its sign, in percentage points or as a count."""
        return self._signed(self.value)

    @property
    def interval_text(self) -> str:
        """The interval, with enough decimals to show on which side of 0 each end lies; empty if it is not known."""
        if isnan(self.low) or isnan(self.high):
            return ""
        return f"{self._signed(self.low)} to {self._signed(self.high)}"

    def _signed(self, value: float) -> str:
        ends = [self.measure.scaled(end) for end in (self.low, self.high)]
        places = signed_places(ends, 0 if self.measure.is_count else 1)
        return f"{self.measure.scaled(value):+.{places}f}"


def signed_places(ends: Sequence[float], places: int) -> int:
    """Fewest decimals, at least `places`, with which no nonzero end of an interval is written as 0."""
    while places < MOST_DECIMALS and any(end != 0 and round(end, places) == 0 for end in ends if isfinite(end)):
        places += 1
    return places


def verdict_of(low: float, high: float, higher_is_better: bool) -> Verdict:
    """Judge a difference by its interval: better or worse only if the interval excludes 0."""
    if low > 0 or high < 0:
        return "better" if (low > 0) == higher_is_better else "worse"
    return "not distinguishable"


_ALL = (
    Measure("miou", "mIoU", "mean over classes of intersection over union", True, headline=True),
    Measure("boundary_iou", "boundary IoU", "IoU of the bands along the contours", True, headline=True),
    Measure(
        "missed_unit_rate",
        "small objects and thin parts missed",
        "share of small objects and thin parts of which less than half is predicted as their class",
        False,
        headline=True,
    ),
    Measure(
        "partial_mislabel_rate",
        "parts of large objects mislabelled",
        "share of the interior of large objects in patches of a wrong class",
        False,
        headline=True,
    ),
    Measure(
        "hallucinated_components",
        "small objects invented",
        "small predicted regions of which less than half has their class in the label",
        False,
        is_count=True,
        headline=True,
    ),
    Measure(
        "whole_object_errors",
        "large objects mostly wrong",
        "large objects less than half correct; `partial_mislabel_rate` excludes them",
        False,
        is_count=True,
        headline=True,
    ),
    Measure("pixel_accuracy", "pixel accuracy", "share of the labelled pixels that are correct", True, headline=True),
    Measure("mean_accuracy", "mean class accuracy", "the same per class, averaged over classes", True),
    Measure("frequency_weighted_iou", "frequency-weighted IoU", "IoU averaged by labelled pixels of the classes", True),
    Measure("trimap_iou", "trimap IoU", "IoU of the pixels on both sides of the label's contours", True),
    Measure("missed_small_object_rate", "small objects missed", "share of small objects missed", False),
    Measure("missed_part_rate", "thin parts missed", "share of thin parts of larger objects missed", False),
    Measure(
        "missed_unit_rate_low",
        "small objects and thin parts mostly missed",
        "as `missed_unit_rate`, but less than a quarter found",
        False,
    ),
    Measure(
        "missed_small_object_rate_low",
        "small objects mostly missed",
        "as `missed_small_object_rate`, but less than a quarter found",
        False,
    ),
    Measure(
        "missed_part_rate_low",
        "thin parts mostly missed",
        "as `missed_part_rate`, but less than a quarter found",
        False,
    ),
    Measure(
        "mislabelled_object_rate",
        "large objects with a mislabelled part",
        "share of large objects with at least one mislabelled patch",
        False,
    ),
    Measure(
        "background_hole_rate",
        "background holes in large objects",
        "share of the interior of large objects in patches of background",
        False,
    ),
)
MEASURES: dict[str, Measure] = {measure.key: measure for measure in _ALL}
"""Every measure of a data set by its key, in the order of reports."""

HEADLINES: tuple[Measure, ...] = tuple(measure for measure in _ALL if measure.headline)
"""The measures that summaries show."""

IN_VERDICT = ("miou", "missed_unit_rate", "partial_mislabel_rate", "hallucinated_components", "whole_object_errors")
"""Keys of the measures that a verdict in words is about, the most important first."""


def verdict_in_words(differences: Sequence[Difference]) -> str:
    """Say in which measures a run is better, worse and not distinguishable from another.

    Returns:
        For example "better in mIoU (+6.0); no difference can be shown in small objects invented".
    """
    starts = {"better": "better in", "worse": "worse in", "not distinguishable": "no difference can be shown in"}
    parts = []
    for verdict, start in starts.items():
        found = [each for each in differences if each.verdict == verdict]
        if verdict == "not distinguishable":
            named = [each.measure.title for each in found]
        else:
            named = [f"{each.measure.title} ({each.text})" for each in found]
        if named:
            parts.append(f"{start} {', '.join(named)}")
    return "; ".join(parts)


_EACH_CLASS = (
    Measure("per_class_iou", "IoU", "intersection over union of the class", True, headline=True),
    Measure("per_class_precision", "precision", "share of the pixels predicted as the class that are correct", True),
    Measure("per_class_recall", "recall", "share of the pixels labelled as the class that are correct", True),
    Measure("per_class_f1", "F1", "harmonic mean of precision and recall (the Dice score)", True),
    Measure("per_class_missed_unit_rate", "missed", "`missed_unit_rate` of the class", False, headline=True),
    Measure(
        "per_class_partial_mislabel_rate", "mislabelled", "`partial_mislabel_rate` of the class", False, headline=True
    ),
    Measure(
        "per_class_hallucinated_components",
        "invented",
        "`hallucinated_components` of the class",
        False,
        is_count=True,
        headline=True,
    ),
)
CLASS_MEASURES: dict[str, Measure] = {measure.key: measure for measure in _EACH_CLASS}
"""The measures that tables show for each class, by key; headlines have intervals."""
