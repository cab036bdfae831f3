"""`selfreg compare`: runs, or folders of predictions, on the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfreg.config import check_overrides
from selfreg.data import Source, check_same_classes
from selfreg.evaluation import CLASS_MEASURES, MEASURES, ImageResult, paired_differences, summarise
from selfreg.evaluation.measures import IN_VERDICT, Difference, verdict_in_words
from selfreg.inference.evaluate import effective_keys, label_folder
from selfreg.inference.kept_maps import predict_source
from selfreg.inference.scoring import score_folder
from selfreg.report.tables import Cell, TextTable, difference_cell, print_table
from selfreg.run import Run, Weights
from selfreg.terminal import PlainConsole

SMALL_PRINT = (
    "Intervals: 95 %, images resampled 1,000 times. They do not cover the variation between trainings with other seeds."
)


@dataclass(frozen=True)
class Side:
    """One run or one folder of predictions in a comparison.

    Attributes:
        name: Name in tables.
        folder: Folder with the index PNGs.
        results: Counts of every image.
        summary: Output of `summarise`.
        run: The run, if it is one.
    """

    name: str
    folder: Path
    results: list[ImageResult]
    summary: dict[str, Any]
    run: Run | None = None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Classes that the indices of the PNGs stand for; None if they are those of the label maps."""
        return None if self.run is None else self.run.info().class_names


@dataclass(frozen=True)
class Comparison:
    """Several sides on the same images.

    Attributes:
        source: Images and labels.
        split: Name of the split.
        sides: The sides; the first one is the reference.
        differences: For each side after the first, `paired_differences` to the first.
    """

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
    """Predict (if needed), score and compare runs on one split.

    Args:
        folders: Folders of the runs.
        split: Name of the split; by default the validation split.
        which: Weights to use.
        overrides: `section.key=value`, for all runs.
        allow_code: Whether custom network code may be executed.

    Raises:
        ValueError: If there are fewer than two runs, or their classes differ.
    """
    runs = [Run.open(folder, allow_code=allow_code) for folder in folders]
    _require_two(folders)
    check_overrides(overrides, effective_keys(split), "compare")
    config = runs[0].config(overrides)
    split = split or config.data.val_split
    source = runs[0].source(split, overrides)
    for run in runs[1:]:
        check_same_classes(source.labels.class_names, run.info().class_names, f"{run.folder}: the run")
    predictions = [predict_source(run, source, config.data, split, which, settings=config.validation) for run in runs]
    return _compare(source, split, _names(folders), predictions, runs)


def measure_run(run: Run) -> Comparison:
    """Predict (if needed) and score a run on its validation split, as a comparison with one side."""
    config = run.config()
    split = config.data.val_split
    source = run.source(split)
    predictions = predict_source(run, source, config.data, split, settings=config.validation)
    return _compare(source, split, [run.name], [predictions], [run])


def compare_folders(
    folders: Sequence[Path],
    labels: Path,
    num_classes: int,
    *,
    ignore_index: int = 255,
    background: int | None = None,
    images: Path | None = None,
) -> Comparison:
    """Score and compare folders of index PNGs, from any framework.

    Args:
        folders: Folders of predictions; file names equal those of the label maps.
        labels: Folder of label maps.
        num_classes: Number of classes K.
        ignore_index: Value of void in the label maps.
        background: Index of the class without objects, if there is one.
        images: Folder of photographs for the page.

    Raises:
        ValueError: If there are fewer than two folders, or files do not match.
    """
    _require_two(folders)
    source = label_folder(labels, num_classes, ignore_index, background, images=images)
    return _compare(source, labels.name, _names(folders), folders, [None] * len(folders))


def _require_two(folders: Sequence[Path]) -> None:
    if len(folders) < 2:
        raise ValueError("compare needs two runs or more")
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError("compare was given the same folder twice; give different runs")


def _names(folders: Sequence[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _compare(
    source: Source, split: str, names: Sequence[str], folders: Sequence[Path], runs: Sequence[Run | None]
) -> Comparison:
    sides = []
    for name, folder, run in zip(names, folders, runs, strict=True):
        class_names = None if run is None else run.info().class_names
        results = score_folder(source, folder, class_names=class_names, description=f"scoring {name}")
        sides.append(Side(name, folder, results, summarise(results, source.labels.class_names), run))
    differences = [paired_differences(sides[0].results, side.results) for side in sides[1:]]
    return Comparison(source, split, sides, differences)


def print_comparison(comparison: Comparison, console: PlainConsole | None = None) -> None:
    """Print the measures with paired differences, the IoU of each class, and the verdict."""
    console = console or PlainConsole()
    print_table(_measure_table(comparison), console)
    print_table(_class_table(comparison), console)
    for sentence in verdict_sentences(comparison):
        console.print(sentence, highlight=False)
    console.print(SMALL_PRINT, highlight=False)


def verdict_sentences(comparison: Comparison) -> list[str]:
    """One sentence for each side after the first: in which measures it is better or worse than the first."""
    base, *others = comparison.sides
    return [sentence_of(side, base, entries) for side, entries in zip(others, comparison.differences, strict=True)]


def sentence_of(side: Side, base: Side, entries: Mapping[str, Mapping[str, Any]]) -> str:
    """Say in which measures a side is better and worse than another.

    Args:
        side: The side.
        base: The side it is compared with.
        entries: Output of `paired_differences`.
    """
    known = [difference_in(entries, key) for key in IN_VERDICT]
    return f"{side.name} against {base.name}: {verdict_in_words([each for each in known if each])}."


def difference_in(entries: Mapping[str, Mapping[str, Any]], key: str) -> Difference | None:
    """One measure of the output of `paired_differences`; None if it is not defined."""
    entry = entries.get(key)
    return None if entry is None else Difference(MEASURES[key], entry["difference"], entry["low"], entry["high"])


def _measure_table(comparison: Comparison) -> TextTable:
    sides = comparison.sides
    names = [f"{side.name} - {sides[0].name}" if len(sides) > 2 else "difference" for side in sides[1:]]
    rows = []
    for key, measure in MEASURES.items():
        values = [side.summary.get(key) for side in sides]
        if any(value is not None for value in values):
            differences = [difference_cell(difference_in(entries, key)) for entries in comparison.differences]
            rows.append(
                (Cell(f"{measure.title} {measure.arrow}"), *(Cell(measure.text(each)) for each in values), *differences)
            )
    if all(side.run is not None and side.run.summary() for side in sides):
        seconds = [(side.run.summary() or {}).get("seconds", 0.0) for side in sides if side.run]
        ratios = [Cell(f"x {each / seconds[0]:.2f}" if seconds[0] else "") for each in seconds[1:]]
        rows.append((Cell("training time, s"), *(Cell(f"{each:.0f}") for each in seconds), *ratios))
    return TextTable(
        f"{comparison.split}: {len(comparison.source)} images, difference with 95 % interval",
        ("", *(side.name for side in sides), *names),
        rows,
    )


def _class_table(comparison: Comparison) -> TextTable:
    iou = CLASS_MEASURES["per_class_iou"]
    rows = [
        (Cell(name), *(Cell(iou.text(side.summary[iou.key][index])) for side in comparison.sides))
        for index, name in enumerate(comparison.source.labels.class_names)
    ]
    return TextTable("IoU per class", ("class", *(side.name for side in comparison.sides)), rows)
