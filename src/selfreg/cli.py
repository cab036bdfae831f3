"""The command: one verb, one function, no logic. Heavy imports wait until a verb needs them."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Self-regulation for semantic segmentation: train, measure, compare, predict.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Set = Annotated[list[str] | None, typer.Option("--set", help="Override a key: section.key=value (repeatable).")]
Which = Annotated[str, typer.Option("--weights", help="Weights of the `last` or the `best` epoch.")]


def main() -> None:
    """Run the command; a user's mistake ends in one line and exit status 2."""
    try:
        app()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        print(f"selfreg {version('selfreg')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the two runs and the page.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of scenes, weights and order.")] = 0,
    quick: Annotated[bool, typer.Option(help="A minute instead of five: shows the way, not the gain.")] = False,
) -> None:
    """Train a network plainly and with self-regulation on generated scenes, and compare them on a page."""
    from selfreg.study.demo import run_demo

    run_demo(out, seed=seed, quick=quick)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML configuration.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run [runs/NAME-OF-CONFIG].")] = None,
    overrides: Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last finished epoch.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Train what CONFIG says."""
    from selfreg.config import load_config
    from selfreg.training import train as fit

    run = fit(
        load_config(config, overrides or ()),
        out or Path("runs") / config.stem,
        resume=resume,
        progress_bar=not quiet and sys.stderr.isatty(),
    )
    summary = run.summary() or {}
    print(f"{run.folder}: {summary.get('epochs')} epochs, last val mIoU {100 * summary.get('last_miou', 0):.1f} %")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    split: Annotated[str | None, typer.Option(help="Split to measure on [the run's validation split].")] = None,
    weights: Which = "last",
    overrides: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Measure a run; the numbers go to RUN/evaluation/SPLIT.json."""
    from selfreg.inference.evaluate import evaluate_run, print_table

    result = evaluate_run(run, split=split, which=_weights(weights), overrides=overrides or ())
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        print_table(result)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    images: Annotated[Path, typer.Argument(help="A photograph, or a folder of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the index PNGs.")],
    overlay: Annotated[bool, typer.Option("--overlay", help="Blended pictures too, in OUT/overlays.")] = False,
    weights: Which = "last",
    scales: Annotated[str, typer.Option(help="Zooms to average over, e.g. 0.75,1,1.25.")] = "1",
    flip: Annotated[bool, typer.Option("--flip", help="Average over the mirror image too.")] = False,
    tile: Annotated[int | None, typer.Option(help="Predict larger images in tiles of this side.")] = None,
) -> None:
    """Write a class map of each photograph, of its own size."""
    from selfreg.inference.predict import predict_with_run

    number = predict_with_run(
        run,
        images,
        out,
        overlay=overlay,
        which=_weights(weights),
        scales=_numbers(scales, "--scales"),
        flip=flip,
        tile=tile,
    )
    print(f"{number} masks in {out}")


def _weights(name: str) -> Any:
    if name not in ("last", "best"):
        raise ValueError(f"--weights {name}: use last or best")
    return name


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} {text}: write numbers with commas between them") from None


if __name__ == "__main__":
    main()
