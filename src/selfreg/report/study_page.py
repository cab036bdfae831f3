"""The page of a study: verdict, table of all measures over arms and seeds, classes, pictures, curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from numpy.typing import NDArray

from selfreg.files import write_text
from selfreg.report.charts import Forest, forests, lay_out
from selfreg.report.content import Case, Curve, Interval, Number, RunPair, is_missing
from selfreg.report.embed import LEVELS, Album, Level
from selfreg.report.page import LARGEST_PAGE
from selfreg.report.pictures import outcome_words, outcomes
from selfreg.report.rendering import decimals, render


@dataclass(frozen=True)
class ArmDifference:
    """Paired difference of an arm and a control: mean and 95 % interval, None if not known."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class MeasureOfArms:
    """One measure over all arms.

    Attributes:
        name: Title of the measure.
        unit: "%", "s" or "". Values are in this unit: 63.2 with "%" is shown as "63.2 %".
        higher_is_better: Direction.
        seeds: For each arm one value per seed, None for a missing run.
        differences: By the name of the control, each arm's difference to it; None for the control itself.
        card: Whether the measure is shown at the top of the page.
    """

    name: str
    unit: str
    higher_is_better: bool
    seeds: Sequence[Sequence[float | None]]
    differences: Mapping[str, Sequence[ArmDifference | None]]
    card: bool = False

    def means(self) -> tuple[float | None, ...]:
        """Mean over the seeds of each arm, None for an arm without values."""
        known = [[value for value in values if value is not None and not is_missing(value)] for values in self.seeds]
        return tuple(mean(values) if values else None for values in known)


@dataclass(frozen=True, eq=False)
class StudyPictures:
    """Images on which two arms differ.

    Attributes:
        arms: Names of the control and of the arm, whose predictions each case has in this order.
        cases: Overviews with labels.
        class_names: Names of the K classes.
        palette: (256, 3) uint8, the colour of each class index.
        ignore_index: Value of void in the labels.
    """

    arms: tuple[str, str]
    cases: Sequence[Case]
    class_names: Sequence[str]
    palette: NDArray[np.uint8]
    ignore_index: int = 255


@dataclass(frozen=True)
class StudyPage:
    """Content of the page of a study.

    Attributes:
        title: Heading.
        subtitle: Line below the heading.
        arms: Names of the arms; the first one is the base.
        measures: Measures.
        curves: Charts.
        notes: Paragraphs at the end of the page.
        commands: Commands that made the page.
        verdicts: By control and arm, one sentence that says in which measures the arm is better and worse.
        classes: IoU of each class, named by the class.
        facts: Names and values below the heading.
        pictures: Images on which two arms differ, if predictions are available.

    Raises:
        ValueError: If a measure has not one entry per arm, or a control is not an arm.
    """

    title: str
    subtitle: str
    arms: tuple[str, ...]
    measures: Sequence[MeasureOfArms]
    curves: Sequence[Curve] = ()
    notes: Sequence[str] = ()
    commands: Sequence[str] = ()
    verdicts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    classes: Sequence[MeasureOfArms] = ()
    facts: Sequence[tuple[str, str]] = ()
    pictures: StudyPictures | None = None

    def __post_init__(self) -> None:
        for measure in (*self.measures, *self.classes):
            for control, differences in measure.differences.items():
                if control not in self.arms:
                    raise ValueError(f"measure {measure.name!r}: control {control!r} is none of {', '.join(self.arms)}")
                if len(differences) != len(self.arms):
                    found = f"{len(differences)} differences to {control}"
                    raise ValueError(f"measure {measure.name!r} has {found}, not {len(self.arms)}")
            if len(measure.seeds) != len(self.arms):
                raise ValueError(
                    f"measure {measure.name!r} has values of {len(measure.seeds)} arms, not {len(self.arms)}"
                )


@dataclass(frozen=True)
class ArmRow:
    """Row of an arm under a measure: mean, standard deviation, positions of the seeds in percent, differences."""

    mean: float | None
    spread: float | None
    count: int
    dots: list[float]
    at: float | None
    versus: dict[str, tuple[Number, Forest | None] | None]


@dataclass(frozen=True)
class PicturedCase:
    """A case with its pictures: captions, data URIs, and the URI of the picture laid over the last one."""

    case: Case
    pictures: list[tuple[str, str]]
    outcomes: str


def subject_of(arms: Sequence[str]) -> str:
    """The arm that a page compares with the first arm by default: `full`, or else the last one."""
    return "full" if "full" in arms else arms[-1]


def write_study_page(page: StudyPage, path: Path, *, largest: int = LARGEST_PAGE) -> Path:
    """Write the page of a study as one self-contained HTML file, whole or not at all; return its path."""
    tables = []
    for measure in page.measures:
        places = decimals([value for values in measure.seeds for value in values], measure.unit)
        tables.append((measure, places, _rows(measure)))
    pairs = _pairs(page)
    text = ""
    for level in LEVELS:
        text = render(
            "study.html.j2",
            page=page,
            tables=tables,
            pairs=pairs,
            controls=list(dict.fromkeys(page.arms[pair.first] for pair in pairs)),
            charts=[lay_out(curve) for curve in page.curves],
            pictured=[] if page.pictures is None else _pictured(page.pictures, level),
            **_legend(page.pictures),
        )
        if len(text.encode()) <= largest:
            break
    write_text(path, text)
    return path


def _pictured(pictures: StudyPictures, level: Level) -> list[PicturedCase]:
    album = Album(level, pictures.palette, pictures.ignore_index)
    found = []
    for case in pictures.cases:
        photo = album.pictures[album.add_photo(case.image)]
        maps = [
            *([] if case.label is None else [("Label", case.label)]),
            *zip(pictures.arms, case.predictions, strict=True),
        ]
        shown = [(caption, album.pictures[album.add_mask(mask)]) for caption, mask in maps]
        result = outcomes(case.label, case.predictions, pictures.ignore_index)
        laid_over = album.pictures[album.add_outcomes(result)]
        found.append(PicturedCase(case, [("Photograph", photo), *shown, ("Difference", photo)], laid_over))
    return found


def _legend(pictures: StudyPictures | None) -> dict[str, object]:
    """Words and colours of the difference pictures, and colours of the classes."""
    if pictures is None:
        return {"outcome_words": {}, "class_colours": []}
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in pictures.palette.tolist()]
    return {
        "outcome_words": {outcome.name.lower(): words for outcome, words in outcome_words(pictures.arms).items()},
        "class_colours": list(zip(pictures.class_names, colours, strict=False)),
    }


def _pairs(page: StudyPage) -> list[RunPair]:
    """Every pair of an arm and a control; the first one is `full` (or the last arm) against the base."""
    held = [(control, arm) for control, by_arm in page.verdicts.items() for arm in by_arm]
    held.sort(key=lambda pair: pair != (page.arms[0], subject_of(page.arms)))
    return [
        RunPair(
            page.arms.index(control),
            page.arms.index(arm),
            page.verdicts[control][arm],
            [_number(measure, control, page.arms.index(arm)) for measure in page.measures],
            [_number(measure, control, page.arms.index(arm)) for measure in page.classes],
        )
        for control, arm in held
    ]


def _number(measure: MeasureOfArms, control: str, arm: int) -> Number:
    """A measure with the means of all arms as values, and the difference of one arm to a control."""
    found = measure.differences[control][arm] if control in measure.differences else None
    return Number(
        measure.name,
        measure.unit,
        measure.higher_is_better,
        measure.means(),
        difference=None if found is None else found.value,
        difference_interval=None if found is None else found.interval,
        card=measure.card,
    )


def _rows(measure: MeasureOfArms) -> list[ArmRow]:
    known = [[value for value in values if value is not None and not is_missing(value)] for values in measure.seeds]
    everything = [value for values in known for value in values]
    low, high = min(everything, default=0.0), max(everything, default=1.0)

    def place(value: float) -> float:
        return 50.0 if high == low else round(4 + 92 * (value - low) / (high - low), 2)

    versus = _versus(measure)
    rows = []
    for arm, (values, middle) in enumerate(zip(known, measure.means(), strict=True)):
        rows.append(
            ArmRow(
                mean=middle,
                spread=stdev(values) if len(values) > 1 else None,
                count=len(values),
                dots=[place(value) for value in values],
                at=None if middle is None else place(middle),
                versus={control: column[arm] for control, column in versus.items()},
            )
        )
    return rows


def _versus(measure: MeasureOfArms) -> dict[str, list[tuple[Number, Forest | None] | None]]:
    """Differences to each control, laid out on one axis for all arms and controls."""
    numbers = {
        control: [None if each is None else _number(measure, control, arm) for arm, each in enumerate(differences)]
        for control, differences in measure.differences.items()
    }
    places = iter(forests([number for column in numbers.values() for number in column if number is not None]))
    return {
        control: [None if number is None else (number, next(places)) for number in column]
        for control, column in numbers.items()
    }
