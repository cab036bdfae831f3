"""`selfreg compare`: runs, or folders of predictions, on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from selfreg.data import Source
from selfreg.evaluation import HIGHER_IS_BETTER, ImageResult, paired_differences, summarise
from selfreg.inference.evaluate import COUNTS, TITLES, label_folder, predict_source, shown
from selfreg.inference.scoring import score_folder
from selfreg.run import Run, Weights


@dataclass(frozen=True)
class Side:
    """One of the things compared: its name, its index PNGs, every image's counts, and its run where it is one."""

    name: str
    folder: Path
    results: list[ImageResult]
    summary: dict[str, Any]
    run: Run | None = None


@dataclass(frozen=True)
class Comparison:
    """Sides on the same images; `differences[i]` holds side i + 1 against the first (see `paired_differences`)."""

    source: Source
    split: str
    sides: list[Side]
    differences: list[dict[str, dict[str, Any]]]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "split": self.split,
            "num_images": len(self.source),
            "runs": {side.name: side.summary for side in self.sides},
            "differences": {
                f"{side.name} - {self.sides[0].name}": difference
                for side, difference in zip(self.sides[1:], self.differences, strict=True)
            },
        }


def compare_runs(
    folders: Sequence[Path],
    *,
    split: str | None = None,
    which: Weights = "last",
    overrides: Sequence[str] = (),
    allow_code: bool = False,
) -> Comparison:
    """Predict (where not done yet), score and compare runs on one split.

    Raises ValueError for fewer than two runs, or runs of other classes.
    """
    runs = [Run.open(folder, allow_code=allow_code) for folder in folders]
    _require_two(folders)
    config = runs[0].config(overrides)
    split = split or config.data.val_split
    source = runs[0].source(split, overrides)
    for run in runs[1:]:
        if run.info().class_names != runs[0].info().class_names:
            raise ValueError(f"{run.folder}: has other classes than {runs[0].folder}; compare runs on the same data")
    predictions = [predict_source(run, source, config.data, split, which) for run in runs]
    return _compare(source, split, _names(folders), predictions, runs)


def compare_folders(
    folders: Sequence[Path],
    labels: Path,
    num_classes: int,
    *,
    ignore_index: int = 255,
    background: int | None = None,
    images: Path | None = None,
) -> Comparison:
    """Score and compare folders of index PNGs, from any framework, against a folder of label maps of the same names."""
    _require_two(folders)
    source = label_folder(labels, num_classes, ignore_index, background, images=images)
    return _compare(source, labels.name, _names(folders), folders, [None] * len(folders))


def _require_two(folders: Sequence[Path]) -> None:
    if len(folders) < 2:
        raise ValueError("compare needs two runs or more")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError("compare was given one folder twice")


def _names(folders: Sequence[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _compare(
    source: Source, split: str, names: Sequence[str], folders: Sequence[Path], runs: Sequence[Run | None]
) -> Comparison:
    sides = []
    for name, folder, run in zip(names, folders, runs, strict=True):
        results = score_folder(source, folder, description=f"scoring {name}")
        sides.append(Side(name, folder, results, summarise(results, source.labels.class_names), run))
    differences = [paired_differences(sides[0].results, side.results) for side in sides[1:]]
    return Comparison(source, split, sides, differences)


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """The headline numbers side by side with paired differences, the classes' IoU, and what it says in words."""
    console = console or Console()
    console.print(_headline_table(comparison))
    console.print(_class_table(comparison))
    for side, difference in zip(comparison.sides[1:], comparison.differences, strict=True):
        console.print(_in_words(side.name, comparison.sides[0].name, difference))


def _headline_table(comparison: Comparison) -> Table:
    sides = comparison.sides
    table = Table("", title=f"{comparison.split}: {len(comparison.source)} images, difference with 95 % interval")
    for side in sides:
        table.add_column(side.name, justify="right")
    for side in sides[1:]:
        table.add_column(f"{side.name} - {sides[0].name}" if len(sides) > 2 else "difference", justify="right")
    for name in HIGHER_IS_BETTER:
        if any(side.summary.get(name) is not None for side in sides):
            cells = [_difference(name, difference.get(name)) for difference in comparison.differences]
            table.add_row(TITLES[name], *(shown(name, side.summary.get(name)) for side in sides), *cells)
    if all(side.run is not None and side.run.summary() for side in sides):
        seconds = [(side.run.summary() or {}).get("seconds", 0.0) for side in sides if side.run]
        ratios = [f"x {each / seconds[0]:.2f}" if seconds[0] else "" for each in seconds[1:]]
        table.add_row("training time, s", *(f"{each:.0f}" for each in seconds), *ratios)
    return table


def _difference(name: str, entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    scale, digits = (1, 0) if name in COUNTS else (100, 1)
    low, value, high = (scale * entry[key] for key in ("low", "difference", "high"))
    colour = {"better": "green", "worse": "red"}.get(entry["verdict"], "dim")
    return f"[{colour}]{value:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})[/]"


def _class_table(comparison: Comparison) -> Table:
    table = Table("class", title="IoU per class")
    for side in comparison.sides:
        table.add_column(side.name, justify="right")
    for index, name in enumerate(comparison.source.labels.class_names):
        table.add_row(name, *(shown("iou", side.summary["per_class_iou"][index]) for side in comparison.sides))
    return table


def _in_words(name: str, base: str, differences: dict[str, dict[str, Any]]) -> str:
    main = {key: differences[key] for key in list(HIGHER_IS_BETTER)[:4] if key in differences}
    parts = []
    for verdict, words in (
        ("better", "better in"),
        ("worse", "worse in"),
        ("not distinguishable", "not distinguishable in"),
    ):
        named = [TITLES[key] for key, entry in main.items() if entry["verdict"] == verdict]
        if named:
            parts.append(f"{words} {', '.join(named)}")
    return (
        f"{name} against {base}: {'; '.join(parts)} (95 %, images resampled; one training each says nothing of seeds)."
    )
