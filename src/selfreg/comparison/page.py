"""A comparison as a page."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from selfreg.comparison.cases import choose_cases
from selfreg.comparison.compare import SMALL_PRINT, Comparison, difference_in
from selfreg.evaluation import HEADLINES, Measure
from selfreg.report.content import Curve, Number, Page
from selfreg.report.page import write_page
from selfreg.run import Run


def write_comparison(
    comparison: Comparison,
    path: Path,
    *,
    title: str = "Comparison",
    notes: Sequence[str] = (),
    commands: Sequence[str] = (),
    limit: int = 200,
) -> Path:
    """Write the page of a comparison, whole or not at all; return its path."""
    sides, labels = comparison.sides, comparison.source.labels
    page = Page(
        title=title,
        subtitle=f"{len(comparison.source)} images of the split {comparison.split}",
        run_names=tuple(side.name for side in sides),
        class_names=tuple(labels.class_names),
        palette=labels.palette,
        numbers=_numbers(comparison),
        per_class={side.name: side.summary["per_class_iou"] for side in sides},
        cases=choose_cases(comparison, limit),
        curves=[_recall_curve(comparison), *_training_curves(comparison)],
        notes=[*notes, SMALL_PRINT],
        commands=commands,
    )
    return write_page(page, path)


def _numbers(comparison: Comparison) -> list[Number]:
    last = comparison.differences[-1] if comparison.differences else {}
    numbers = []
    for measure in HEADLINES:
        if comparison.sides[-1].summary.get(measure.key) is None:
            continue
        difference = difference_in(last, measure.key)
        numbers.append(
            Number(
                name=measure.title,
                unit=measure.unit,
                higher_is_better=measure.higher_is_better,
                values=tuple(_scaled(side.summary.get(measure.key), measure) for side in comparison.sides),
                intervals=tuple(_interval(side.summary, measure) for side in comparison.sides),
                difference=measure.scaled(difference.value) if difference else None,
                difference_interval=(
                    (measure.scaled(difference.low), measure.scaled(difference.high)) if difference else None
                ),
            )
        )
    return numbers


def _scaled(value: float | None, measure: Measure) -> float | None:
    return None if value is None else measure.scaled(value)


def _interval(summary: dict[str, Any], measure: Measure) -> tuple[float, float] | None:
    found = summary["intervals"].get(measure.key)
    return None if found is None or None in found else (measure.scaled(found[0]), measure.scaled(found[1]))


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _recall_curve(comparison: Comparison) -> Curve:
    edges = comparison.sides[0].summary["size_edges"]
    # a bucket is drawn at the geometric middle of its edges; the first and last are open
    inner = [(low * high) ** 0.5 for low, high in pairwise(edges)]
    middles = (edges[0] / 3**0.5, *inner, min(edges[-1] * 3**0.5, 1.0))
    lines = {side.name: tuple(_percent(value) for value in side.summary["recall_by_size"]) for side in comparison.sides}
    return Curve(
        "Objects found, by their size",
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
    return [Curve("mIoU while training", "epoch", "mIoU, %", tuple(float(epoch + 1) for epoch in epochs), lines)]
