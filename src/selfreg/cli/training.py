"""Verbs that train: try, demo, train, pseudo, study."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from selfreg.cli.app import app
from selfreg.cli.options import AsJson, Set, print_json
from selfreg.messages import command_line, say
from selfreg.trial.budget import DEFAULT_BUDGET, SCENES_BUDGET, parse_budget

if TYPE_CHECKING:
    from selfreg.run import Run


@app.command("try")
def try_data(
    data: Annotated[
        Path | None,
        typer.Argument(help="Folder of a data set, or of a labelling tool's export (default: generated scenes)."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help=f"Time, e.g. 90s, 30m or 2h (default: {DEFAULT_BUDGET}; scenes: {SCENES_BUDGET})."),
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="Network, e.g. smp:DeepLabV3Plus/resnet50 (default: chosen by the device).")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder (default: runs/try-NAME).")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first pair of trainings.")] = 0,
) -> None:
    """Find out within a time whether self-regulation helps on DATA; the same command continues."""
    given = (SCENES_BUDGET if data is None else DEFAULT_BUDGET) if budget is None else budget
    # typing errors are reported before heavy imports
    parse_budget(given)
    from selfreg.trial.trial import default_folder, run_try

    run_try(data, out or default_folder(data), budget=given, network=network, seed=seed)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the first pair of trainings.")] = 0,
    budget: Annotated[str, typer.Option(help="Time for everything.")] = SCENES_BUDGET,
) -> None:
    """Run `selfreg try` on generated scenes."""
    from selfreg.trial.trial import run_try

    run_try(None, out, budget=budget, seed=seed)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML configuration.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run (default: runs/NAME-OF-CONFIG).")
    ] = None,
    overrides: Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last finished epoch.")] = False,
    extend: Annotated[
        int | None, typer.Option("--extend", metavar="EPOCHS", help="Train a finished run for more epochs.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Run one step and estimate time and memory.")] = False,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Evaluate at the end and write a page.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Allow data.augmentation to import its code.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train as CONFIG says; write weights, logs and a page."""
    from selfreg.config import TRAINING_SECTIONS, check_overrides, load_config

    # typing errors are reported before heavy imports
    loaded = load_config(config, overrides or ())
    check_overrides(overrides or (), TRAINING_SECTIONS, "train")
    _check_ranks()
    # with --json, the standard output contains only JSON
    announce = partial(say, stderr=as_json)
    if dry_run and (extend is not None or resume):
        raise ValueError("--dry-run starts nothing and continues nothing: leave out --resume and --extend")
    if dry_run:
        from selfreg.training.dry_run import dry_run as take_one_step

        found = take_one_step(loaded, allow_code=allow_code, announce=announce)
        if as_json:
            print_json(found.to_json())
        else:
            say(*found.lines())
        return
    from selfreg.training import is_first_process
    from selfreg.training import train as train_run

    run = train_run(
        loaded,
        out or Path("runs") / config.stem,
        resume=resume,
        extra_epochs=extend,
        allow_code=allow_code,
        progress_bar=not (quiet or as_json) and sys.stderr.isatty(),
        announce=announce,
    )
    if not is_first_process():
        return
    if page:
        from selfreg.comparison.run_page import write_run_page

        write_run_page(run)
    if as_json:
        print_json({"run": str(run.folder), **(run.summary() or {})})
    else:
        say(*_ending(run, page=page))


def _check_ranks() -> None:
    """Raise ValueError for a rank in the environment that is no number, which Lightning reads when it is imported."""
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"):
        value = os.environ.get(name, "0")
        if not value.isdecimal():
            raise ValueError(f"{name}={value} in the environment: is no number of a process; unset it")


def _ending(run: "Run", *, page: bool) -> list[str]:
    """Result of a run, where its files are, and the next command to type."""
    from selfreg.training.progress import in_per_cent

    summary = run.summary() or {}
    last, best = in_per_cent(summary.get("last_miou")), in_per_cent(summary.get("best_miou"))
    skipped = f", {summary['skipped_batches']} batches skipped" if summary.get("skipped_batches") else ""
    epochs, epoch = summary.get("epochs"), summary.get("best_epoch", -1) + 1
    told = f", best {best} in epoch {epoch}" if epoch else ""
    return [
        f"{run.folder}: {epochs} epoch{'s' * (epochs != 1)}, last val mIoU {last}{told}{skipped}",
        f"weights: {run.weights_path('last')}" + (f", {run.weights_path('best')}" if epoch else ""),
        *([f"page: {run.page_path}"] if page else []),
        f"next: {command_line('selfreg', 'predict', run.folder)} photos/ -o masks/",
    ]


@app.command()
def pseudo(
    config: Annotated[Path, typer.Argument(help="YAML configuration.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder (default: runs/NAME-OF-CONFIG-pseudo).")
    ] = None,
    overrides: Set = None,
    sweep: Annotated[bool, typer.Option("--sweep", help="Score the CAMs at several background thresholds.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make training masks from image-level tags; an interrupted run continues when started again."""
    from selfreg.config import PSEUDO_KEYS, check_overrides, load_config

    settings = load_config(config, overrides or ())
    check_overrides(overrides or (), PSEUDO_KEYS, "pseudo")
    from selfreg.weak.pipeline import make_pseudo_masks, print_result

    folder = out or Path("runs") / f"{config.stem}-pseudo"
    result = make_pseudo_masks(settings, folder, sweep=sweep)
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
            help="base, mea, mea+f, mea+l, mea+p, sr, full, or NAME:section.key=value,...; separated by commas."
        ),
    ] = "base,mea,sr,mea+p,full",
    seeds: Annotated[int, typer.Option(help="Trainings of each arm; seeds count up from the configuration's.")] = 5,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder (default: runs/NAME-OF-CONFIG-study).")
    ] = None,
    overrides: Set = None,
    jobs: Annotated[int, typer.Option(help="Simultaneous runs, each on a GPU or a share of the cores.")] = 1,
    html: Annotated[Path | None, typer.Option("--html", help="Path of the page (default: OUT/index.html).")] = None,
    as_json: AsJson = False,
) -> None:
    """Train every arm with several seeds and report what the losses gain; an interrupted study continues."""
    from selfreg.config import TRAINING_SECTIONS, check_overrides, load_config

    load_config(config, overrides or ())
    check_overrides(overrides or (), TRAINING_SECTIONS, "study")
    from selfreg.study.study import run_study

    folder = out or Path("runs") / f"{config.stem}-study"
    options: dict[str, Any] = {"arms": arms, "seeds": seeds, "jobs": jobs, "html": html, "as_json": as_json}
    if not run_study(config, folder, overrides=overrides or (), **options):
        raise typer.Exit(1)
