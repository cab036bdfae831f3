"""The page of a study: arms against measures over several seeds, differences to the controls, curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from selfreg.files import write_text
from selfreg.report.charts import Forest, forests, lay_out
from selfreg.report.content import Curve, Interval, Number, is_missing
from selfreg.report.rendering import decimals, render


@dataclass(frozen=True)
class ArmDifference:
    """One arm minus a control, paired: the mean and its 95 % interval, None where it is not known."""

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class MeasureOfArms:
    """One quantity over all arms, in the unit given: 63.2 with unit "%" reads "63.2 %".

    seeds: for each arm its values, one per seed, None for a run that is missing.
    differences: for each control (the name of an arm), each arm's difference to it; None for the control itself.
    """

    name: str
    unit: str
    higher_is_better: bool
    seeds: Sequence[Sequence[float | None]]
    differences: Mapping[str, Sequence[ArmDifference | None]]


@dataclass(frozen=True)
class StudyPage:
    """Everything on the page of a study; the first arm is the base.

    Raises ValueError where a measure has not one entry per arm, or a control is no arm.
    """

    title: str
    subtitle: str
    arms: tuple[str, ...]
    measures: Sequence[MeasureOfArms]
    curves: Sequence[Curve] = ()
    notes: Sequence[str] = ()
    commands: Sequence[str] = ()

    def __post_init__(self) -> None:
        for measure in self.measures:
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
    """An arm under one measure: mean, spread, the seeds' places in percent of a common axis, and its differences."""

    mean: float | None
    spread: float | None
    count: int
    dots: list[float]
    at: float | None
    versus: list[tuple[Number, Forest | None] | None]


def write_study_page(page: StudyPage, path: Path) -> Path:
    """Write the page of a study as one HTML file that needs no network, whole or not at all; return its path."""
    tables = []
    for measure in page.measures:
        places = decimals([value for values in measure.seeds for value in values], measure.unit)
        tables.append((measure, places, _rows(measure)))
    charts = [lay_out(curve) for curve in page.curves]
    write_text(path, render("study.html.j2", page=page, tables=tables, charts=charts))
    return path


def _rows(measure: MeasureOfArms) -> list[ArmRow]:
    known = [[value for value in values if value is not None and not is_missing(value)] for values in measure.seeds]
    everything = [value for values in known for value in values]
    low, high = min(everything, default=0.0), max(everything, default=1.0)

    def place(value: float) -> float:
        return 50.0 if high == low else round(4 + 92 * (value - low) / (high - low), 2)

    versus = _versus(measure)
    rows = []
    for arm, values in enumerate(known):
        middle = mean(values) if values else None
        rows.append(
            ArmRow(
                mean=middle,
                spread=stdev(values) if len(values) > 1 else None,
                count=len(values),
                dots=[place(value) for value in values],
                at=None if middle is None else place(middle),
                versus=[column[arm] for column in versus],
            )
        )
    return rows


def _versus(measure: MeasureOfArms) -> list[list[tuple[Number, Forest | None] | None]]:
    """Turn each control's differences into numbers with their place on one axis for all arms and controls."""
    numbers = [
        None
        if difference is None
        else Number(measure.name, measure.unit, measure.higher_is_better, (), (), difference.value, difference.interval)
        for differences in measure.differences.values()
        for difference in differences
    ]
    places = iter(forests([number for number in numbers if number is not None]))
    cells = [None if number is None else (number, next(places)) for number in numbers]
    arms = len(measure.seeds)
    return [cells[start : start + arms] for start in range(0, len(cells), arms)]
