"""Verbs that train: demo, train, pseudo, study."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from selfreg.cli.app import app
from selfreg.cli.options import AsJson, Set, print_json


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the two runs and the page.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of scenes, weights and order.")] = 0,
    epochs: Annotated[int, typer.Option(help="Passes over the scenes, for each of the two networks.")] = 4,
    scenes: Annotated[int, typer.Option(help="Scenes to train on.")] = 240,
) -> None:
    """Train a network plainly and with self-regulation on generated scenes, and compare them on a page."""
    from selfreg.demo import run_demo

    run_demo(out, seed=seed, epochs=epochs, scenes=scenes)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML configuration.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run [runs/NAME-OF-CONFIG].")] = None,
    overrides: Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last finished epoch.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="One step, and what a run would take.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train what CONFIG says."""
    from selfreg.config import load_config

    if dry_run:
        from selfreg.training.dry_run import dry_run as take_one_step

        found = take_one_step(load_config(config, overrides or ()))
        if as_json:
            print_json(found.to_json())
        else:
            print("\n".join(found.lines()))
        return
    from selfreg.training import is_first_process
    from selfreg.training import train as fit

    run = fit(
        load_config(config, overrides or ()),
        out or Path("runs") / config.stem,
        resume=resume,
        progress_bar=not (quiet or as_json) and sys.stderr.isatty(),
    )
    if not is_first_process():
        return
    summary = run.summary() or {}
    if as_json:
        print_json({"run": str(run.folder), **summary})
        return
    miou = summary.get("last_miou")
    told = "not defined" if miou is None else f"{100 * miou:.1f} %"
    skipped = f", {summary['skipped_batches']} batches skipped" if summary.get("skipped_batches") else ""
    print(f"{run.folder}: {summary.get('epochs')} epochs, last val mIoU {told}{skipped}")


@app.command()
def pseudo(
    config: Annotated[Path, typer.Argument(help="YAML configuration.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder [runs/NAME-OF-CONFIG-pseudo].")] = None,
    overrides: Set = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Score the CAMs at several background thresholds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make training masks from image-level tags; started again, it goes on."""
    from selfreg.config import load_config
    from selfreg.weak.pipeline import make_pseudo_masks, print_result

    folder = out or Path("runs") / f"{config.stem}-pseudo"
    result = make_pseudo_masks(load_config(config, overrides or ()), folder, sweep=sweep)
    if as_json:
        print_json({"folder": str(result.folder), **result.to_json()})
    else:
        print_result(result)


@app.command()
def study(
    config: Annotated[Path, typer.Argument(help="YAML configuration.")],
    arms: Annotated[
        str,
        typer.Option(
            help="base, mea, mea+f, mea+l, mea+p, sr, full, or NAME:section.key=value,...; commas between them."
        ),
    ] = "base,mea,mea+f,mea+l,mea+p,full",
    seeds: Annotated[int, typer.Option(help="Trainings of each arm; seeds count up from the configuration's.")] = 5,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder [runs/NAME-OF-CONFIG-study].")] = None,
    overrides: Set = None,
    jobs: Annotated[int, typer.Option(help="Runs at a time, each on a GPU or a share of the cores.")] = 1,
    html: Annotated[Path | None, typer.Option("--html", help="Where the page goes [OUT/index.html].")] = None,
    as_json: AsJson = False,
) -> None:
    """Train every arm with several seeds and say what the losses gain; started again, it goes on."""
    from selfreg.study.study import run_study

    folder = out or Path("runs") / f"{config.stem}-study"
    options: dict[str, Any] = {"arms": arms, "seeds": seeds, "jobs": jobs, "html": html, "as_json": as_json}
    if not run_study(config, folder, overrides=overrides or (), **options):
        raise typer.Exit(1)
