"""The content of a page: numbers, cases and curves, checked at construction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from selfreg.evaluation.measures import verdict_of

CaseKind: TypeAlias = Literal["missed object", "missed part", "mislabelled part", "overview"]
CASE_KINDS: tuple[CaseKind, ...] = get_args(CaseKind)
Interval: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[int, int, int, int]


def is_missing(value: float | None) -> bool:
    """Whether `value` is None, NaN or infinite."""
    return value is None or not isfinite(value)


@dataclass(frozen=True)
class Number:
    """One measure with one value per run.

    Attributes:
        name: Title of the measure, e.g. "mIoU".
        unit: "%", "s", "px" or "". Values are in this unit: 63.2 with "%" is shown as "63.2 %".
        higher_is_better: Direction.
        values: One per run, None if not defined.
        intervals: One 95 % interval per run, None if not known.
        difference: Last run minus first, None with one run.
        difference_interval: Its 95 % interval.
        card: Whether the number is shown at the top of the page.

    Raises:
        ValueError: If values and intervals differ in length.
    """

    name: str
    unit: str
    higher_is_better: bool
    values: tuple[float | None, ...]
    intervals: tuple[Interval | None, ...] = ()
    difference: float | None = None
    difference_interval: Interval | None = None
    card: bool = False

    def __post_init__(self) -> None:
        if self.intervals and len(self.intervals) != len(self.values):
            raise ValueError(
                f"number {self.name!r} has {len(self.values)} values and {len(self.intervals)} intervals; "
                "give one interval, or None, per value"
            )

    @property
    def verdict(self) -> str:
        """ "better", "worse" or "not distinguishable" by the interval of the difference; "" without an interval."""
        if self.difference_interval is None or any(map(is_missing, self.difference_interval)):
            return ""
        return verdict_of(*self.difference_interval, self.higher_is_better)


@dataclass(frozen=True, eq=False)
class Case:
    """An image with its label and one prediction per run.

    Attributes:
        image_id: Name of the image.
        image: (H, W, 3) uint8.
        label: (H, W) uint8, or None without ground truth.
        predictions: (H, W) uint8, one per run.
        kind: Kind of error, or "overview" for a whole image.
        class_index: Ground-truth class, None in an overview.
        wrong_class: Predicted class, if any.
        outline: (H, W) bool, True on the missed object or part or on the mislabelled patch.
        box: (top, left, bottom, right) in pixels, bottom and right exclusive; pictures are zoomed to it.
        scores: A short text per run, e.g. "12 % found".
        change: Gain of the last run over the first, positive if the last is better; with one run the size of the error.
            Cards are sorted by its absolute value.
        severity: Size of the error of the last run, at least 0; orders cases of equal change.
        quality: Quality of each run; the change of a pair is the difference of two. Needed with three or more runs.

    Raises:
        ValueError: If shapes differ or the box is not inside the image.
    """

    image_id: str
    image: NDArray[np.uint8]
    label: NDArray[np.uint8] | None
    predictions: tuple[NDArray[np.uint8], ...]
    kind: CaseKind
    class_index: int | None = None
    wrong_class: int | None = None
    outline: NDArray[np.bool_] | None = None
    box: Box | None = None
    scores: tuple[str, ...] = ()
    change: float = 0.0
    severity: float = 0.0
    quality: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        who = f"case {self.image_id!r}"
        if self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ValueError(f"{who}: the image has shape {self.image.shape}, expected (H, W, 3)")
        size = self.image.shape[:2]
        maps = {"label": self.label, "outline": self.outline}
        maps |= {f"prediction {run}": prediction for run, prediction in enumerate(self.predictions)}
        for name, array in maps.items():
            if array is not None and array.shape != size:
                raise ValueError(f"{who}: the {name} has shape {array.shape}, the image {size}; they must match")
        if self.kind not in CASE_KINDS:
            raise ValueError(f"{who}: unknown kind {self.kind!r}; use one of {', '.join(CASE_KINDS)}")
        if self.box is not None:
            top, left, bottom, right = self.box
            if not (0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]):
                raise ValueError(f"{who}: the box {self.box} is not inside the image of {size[0]} x {size[1]} pixels")
        if self.scores and len(self.scores) != len(self.predictions):
            raise ValueError(f"{who}: {len(self.scores)} scores for {len(self.predictions)} predictions; give one each")


@dataclass(frozen=True)
class Curve:
    """One chart with several lines over common x positions; None leaves a gap.

    Attributes:
        title: Title of the chart.
        x_label: Label of the x axis.
        y_label: Label of the y axis.
        x: Positions.
        lines: Values at these positions, by the name of the line.
        logarithmic: Whether the x axis is logarithmic; needs x above 0.

    Raises:
        ValueError: If a line has not one value per position.
    """

    title: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    lines: Mapping[str, tuple[float | None, ...]]
    logarithmic: bool = False

    def __post_init__(self) -> None:
        for name, values in self.lines.items():
            if len(values) != len(self.x):
                raise ValueError(f"curve {self.title!r}: line {name!r} has {len(values)} values for {len(self.x)} x")
        if self.logarithmic and any(value <= 0 for value in self.x):
            raise ValueError(f"curve {self.title!r}: a logarithmic axis needs x above 0")


@dataclass(frozen=True)
class RunPair:
    """Two runs of a page that are compared.

    Attributes:
        first: Index of the reference run.
        second: Index of the other run; differences are second minus first.
        verdict: One sentence that says in which measures the second run is better and worse.
        numbers: The page's numbers with the differences of this pair.
        class_differences: Difference of the IoU of each class, None if not defined.
    """

    first: int
    second: int
    verdict: str
    numbers: Sequence[Number]
    class_differences: Sequence[Number | None] = ()

    @property
    def key(self) -> str:
        """Identifier of the pair in the HTML."""
        return f"{self.first}-{self.second}"


@dataclass(frozen=True)
class ImageRow:
    """One row of the table of images.

    Attributes:
        image_id: Name of the image.
        right: Correct pixels in percent, one per run.
        missed: Number of missed small objects and thin parts, one per run.
        invented: Number of invented small objects, one per run.
    """

    image_id: str
    right: tuple[float | None, ...]
    missed: tuple[int, ...]
    invented: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Page:
    """Content of a page about one run, or about several runs on the same images.

    Attributes:
        title: Heading.
        subtitle: Line below the heading.
        run_names: Names of the runs; the first one is the reference, the last one is the subject.
        class_names: Names of the K classes.
        palette: (256, 3) uint8, the colour of each class index.
        ignore_index: Value of void, drawn as hatching.
        numbers: Measures.
        per_class: IoU of each class in [0, 1] by run, None for an absent class.
        labelled_classes: Whether the labels contain each class; others are shown as absent.
        confusion: Pixels by label and prediction, (K, K), by run.
        images: Rows of the table of images.
        verdict: One sentence with the result; with `pairs` each pair has its own.
        facts: Names and values below the verdict, e.g. ("images", "101").
        pairs: Pairs of runs that the reader can choose; by default the last against the first, from `numbers`.
        cases: Cards with pictures.
        curves: Charts.
        notes: Paragraphs at the end of the page.
        commands: Commands that made the page.

    Raises:
        ValueError: If the parts do not fit together.
    """

    title: str
    subtitle: str
    run_names: tuple[str, ...]
    class_names: tuple[str, ...]
    palette: NDArray[np.uint8]
    ignore_index: int | None = 255
    numbers: Sequence[Number] = ()
    per_class: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    labelled_classes: Sequence[bool] = ()
    confusion: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    images: Sequence[ImageRow] = ()
    verdict: str = ""
    facts: Sequence[tuple[str, str]] = ()
    pairs: Sequence[RunPair] = ()
    cases: Sequence[Case] = ()
    curves: Sequence[Curve] = ()
    notes: Sequence[str] = ()
    commands: Sequence[str] = ()

    @property
    def shown_pairs(self) -> Sequence[RunPair]:
        """`pairs`, or the last run against the first; empty for one run."""
        if self.pairs or len(self.run_names) == 1:
            return self.pairs
        return [RunPair(0, len(self.run_names) - 1, self.verdict, self.numbers)]

    def __post_init__(self) -> None:
        runs, classes = len(self.run_names), len(self.class_names)
        if runs == 0:
            raise ValueError("a page needs the name of at least one run")
        if len(set(self.run_names)) != runs:
            raise ValueError(f"the run names {', '.join(self.run_names)} are not all different; name each run once")
        if self.palette.shape != (256, 3) or self.palette.dtype != np.uint8:
            raise ValueError(
                f"the palette has shape {self.palette.shape} and type {self.palette.dtype}, expected (256, 3) uint8"
            )
        for number in self.numbers:
            if len(number.values) != runs:
                raise ValueError(f"number {number.name!r} has {len(number.values)} values for {runs} runs")
        for pair in self.pairs:
            if len(pair.numbers) != len(self.numbers):
                raise ValueError(f"the pair {pair.key} has {len(pair.numbers)} numbers, the page {len(self.numbers)}")
        for name, values in self.per_class.items():
            if name not in self.run_names:
                raise ValueError(f"per_class has {name!r}, which is none of the runs {', '.join(self.run_names)}")
            if len(values) != classes:
                raise ValueError(f"per_class[{name!r}] has {len(values)} values for {classes} classes")
            if any(value is not None and not is_missing(value) and not 0 <= value <= 1 for value in values):
                raise ValueError(f"per_class[{name!r}] has an IoU outside 0 to 1; give fractions, not percent")
        for case in self.cases:
            if len(case.predictions) != runs:
                raise ValueError(f"case {case.image_id!r} has {len(case.predictions)} predictions for {runs} runs")
            for index in (case.class_index, case.wrong_class):
                if index is not None and not 0 <= index < classes:
                    raise ValueError(f"case {case.image_id!r}: class {index} is not one of 0 to {classes - 1}")
        for name, matrix in self.confusion.items():
            if name not in self.run_names:
                raise ValueError(f"confusion has {name!r}, which is none of the runs {', '.join(self.run_names)}")
            if matrix.shape != (classes, classes):
                raise ValueError(f"confusion[{name!r}] has shape {matrix.shape}, expected ({classes}, {classes})")
