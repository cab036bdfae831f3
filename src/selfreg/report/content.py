"""What a page shows: numbers, cases, curves. Plain data, checked when it is made."""

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
    """Say whether `value` is no number: None, NaN or infinite."""
    return value is None or not isfinite(value)


@dataclass(frozen=True)
class Number:
    """One measured quantity, once per run, in the unit given: 63.2 with unit "%" reads "63.2 %".

    name: what is measured, e.g. "mIoU".  unit: "%", "s", "px" or "".
    values, intervals: one per run; None where there is none.
    difference, difference_interval: last run minus first, None with one run.
    card: shown at the top of the page.
    Raises ValueError where values and intervals differ in length.
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
        """ "better", "worse" or "not distinguishable" from the interval of the difference; "" without one."""
        if self.difference_interval is None or any(map(is_missing, self.difference_interval)):
            return ""
        return verdict_of(*self.difference_interval, self.higher_is_better)


@dataclass(frozen=True, eq=False)
class Case:
    """One picture of the page: an image with its label and one prediction per run.

    image: (H, W, 3) uint8.  label: (H, W) uint8, None where no label is known.  predictions: (H, W) uint8, one per run.
    kind: a failure of one unit, or "overview" for a whole image.
    class_index: the class of the unit, None in an overview.  wrong_class: the class it was taken for, if any.
    outline: (H, W) bool, True on the missed unit or the mislabelled patch.
    box: (top, left, bottom, right) in pixels, bottom and right exclusive; the pictures are zoomed on it.
    scores: a short text per run, e.g. "12 % found".
    change: the gain of the last run over the first, positive where the last is better (with one run: how bad the case
    is); cards are shown by falling size of it.
    severity: how bad the case is for the last run, from 0; orders cases of equal change.
    quality: how good each run is here; the difference of two is the change between them. Needed where any two of three
    or more runs can be compared.
    Raises ValueError where shapes differ or the box is not inside the image.
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
                raise ValueError(f"{who}: the {name} has shape {array.shape}, the image {size}; give both in one size")
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
    """One chart with a line per name over common x positions; None leaves a gap.

    logarithmic: the x axis is logarithmic, all x above 0.
    Raises ValueError where a line's length is not that of x.
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
    """One run against another: the differences are those of run `second` minus run `first`, indices of the page's runs.

    verdict: in what the second is better and worse, one sentence.
    numbers: the page's numbers with the differences of this pair.
    class_differences: for each class the difference of its IoU, None where it is not defined.
    """

    first: int
    second: int
    verdict: str
    numbers: Sequence[Number]
    class_differences: Sequence[Number | None] = ()

    @property
    def key(self) -> str:
        """The name of the pair in the page's markup."""
        return f"{self.first}-{self.second}"


@dataclass(frozen=True)
class ImageRow:
    """One image in the table of images: for each run the share of right pixels in percent, and counts of failures."""

    image_id: str
    right: tuple[float | None, ...]
    missed: tuple[int, ...]
    invented: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Page:
    """Everything on one page about one run, or about several on the same images.

    verdict: what the page shows, in one sentence; with `pairs` each pair has its own.
    facts: names and values of the head line, e.g. ("images", "101").
    run_names: the first is the one compared with, the last the one in question.
    pairs: every two runs that can be compared; without them the last with the first, from `numbers`.
    labelled_classes: for each class whether the labels hold it; classes that they do not hold are shown as absent.
    confusion: for each run pixels by label and prediction, (K, K).
    palette: (256, 3) uint8, the colour of each class index.  ignore_index: void, drawn as hatching.
    per_class: for each run, the IoU of each class in [0, 1], None for an absent class.
    Raises ValueError where the parts do not fit together.
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
        """`pairs`, or the last run against the first; nothing for one run."""
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
