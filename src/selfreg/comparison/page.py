"""The page of a comparison."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from selfreg.comparison.cases import choose_cases
from selfreg.comparison.compare import SMALL_PRINT, Comparison, Side, difference_in, sentence_of
from selfreg.config import Config
from selfreg.evaluation import (
    CLASS_MEASURES,
    HEADLINES,
    MEASURES,
    Measure,
    paired_class_differences,
    paired_differences,
)
from selfreg.evaluation.measures import IN_VERDICT, Difference
from selfreg.report.content import Curve, ImageRow, Number, Page, RunPair
from selfreg.report.depth import depth_curve
from selfreg.report.page import write_page
from selfreg.run import Run

CARDS = IN_VERDICT[:3]
"""Keys of the measures that stand at the top of the page."""


def write_comparison(
    comparison: Comparison,
    path: Path,
    *,
    title: str | None = None,
    notes: Sequence[str] = (),
    commands: Sequence[str] = (),
    limit: int = 200,
    verdict: str = "",
) -> Path:
    """Write the page of a comparison, whole or not at all.

    Args:
        comparison: One side or more; any two of them can be chosen on the page.
        path: Path of the page.
        title: Title; by default it names the sides that are compared.
        notes: Paragraphs at the end of the page.
        commands: Commands that made the page.
        limit: Largest number of errors shown.
        verdict: Sentence in place of those that the differences give. The differences then have no intervals and none
            is marked as better or worse.

    Returns:
        `path`.
    """
    sides, labels = comparison.sides, comparison.source.labels
    pairs = _pairs(comparison)
    if verdict:
        pairs = [_undecided(pair, verdict) for pair in pairs]
    page = Page(
        title=title or " against ".join(filter(None, (", ".join(side.name for side in sides[1:]), sides[0].name))),
        subtitle=f"{len(comparison.source)} images of the split {comparison.split}",
        run_names=tuple(side.name for side in sides),
        class_names=tuple(labels.class_names),
        palette=labels.palette,
        facts=_facts(sides),
        numbers=pairs[0].numbers if pairs else _numbers_of(comparison, {}),
        pairs=pairs,
        verdict="" if pairs else _described(sides[0]),
        per_class={side.name: side.summary["per_class_iou"] for side in sides},
        labelled_classes=_labelled_classes(sides[0]),
        confusion={side.name: np.array(side.summary["confusion_matrix"])[:, : labels.num_classes] for side in sides},
        images=_images(comparison),
        cases=choose_cases(comparison, limit),
        curves=[_recall_curve(comparison), *_training_curves(comparison), *_depth_curve(comparison)],
        notes=[*notes, SMALL_PRINT],
        commands=commands,
    )
    return write_page(page, path)


def _pairs(comparison: Comparison) -> list[RunPair]:
    """Every later side against every earlier one, beginning with the last against the first."""
    sides = comparison.sides
    last = len(sides) - 1
    order = sorted(combinations(range(len(sides)), 2), key=lambda pair: (pair != (0, last), pair))
    return [_pair(comparison, first, second) for first, second in order]


def _pair(comparison: Comparison, first: int, second: int) -> RunPair:
    a, b = comparison.sides[first], comparison.sides[second]
    entries = paired_differences(a.results, b.results) if first else comparison.differences[second - 1]
    iou = CLASS_MEASURES["per_class_iou"]
    by_class = paired_class_differences(a.results, b.results)[iou.key]
    present = _labelled_classes(a)
    return RunPair(
        first,
        second,
        sentence_of(b, a, entries),
        _numbers_of(comparison, entries),
        [
            None
            if entry is None or not present[index]
            else _with_difference(
                Number("", iou.unit, iou.higher_is_better, ()),
                Difference(iou, entry["difference"], entry["low"], entry["high"]),
            )
            for index, entry in enumerate(by_class)
        ],
    )


def _undecided(pair: RunPair, verdict: str) -> RunPair:
    """A pair with another verdict, and differences without intervals."""
    numbers = [replace(number, difference_interval=None) for number in pair.numbers]
    classes = [number and replace(number, difference_interval=None) for number in pair.class_differences]
    return replace(pair, verdict=verdict, numbers=numbers, class_differences=classes)


def _numbers_of(comparison: Comparison, entries: Mapping[str, Mapping[str, Any]]) -> list[Number]:
    return [
        _number(comparison, measure, difference_in(entries, measure.key))
        for measure in HEADLINES
        if any(side.summary.get(measure.key) is not None for side in comparison.sides)
    ]


def _described(side: Side) -> str:
    """The most important measures of a single run in one sentence."""
    known = [MEASURES[key] for key in IN_VERDICT if side.summary.get(key) is not None]
    parts = (f"{each.title} {each.text(side.summary[each.key])}{' %' * (not each.is_count)}" for each in known)
    return f"{side.name}: {', '.join(parts)}."


def _number(comparison: Comparison, measure: Measure, difference: Difference | None) -> Number:
    number = Number(
        name=measure.title,
        unit=measure.unit,
        higher_is_better=measure.higher_is_better,
        values=tuple(_scaled(side.summary.get(measure.key), measure) for side in comparison.sides),
        intervals=tuple(_interval(side.summary, measure) for side in comparison.sides),
        card=measure.key in CARDS,
    )
    return number if difference is None else _with_difference(number, difference)


def _with_difference(number: Number, difference: Difference) -> Number:
    scaled = difference.measure.scaled
    interval = (scaled(difference.low), scaled(difference.high))
    return replace(number, difference=scaled(difference.value), difference_interval=interval)


def _facts(sides: Sequence[Side]) -> list[tuple[str, str]]:
    """Network, data, arm, length and seed of the runs; one value if all have the same, otherwise one for each."""
    configs = [side.run.config() for side in sides if side.run is not None]
    if len(configs) < len(sides):
        return []
    asked: dict[str, Callable[[Config], object]] = {
        "network": lambda config: config.network.name,
        "data": lambda config: config.data.root.name if config.data.root else config.data.kind,
        "arm": lambda config: config.method.arm,
        "length": lambda config: config.training.length,
        "seed": lambda config: config.seed,
    }
    facts = []
    for name, ask in asked.items():
        answers = [str(ask(config)) for config in configs]
        facts.append((name, answers[0] if len(set(answers)) == 1 else ", ".join(answers)))
    return facts


def _labelled_classes(side: Side) -> list[bool]:
    return [bool(count) for count in np.sum([result.pixels.labelled for result in side.results], axis=0)]


def _images(comparison: Comparison) -> list[ImageRow]:
    rows = []
    for index, image_id in enumerate(comparison.source.ids):
        results = [side.results[index] for side in comparison.sides]
        labelled = int(results[0].pixels.labelled.sum())
        failures = [result.failures for result in results]
        rows.append(
            ImageRow(
                image_id,
                tuple(100 * int(each.pixels.correct.sum()) / labelled if labelled else None for each in results),
                tuple(int(each.small_objects_missed.sum() + each.parts_missed.sum()) for each in failures),
                tuple(int(each.hallucinated.sum()) for each in failures),
            )
        )
    return rows


def _scaled(value: float | None, measure: Measure) -> float | None:
    return None if value is None else measure.scaled(value)


def _interval(summary: dict[str, Any], measure: Measure) -> tuple[float, float] | None:
    found = summary["intervals"].get(measure.key)
    return None if found is None or None in found else (measure.scaled(found[0]), measure.scaled(found[1]))


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _recall_curve(comparison: Comparison) -> Curve:
    edges = comparison.sides[0].summary["size_edges"]
    # a bucket is drawn at the geometric mean of its edges; the first and last are open
    inner = [(low * high) ** 0.5 for low, high in pairwise(edges)]
    middles = (edges[0] / 3**0.5, *inner, min(edges[-1] * 3**0.5, 1.0))
    lines = {side.name: tuple(_percent(value) for value in side.summary["recall_by_size"]) for side in comparison.sides}
    return Curve(
        "Objects found, by size",
        "size of the object, % of the image",
        "found, %",
        tuple(100 * middle for middle in middles),
        lines,
        logarithmic=True,
    )


def _training_curves(comparison: Comparison) -> list[Curve]:
    histories = {side.name: side.run.history("val/miou") for side in comparison.sides if isinstance(side.run, Run)}
    epochs = sorted({epoch for history in histories.values() for epoch in history})
    if len(epochs) < 2:
        return []
    lines = {name: tuple(_percent(history.get(epoch)) for epoch in epochs) for name, history in histories.items()}
    return [Curve("Validation mIoU by epoch", "epoch", "mIoU, %", tuple(float(epoch + 1) for epoch in epochs), lines)]


def _depth_curve(comparison: Comparison) -> list[Curve]:
    return depth_curve({side.name: side.run.miou_by_depth() for side in comparison.sides if isinstance(side.run, Run)})
