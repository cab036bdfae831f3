"""A study as tables on the terminal and in Markdown, as a page, and in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from selfreg.evaluation import HIGHER_IS_BETTER
from selfreg.inference.evaluate import COUNTS, TITLES, shown
from selfreg.report.content import Curve
from selfreg.report.study_page import Difference, Measure, StudyPage
from selfreg.study.intervals import PairedDifference, mean_and_spread
from selfreg.study.results import ArmResult, StudyResult

MEASURES = (
    "miou",
    "boundary_iou",
    "missed_unit_rate",
    "partial_mislabel_rate",
    "whole_object_errors",
    "pixel_accuracy",
    "hallucinated_components",
)
"""What the tables show; study.json holds every headline number."""

Verdict = Literal["better", "worse", "not distinguishable"]
_VERDICTS: tuple[Verdict, ...] = ("better", "worse", "not distinguishable")


@dataclass(frozen=True)
class Cell:
    """A number in words, what stands below it (an interval), and what the interval says."""

    text: str
    below: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class TextTable:
    """A table whose rows are arms."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


def make_tables(result: StudyResult) -> list[TextTable]:
    """Means with spread and cost, then the differences to each control."""
    titles = tuple(_title(measure) for measure in MEASURES)
    means = [
        (
            Cell(each.arm.name),
            Cell(str(len(each.scores))),
            *(_mean_cell(result, each, name) for name in MEASURES),
            _cost_cell(result, each),
        )
        for each in result.arms
    ]
    tables = [
        TextTable(
            f"{result.config.data.val_split}: {result.num_images} images, mean over seeds ± standard deviation",
            ("arm", "seeds", *titles, "training"),
            means,
        )
    ]
    for control, by_arm in result.differences.items():
        rows = [
            (Cell(arm), *(_difference_cell(name, entries.get(name)) for name in MEASURES))
            for arm, entries in by_arm.items()
        ]
        if rows:
            tables.append(TextTable(f"difference to {control}, with 95 % interval", ("arm", *titles), rows))
    return tables


def _title(measure: str) -> str:
    return f"{TITLES[measure].partition(' (')[0]} {'↑' if HIGHER_IS_BETTER[measure] else '↓'}"


def _mean_cell(result: StudyResult, arm: ArmResult, measure: str) -> Cell:
    middle, spread = mean_and_spread([arm.value(measure, seed) for seed in result.seeds])
    return Cell(shown(measure, middle) + ("" if spread is None else f" ± {shown(measure, spread)}"))


def _cost_cell(result: StudyResult, arm: ArmResult) -> Cell:
    cost = result.relative_cost(arm)
    return Cell("-") if cost is None else Cell(f"{median(arm.seconds.values()):.0f} s", f"x {cost:.2f}")


def _difference_cell(measure: str, entry: PairedDifference | None) -> Cell:
    if entry is None:
        return Cell("-")
    verdict = entry.verdict(HIGHER_IS_BETTER[measure])
    return Cell(_signed(measure, entry.value), _interval(measure, entry), verdict)


def _signed(measure: str, value: float) -> str:
    return f"{value:+.1f}" if measure in COUNTS else f"{100 * value:+.1f}"


def _interval(measure: str, entry: PairedDifference) -> str:
    return f"{_signed(measure, entry.low)} to {_signed(measure, entry.high)}"


def in_words(result: StudyResult) -> list[str]:
    """For each arm and control a sentence, what is and what is not distinguishable from zero; then the small print."""
    sentences = []
    for control, by_arm in result.differences.items():
        for arm, entries in by_arm.items():
            known = {name: entries[name] for name in MEASURES if name in entries}
            if not known:
                sentences.append(f"{arm} against {control}: no seed has both, so nothing can be said.")
                continue
            seeds = max(len(entry.seeds) for entry in known.values())
            parts = [part for verdict in _VERDICTS if (part := _part(known, verdict))]
            sentences.append(f"{arm} against {control} ({seeds} seed{'s' * (seeds > 1)}): {'; '.join(parts)}.")
    sentences.append(result.coverage)
    sentences.extend(f"The run {name} failed and is left out: {words}" for name, words in result.failures.items())
    return sentences


def _part(known: dict[str, PairedDifference], verdict: Verdict) -> str:
    named = {name: entry for name, entry in known.items() if entry.verdict(HIGHER_IS_BETTER[name]) == verdict}
    if not named:
        return ""
    if verdict == "not distinguishable":
        return f"not distinguishable from zero in {', '.join(TITLES[name] for name in named)}"
    amounts = (f"{TITLES[name]} ({_signed(name, entry.value)})" for name, entry in named.items())
    return f"{verdict} in {', '.join(amounts)}"


def print_study(result: StudyResult, console: Console) -> None:
    """All tables and the words."""
    colours = {"better": "green", "worse": "red", "not distinguishable": "dim"}
    for table in make_tables(result):
        printed = Table(title=table.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for index, column in enumerate(table.header):
            printed.add_column(column, justify="left" if index == 0 else "right", no_wrap=index == 0, overflow="fold")
        for row in table.rows:
            texts = ("\n".join(filter(None, (cell.text, cell.below))) for cell in row)
            printed.add_row(
                *(
                    f"[{colours[cell.verdict]}]{escape(text)}[/]" if cell.verdict else escape(text)
                    for cell, text in zip(row, texts, strict=True)
                )
            )
        console.print(printed)
    for sentence in in_words(result):
        console.print(sentence, markup=False, highlight=False)


def markdown(result: StudyResult, command: str) -> str:
    """The tables and the words in Markdown; bold differences are those whose interval leaves zero out."""
    lines = ["# Study", "", f"`{command}`", ""]
    for table in make_tables(result):
        lines += [f"**{table.title}**", "", _row(table.header), _row(["---"] * len(table.header))]
        lines += [_row([_markdown_cell(cell) for cell in row]) for row in table.rows]
        lines += [""]
    lines += ["Rates, IoU and accuracy in percent, their differences in points; ↑ higher, ↓ lower is better. ", ""]
    return "\n".join(lines + [f"- {sentence}" for sentence in in_words(result)]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.verdict in ("better", "worse") else cell.text
    return f"{text} ({cell.below})" if cell.below else text


def study_page(result: StudyResult, command: str) -> StudyPage:
    """The page: measures with their seeds and differences, training time, val mIoU by epoch."""
    seeds = ", ".join(map(str, result.seeds))
    return StudyPage(
        title="Study",
        subtitle=f"{result.num_images} images of the split {result.config.data.val_split}; seeds {seeds}",
        arms=tuple(each.arm.name for each in result.arms),
        measures=[*(_page_measure(result, name) for name in MEASURES), _page_time(result)],
        curves=_page_curves(result),
        notes=in_words(result),
        commands=[command],
    )


def _page_measure(result: StudyResult, name: str) -> Measure:
    scale = 1.0 if name in COUNTS else 100.0
    values = [
        [None if value is None else scale * value for value in (arm.value(name, seed) for seed in result.seeds)]
        for arm in result.arms
    ]
    differences: dict[str, list[Difference | None]] = {}
    for control, by_arm in result.differences.items():
        found = [by_arm.get(arm.arm.name, {}).get(name) for arm in result.arms]
        differences[control] = [
            None if entry is None else Difference(scale * entry.value, (scale * entry.low, scale * entry.high))
            for entry in found
        ]
    return Measure(TITLES[name], "" if name in COUNTS else "%", HIGHER_IS_BETTER[name], values, differences)


def _page_time(result: StudyResult) -> Measure:
    seconds = [[arm.seconds.get(seed) for seed in result.seeds] for arm in result.arms]
    return Measure("training time", "s", False, seconds, {})


def _page_curves(result: StudyResult) -> list[Curve]:
    epochs = sorted({epoch for arm in result.arms for epoch in arm.curve})
    if len(epochs) < 2:
        return []
    lines = {
        arm.arm.name: tuple(100 * arm.curve[epoch] if epoch in arm.curve else None for epoch in epochs)
        for arm in result.arms
    }
    title = "mIoU while training, mean over seeds"
    return [Curve(title, "epoch", "mIoU, %", tuple(float(epoch + 1) for epoch in epochs), lines)]
