"""`selfreg evaluate`: the numbers of a run, or of anybody's index PNGs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from selfreg.config import check_overrides
from selfreg.data import Labels
from selfreg.evaluation import CLASS_MEASURES, MEASURES, summarise
from selfreg.files import output_folder, write_json
from selfreg.inference.kept_maps import data_settings, predict_source
from selfreg.inference.predict import share_of
from selfreg.inference.scoring import LabelFolder, score_folder
from selfreg.run import Run, Weights
from selfreg.terminal import PlainConsole

# a block of the confusion matrix is 4 + 16 characters of names and 4 of each column
_NAME_LENGTH = 16
_CONFUSION_COLUMNS = 14


def effective_keys(split: str | None) -> list[str]:
    """Keys of the configuration that change the metrics of a trained run: which data, and how they are predicted."""
    # with a split given, nothing asks the configuration for one
    return [
        "data.kind",
        "data.root",
        "data.options",
        "data.range",
        *([] if split else ["data.val_split"]),
        "validation",
    ]


def evaluate_run(
    folder: Path,
    *,
    split: str | None = None,
    which: Weights = "last",
    overrides: Sequence[str] = (),
    allow_code: bool = False,
) -> dict[str, Any]:
    """Predict and score a split; write and return RUN/evaluation/SPLIT.json.

    The numbers are those of `selfreg.evaluation.summarise`; beside them stand the split, the weights (last or best),
    the data (kind, root and options of the section `data`), and scales, flip and tile (the section `validation`).
    """
    check_overrides(overrides, effective_keys(split), "evaluate")
    run = Run.open(folder, allow_code=allow_code)
    config = run.config(overrides)
    split = split or config.data.val_split
    source = run.source(split, overrides)
    predictions = predict_source(run, source, config.data, split, which, settings=config.validation)
    result = summarise(score_folder(source, predictions), source.labels.class_names)
    settings = config.validation.model_dump(mode="json")
    result = {**result, "split": split, "weights": which, "data": data_settings(config.data), "validation": settings}
    with output_folder(run.folder):
        write_json(run.evaluation_path(split), result)
    return result


def predict_shard(
    folder: Path,
    shard: str,
    *,
    split: str | None = None,
    which: Weights = "last",
    overrides: Sequence[str] = (),
    allow_code: bool = False,
) -> Path:
    """Make one part's predictions of a split and no numbers: `evaluate_run` finds them when all parts are done."""
    check_overrides(overrides, effective_keys(split), "evaluate")
    run = Run.open(folder, allow_code=allow_code)
    config = run.config(overrides)
    split = split or config.data.val_split
    source = run.source(split, overrides)
    return predict_source(run, source, config.data, split, which, share_of(shard), config.validation)


def evaluate_folders(
    predictions: Path,
    labels: Path,
    num_classes: int,
    *,
    ignore_index: int = 255,
    background: int | None = None,
    class_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Score a folder of index PNGs against label maps of the same names. Raises ValueError as `score_folder` does."""
    source = label_folder(labels, num_classes, ignore_index, background, class_names)
    return summarise(score_folder(source, predictions), source.labels.class_names)


def label_folder(
    folder: Path,
    num_classes: int,
    ignore_index: int = 255,
    background: int | None = None,
    class_names: Sequence[str] | None = None,
    images: Path | None = None,
) -> LabelFolder:
    """Label maps in a folder as a source; `background` is the index of the class without objects."""
    if not 1 <= num_classes <= 254:
        raise ValueError(f"--num-classes {num_classes}: give between 1 and 254")
    names = list(class_names) if class_names else [f"class {index}" for index in range(num_classes)]
    if background is not None:
        if not 0 <= background < num_classes:
            raise ValueError(f"--background {background}: is none of 0..{num_classes - 1}")
        if not class_names:
            names[background] = "background"
        return LabelFolder(folder, Labels(tuple(names), ignore_index, background=background), images)
    return LabelFolder(folder, Labels(tuple(names), ignore_index), images)


def print_table(result: dict[str, Any], console: PlainConsole | None = None) -> None:
    """Print every measure with its interval, then the measures of each class."""
    console = console or PlainConsole()
    measured = Table("", "value", "95 % interval", title=f"{result['num_images']} images")
    for key, measure in MEASURES.items():
        if result.get(key) is not None:
            ends = result["intervals"].get(key)
            interval = f"{measure.text(ends[0])} to {measure.text(ends[1])}" if ends else ""
            measured.add_row(measure.title, measure.text(result[key]), interval)
    console.print(measured)
    classes = Table("class")
    for measure in CLASS_MEASURES.values():
        classes.add_column(measure.title, justify="right")
    for index, name in enumerate(result["class_names"]):
        classes.add_row(name, *(measure.text(result[key][index]) for key, measure in CLASS_MEASURES.items()))
    console.print(classes)


def print_confusion(result: dict[str, Any], console: PlainConsole | None = None) -> None:
    """Print the confusion matrix: for each label, the share of its pixels that each class was predicted for.

    Columns have the number of the class in place of its name and stand in blocks, so that 80 columns suffice for any
    number of classes. Shares are in per cent; those that round to 0 are left out.
    """
    console = console or PlainConsole()
    names = result["class_names"]
    counts = np.array(result["confusion_matrix"], dtype=np.float64)[:, : len(names)]
    totals = counts.sum(axis=1, keepdims=True)
    shares = 100 * np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    for first in range(0, len(names), _CONFUSION_COLUMNS):
        block = range(first, min(first + _CONFUSION_COLUMNS, len(names)))
        title = "confusion, % of the label's pixels" if not first else ""
        table = Table("label", box=None, padding=(0, 0, 0, 1), title=title)
        for column in block:
            table.add_column(str(column + 1), justify="right")
        for row, name in enumerate(names):
            cells = [f"{shares[row, column]:.0f}" if shares[row, column] >= 0.5 else "" for column in block]
            table.add_row(f"{row + 1:>3} {_shortened(name)}", *cells)
        console.print(table)


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"
