"""The results of a study as terminal and Markdown tables, as a page, and as sentences."""

from math import isnan
from statistics import median

from selfreg.evaluation.measures import (
    CLASS_MEASURES,
    HEADLINES,
    IN_VERDICT,
    Difference,
    Measure,
    verdict_in_words,
)
from selfreg.report.content import Curve
from selfreg.report.depth import depth_curve
from selfreg.report.study_page import ArmDifference, MeasureOfArms, StudyPage, StudyPictures
from selfreg.report.tables import Cell, TextTable, difference_cell, markdown_table, print_table
from selfreg.study.intervals import PairedDifference, mean_and_spread
from selfreg.study.results import ArmResult, StudyResult
from selfreg.terminal import PlainConsole


def make_tables(result: StudyResult) -> list[TextTable]:
    """Make a table of means, standard deviations and cost, then one of differences per control; columns are arms."""
    arms = result.arms
    means = [(Cell("seeds"), *(Cell(str(len(each.scores))) for each in arms))]
    means += [(_title(measure), *(_mean_cell(result, each, measure) for each in arms)) for measure in HEADLINES]
    means += [(Cell("training"), *(_cost_cell(result, each) for each in arms))]
    tables = [
        TextTable(
            f"{result.config.data.val_split}: {result.num_images} images, mean over seeds ± standard deviation",
            ("", *(each.arm.name for each in arms)),
            means,
        )
    ]
    for control, by_arm in result.differences.items():
        rows = [
            (_title(measure), *(difference_cell(_difference(entries, measure)) for entries in by_arm.values()))
            for measure in HEADLINES
        ]
        if by_arm:
            interval = "" if result.confidence is None else ", with 95 % interval"
            tables.append(TextTable(f"difference to {control}{interval}", ("", *by_arm), rows))
    return tables


def _title(measure: Measure) -> Cell:
    return Cell(f"{measure.title} {measure.arrow}")


def _mean_cell(result: StudyResult, arm: ArmResult, measure: Measure) -> Cell:
    middle, spread = mean_and_spread([arm.value(measure.key, seed) for seed in result.seeds])
    return Cell(measure.text(middle) + ("" if spread is None else f" ± {measure.text(spread)}"))


def _cost_cell(result: StudyResult, arm: ArmResult) -> Cell:
    cost = result.relative_cost(arm)
    return Cell("-") if cost is None else Cell(f"{median(arm.seconds.values()):.0f} s", f"x {cost:.2f}")


def _difference(entries: dict[str, PairedDifference], measure: Measure) -> Difference | None:
    entry = entries.get(measure.key)
    return None if entry is None else Difference(measure, entry.value, entry.low, entry.high)


def verdicts(result: StudyResult) -> dict[str, dict[str, str]]:
    """One sentence by control and arm: in which measures the arm is better and worse than the control."""
    sentences: dict[str, dict[str, str]] = {}
    for control, by_arm in result.differences.items():
        sentences[control] = {}
        for arm, entries in by_arm.items():
            known = [each for measure in HEADLINES if (each := _difference(entries, measure))]
            if known:
                seeds = max(len(entries[each.measure.key].seeds) for each in known)
                counted = f"{seeds} seeds" if seeds > 1 else "1 seed, which cannot show how trainings differ"
                words = f"({counted}): {verdict_in_words(known)}."
            else:
                words = ": no seed was trained for both, so they cannot be compared."
            sentences[control][arm] = f"{arm} against {control} {words}".replace(" : ", ": ")
    return sentences


def in_words(result: StudyResult) -> list[str]:
    """The verdict for each arm and control, then remarks on the intervals and on failed runs."""
    return [*(words for by_arm in verdicts(result).values() for words in by_arm.values()), *_small_print(result)]


def _small_print(result: StudyResult) -> list[str]:
    failed = (f"The run {name} failed and is not included: {words}" for name, words in result.failures.items())
    return [result.coverage, *failed]


def print_study(result: StudyResult, console: PlainConsole) -> None:
    """Print all tables and the verdicts."""
    for table in make_tables(result):
        print_table(table, console)
    for sentence in in_words(result):
        console.print(sentence, highlight=False)


def markdown(result: StudyResult, command: str) -> str:
    """Format the tables and the verdicts as Markdown; differences whose interval excludes 0 are bold."""
    lines = ["# Study", "", f"`{command}`", ""]
    for table in make_tables(result):
        lines += [*markdown_table(table), ""]
    lines += [
        "Rates, IoU and accuracy in percent, differences in percentage points; ↑ higher, ↓ lower is better.",
        "",
    ]
    return "\n".join(lines + [f"- {sentence}" for sentence in in_words(result)]) + "\n"


def study_page(result: StudyResult, command: str, pictures: StudyPictures | None = None) -> StudyPage:
    """Make the page: verdicts, measures with seeds and differences, training time, classes, pictures, curves."""
    config = result.config
    arms = [each.arm.name for each in result.arms]
    return StudyPage(
        title=f"Study: {', '.join(arms[1:])} against {arms[0]}" if len(arms) > 1 else f"Study of {arms[0]}",
        subtitle=f"{result.num_images} images of the split {config.data.val_split}",
        arms=tuple(arms),
        facts=[
            ("network", config.network.name),
            ("data", config.data.root.name if config.data.root else config.data.kind),
            ("length", config.training.length),
            ("seeds", ", ".join(map(str, result.seeds))),
        ],
        verdicts=verdicts(result),
        measures=[*(_page_measure(result, measure) for measure in HEADLINES), _page_time(result)],
        classes=_page_classes(result),
        curves=_page_curves(result) + depth_curve({arm.arm.name: arm.miou_by_depth for arm in result.arms}),
        notes=_small_print(result),
        commands=[command],
        pictures=pictures,
    )


def _page_measure(result: StudyResult, measure: Measure) -> MeasureOfArms:
    values = [[_scaled(measure, arm.value(measure.key, seed)) for seed in result.seeds] for arm in result.arms]
    differences = {
        control: [_arm_difference(measure, by_arm.get(arm.arm.name, {}).get(measure.key)) for arm in result.arms]
        for control, by_arm in result.differences.items()
    }
    card = measure.key in IN_VERDICT[:3]
    return MeasureOfArms(measure.title, measure.unit, measure.higher_is_better, values, differences, card)


def _page_classes(result: StudyResult) -> list[MeasureOfArms]:
    iou = CLASS_MEASURES["per_class_iou"]
    classes = []
    for index, name in enumerate(result.class_names):
        values = [[_scaled(iou, arm.class_value(iou.key, seed, index)) for seed in result.seeds] for arm in result.arms]
        differences = {
            control: [_arm_difference(iou, by_class[index] if by_class else None) for by_class in columns]
            for control, columns in result.class_differences.items()
        }
        classes.append(MeasureOfArms(name, iou.unit, iou.higher_is_better, values, differences))
    return classes


def _scaled(measure: Measure, value: float | None) -> float | None:
    return None if value is None else measure.scaled(value)


def _arm_difference(measure: Measure, entry: PairedDifference | None) -> ArmDifference | None:
    if entry is None:
        return None
    interval = (measure.scaled(entry.low), measure.scaled(entry.high))
    return ArmDifference(measure.scaled(entry.value), None if isnan(entry.low) else interval)


def _page_time(result: StudyResult) -> MeasureOfArms:
    seconds = [[arm.seconds.get(seed) for seed in result.seeds] for arm in result.arms]
    return MeasureOfArms("training time", "s", False, seconds, {})


def _page_curves(result: StudyResult) -> list[Curve]:
    epochs = sorted({epoch for arm in result.arms for epoch in arm.curve})
    if len(epochs) < 2:
        return []
    lines = {
        arm.arm.name: tuple(100 * arm.curve[epoch] if epoch in arm.curve else None for epoch in epochs)
        for arm in result.arms
    }
    title = "validation mIoU by epoch, mean over seeds"
    return [Curve(title, "epoch", "mIoU, %", tuple(float(epoch + 1) for epoch in epochs), lines)]
