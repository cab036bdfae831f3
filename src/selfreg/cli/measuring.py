"""Verbs that evaluate: evaluate, compare."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from selfreg.cli.app import app
from selfreg.cli.options import (
    AllowCode,
    AsJson,
    Background,
    Flip,
    IgnoreIndex,
    LabelMaps,
    NumClasses,
    Predictions,
    Scales,
    Set,
    Shard,
    Tile,
    Which,
    numbers,
    open_run,
    print_json,
    weights_named,
)
from selfreg.messages import command_line, say


@app.command()
def evaluate(
    run: Annotated[Path | None, typer.Argument(help="Folder of a run.")] = None,
    split: Annotated[str | None, typer.Option(help="Split to evaluate (default: the run's validation split).")] = None,
    weights: Which = "last",
    overrides: Set = None,
    scales: Scales = None,
    flip: Flip = False,
    tile: Tile = None,
    predictions: Predictions = None,
    labels: LabelMaps = None,
    num_classes: NumClasses = None,
    ignore_index: IgnoreIndex = 255,
    background: Background = None,
    submission_format: Annotated[
        str | None, typer.Option("--format", help="cityscapes: write labelIds for its server to OUT, measure nothing.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the files of --format.")] = None,
    confusion: Annotated[bool, typer.Option("--confusion", help="Also print the confusion matrix.")] = False,
    allow_code: AllowCode = False,
    shard: Shard = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a run (also written to RUN/evaluation/SPLIT.json), or index PNGs of any program.

    With --shard only a part of the split is predicted; when all parts are done, run the command without --shard.
    --scales, --flip and --tile set the keys of the section `validation`.
    """
    if run is None and (predictions is None or labels is None or num_classes is None):
        raise ValueError("give a run, or --predictions with --labels and --num-classes")
    overrides = [*(overrides or ()), *_validation_overrides(scales, flip, tile)]
    _refuse_without_effect(
        run,
        of_runs={"--split": split, "--set, --scales, --flip or --tile": overrides, "--format": submission_format}
        | {"--shard": shard, "--weights": None if weights == "last" else weights},
        of_folders={"--predictions": predictions, "--labels": labels, "--num-classes": num_classes}
        | {"--background": background, "--ignore-index": None if ignore_index == 255 else ignore_index},
    )
    _check_submission(submission_format, out, shard)
    if run is None:
        assert predictions is not None
        assert labels is not None
        assert num_classes is not None
        from selfreg.inference.evaluate import evaluate_folders, print_confusion, print_table

        result = evaluate_folders(predictions, labels, num_classes, ignore_index=ignore_index, background=background)
    else:
        open_run(run)
        options: dict[str, Any] = {"split": split, "which": weights_named(weights), "overrides": overrides}
        options["allow_code"] = allow_code
        if out is not None:
            from selfreg.inference.submission import write_cityscapes_submission

            written = write_cityscapes_submission(run, out, **options)
            if as_json:
                print_json({"folder": str(out), "files": written})
            else:
                say(f"{written} label maps in {out}")
            return
        from selfreg.inference.evaluate import evaluate_run, predict_shard, print_confusion, print_table

        if shard is not None:
            predict_shard(run, shard, **options)
            say(f"predicted part {shard}; when all parts are done: {command_line('selfreg', 'evaluate', run)}")
            return
        result = evaluate_run(run, **options)
    if as_json:
        print_json(result)
    else:
        print_table(result)
        if confusion:
            print_confusion(result)


def _check_submission(submission_format: str | None, out: Path | None, shard: str | None) -> None:
    """Raise ValueError for an unknown format, or options that do not belong together."""
    if submission_format not in (None, "cityscapes"):
        raise ValueError(f"--format {submission_format}: use cityscapes")
    if (submission_format is None) != (out is None):
        raise ValueError("--format cityscapes and --out FOLDER belong together: give both or neither")
    if submission_format is not None and shard is not None:
        raise ValueError("--format writes the whole split: leave out --shard")


def _validation_overrides(scales: str | None, flip: bool, tile: int | None) -> list[str]:
    """The keys of the section `validation` that the options --scales, --flip and --tile stand for."""
    given = [] if scales is None else [f"validation.scales={list(numbers(scales, '--scales'))}"]
    return given + ["validation.flip=true"] * flip + ([] if tile is None else [f"validation.tile={tile}"])


def _refuse_without_effect(run: Path | None, of_runs: Mapping[str, Any], of_folders: Mapping[str, Any]) -> None:
    """Raise ValueError for an option of runs that is given for folders of index PNGs, and the other way round."""
    others = of_runs if run is None else of_folders
    for option, value in others.items():
        if value is not None and value != []:
            what = "folders of index PNGs" if run is None else f"the run {run}"
            raise ValueError(f"{option}: has no effect on {what}; leave it out")


@app.command()
def compare(
    sides: Annotated[list[Path], typer.Argument(help="Runs, or folders of index PNGs with --labels.")],
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to compare on (default: the first run's validation split).")
    ] = None,
    weights: Which = "last",
    overrides: Set = None,
    labels: LabelMaps = None,
    images: Annotated[Path | None, typer.Option(help="Folder of photographs, for the page.")] = None,
    num_classes: NumClasses = None,
    ignore_index: IgnoreIndex = 255,
    background: Background = None,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Compare runs, or index PNGs of any program, on the same images: paired differences with 95 % intervals."""
    _refuse_without_effect(
        sides[0] if labels is None else None,
        of_runs={"--split": split, "--set": overrides, "--weights": None if weights == "last" else weights},
        of_folders={"--num-classes": num_classes, "--background": background, "--images": images}
        | {"--ignore-index": None if ignore_index == 255 else ignore_index},
    )
    if labels is None:
        for side in sides:
            open_run(side)
    from selfreg.comparison.compare import compare_folders, compare_runs, print_comparison
    from selfreg.comparison.page import write_comparison

    if labels is None:
        result = compare_runs(
            sides, split=split, which=weights_named(weights), overrides=overrides or (), allow_code=allow_code
        )
    elif num_classes is None:
        raise ValueError("--labels needs --num-classes")
    else:
        result = compare_folders(
            sides, labels, num_classes, ignore_index=ignore_index, background=background, images=images
        )
    if as_json:
        print_json(result.to_json())
    else:
        print_comparison(result)
    if html is not None:
        path = write_comparison(result, html)
        say(f"page: {path}", stderr=True)
