"""A comparison as a page."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from selfreg.comparison.cases import choose_cases
from selfreg.comparison.compare import Comparison
from selfreg.evaluation import HIGHER_IS_BETTER
from selfreg.inference.evaluate import COUNTS, TITLES
from selfreg.report.content import Curve, Number, Page
from selfreg.report.page import write_page
from selfreg.run import Run

_HEADLINES = 10


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
        notes=[*notes, "Intervals: 95 %, images resampled 1,000 times. One training each says nothing of seeds."],
        commands=commands,
    )
    return write_page(page, path)


def _numbers(comparison: Comparison) -> list[Number]:
    last = comparison.differences[-1]
    numbers = []
    for name in list(HIGHER_IS_BETTER)[:_HEADLINES] + ["hallucinated_components"]:
        if comparison.sides[-1].summary.get(name) is None:
            continue
        scale = 1.0 if name in COUNTS else 100.0
        entry: dict[str, Any] = last.get(name, {})
        interval = (scale * entry["low"], scale * entry["high"]) if entry else None
        numbers.append(
            Number(
                name=TITLES[name],
                unit="" if name in COUNTS else "%",
                higher_is_better=HIGHER_IS_BETTER[name],
                values=tuple(_scaled(side.summary.get(name), scale) for side in comparison.sides),
                intervals=tuple(_interval(side.summary, name, scale) for side in comparison.sides),
                difference=scale * entry["difference"] if entry else None,
                difference_interval=interval,
            )
        )
    return numbers


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


def _interval(summary: dict[str, Any], name: str, scale: float) -> tuple[float, float] | None:
    found = summary["intervals"].get(name)
    return None if found is None or None in found else (scale * found[0], scale * found[1])


def _recall_curve(comparison: Comparison) -> Curve:
    edges = comparison.sides[0].summary["size_edges"]
    # a bucket is drawn at the geometric middle of its edges; the first and last are open
    inner = [(low * high) ** 0.5 for low, high in pairwise(edges)]
    middles = (edges[0] / 3**0.5, *inner, min(edges[-1] * 3**0.5, 1.0))
    lines = {
        side.name: tuple(_scaled(value, 100) for value in side.summary["recall_by_size"]) for side in comparison.sides
    }
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
    lines = {name: tuple(_scaled(history.get(epoch), 100) for epoch in epochs) for name, history in histories.items()}
    return [Curve("mIoU while training", "epoch", "mIoU, %", tuple(float(epoch + 1) for epoch in epochs), lines)]
