"""`selfreg evaluate`: the numbers of a run, or of anybody's index PNGs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from selfreg.config import DataConfig
from selfreg.data import Labels, Source
from selfreg.evaluation import CLASS_MEASURES, MEASURES, summarise
from selfreg.files import write_json, write_text
from selfreg.inference.predict import save_index_png, share_of
from selfreg.inference.predictor import predictor_of
from selfreg.inference.scoring import LabelFolder, prediction_path, score_folder
from selfreg.run import Run, Weights


def evaluate_run(
    folder: Path,
    *,
    split: str | None = None,
    which: Weights = "last",
    overrides: Sequence[str] = (),
    allow_code: bool = False,
) -> dict[str, Any]:
    """Predict and score a split; write and return RUN/evaluation/SPLIT.json.

    The numbers are those of `selfreg.evaluation.summarise`; beside them stand the split, the weights (last or best)
    and the data: kind, root and options of the section `data`.
    """
    run = Run.open(folder, allow_code=allow_code)
    config = run.config(overrides)
    split = split or config.data.val_split
    source = run.source(split, overrides)
    predictions = predict_source(run, source, config.data, split, which)
    result = summarise(score_folder(source, predictions), source.labels.class_names)
    result = {**result, "split": split, "weights": which, "data": _told(config.data)}
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
    run = Run.open(folder, allow_code=allow_code)
    data = run.config(overrides).data
    split = split or data.val_split
    return predict_source(run, run.source(split, overrides), data, split, which, share=share_of(shard))


def predict_source(
    run: Run, source: Source, data: DataConfig, split: str, which: Weights = "last", share: slice = slice(None)
) -> Path:
    """Index PNGs of a split, kept in the run's folder; those made from the same weights and data before are not redone.

    `data`: where `source` comes from. `share`: which of its images, for several processes that share a split out.
    """
    folder = run.prediction_folder(split, which)
    made_from = (run.weights_path(which), _note_data(folder, data))
    stamp = max(path.stat().st_mtime if path.exists() else 0.0 for path in made_from)
    todo = [
        index
        for index, image_id in list(enumerate(source.ids))[share]
        if not _is_newer(prediction_path(folder, image_id), stamp)
    ]
    if todo:
        predictor = predictor_of(run, which)
        palette = run.info().palette_array()
        for index in track(todo, "predicting", console=Console(stderr=True), transient=True):
            classes = predictor(source.read(index).image)
            save_index_png(prediction_path(folder, source.ids[index]), classes, palette)
    return folder


def _note_data(folder: Path, data: DataConfig) -> Path:
    """The file beside the class maps that says which data they are of; it is as old as what it says."""
    path = folder / "data.json"
    said = json.dumps(_told(data), sort_keys=True) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8", errors="replace") != said:
        write_text(path, said)
    return path


def _told(data: DataConfig) -> dict[str, Any]:
    """Which data numbers and class maps are of."""
    root = None if data.root is None else str(data.root.resolve())
    return {"kind": data.kind, "root": root, "options": data.model_dump(mode="json")["options"]}


def _is_newer(path: Path, stamp: float) -> bool:
    return path.exists() and path.stat().st_mtime > stamp


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


def print_table(result: dict[str, Any], console: Console | None = None) -> None:
    """Print every measure with its interval, then the measures of each class."""
    console = console or Console()
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
