"""Verbs that evaluate: evaluate, compare."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from selfreg.cli.app import app
from selfreg.cli.options import (
    AllowCode,
    AsJson,
    Background,
    IgnoreIndex,
    LabelMaps,
    NumClasses,
    Predictions,
    Set,
    Shard,
    Which,
    open_run,
    print_json,
    weights_named,
)


@app.command()
def evaluate(
    run: Annotated[Path | None, typer.Argument(help="Folder of a run.")] = None,
    split: Annotated[str | None, typer.Option(help="Split to evaluate (default: the run's validation split).")] = None,
    weights: Which = "last",
    overrides: Set = None,
    predictions: Predictions = None,
    labels: LabelMaps = None,
    num_classes: NumClasses = None,
    ignore_index: IgnoreIndex = 255,
    background: Background = None,
    allow_code: AllowCode = False,
    shard: Shard = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a run (also written to RUN/evaluation/SPLIT.json), or index PNGs of any program.

    With --shard only a part of the split is predicted; when all parts are done, run the command without --shard.
    """
    if run is not None:
        open_run(run)
    from selfreg.inference.evaluate import evaluate_folders, evaluate_run, predict_shard, print_table

    if shard is not None:
        if run is None:
            raise ValueError("--shard needs a run: it splits the predictions of a run between commands")
        predict_shard(
            run, shard, split=split, which=weights_named(weights), overrides=overrides or (), allow_code=allow_code
        )
        print(f"predicted part {shard}; when all parts are done: selfreg evaluate {run}")
        return
    if predictions is not None:
        if run is not None or labels is None or num_classes is None:
            raise ValueError("give a run, or --predictions with --labels and --num-classes")
        result = evaluate_folders(predictions, labels, num_classes, ignore_index=ignore_index, background=background)
    elif run is None:
        raise ValueError("give a run, or --predictions with --labels and --num-classes")
    else:
        result = evaluate_run(
            run, split=split, which=weights_named(weights), overrides=overrides or (), allow_code=allow_code
        )
    if as_json:
        print_json(result)
    else:
        print_table(result)


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
        print(f"page: {path}", file=sys.stderr)
