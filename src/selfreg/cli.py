"""The command: one verb, one function, no logic. Heavy imports wait until a verb needs them."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from selfreg.ending import end_well

app = typer.Typer(
    help="Self-regulation for semantic segmentation: train, measure, compare, predict.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Set = Annotated[list[str] | None, typer.Option("--set", help="Override a key: section.key=value (repeatable).")]
Which = Annotated[str, typer.Option("--weights", help="Weights of the `last` or the `best` epoch.")]
Predictions = Annotated[Path | None, typer.Option(help="Folder of index PNGs from anywhere, instead of a run.")]
LabelMaps = Annotated[Path | None, typer.Option(help="Folder of the label maps, of the same names.")]
NumClasses = Annotated[int | None, typer.Option(help="Classes of those maps.")]
IgnoreIndex = Annotated[int, typer.Option(help="Value of void in the label maps.")]
Background = Annotated[int | None, typer.Option(help="Index of the class without objects, if there is one.")]
Shard = Annotated[str | None, typer.Option(help="Part I/N, from 1, for N commands that share the images out.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Let a run whose network is package.module:factory import that code.")
]


def main() -> None:
    """Run the command; whatever ends it is told in one line (see `selfreg.ending` for the exit statuses)."""
    sys.exit(end_well(app))


def _version(show: bool) -> None:
    if show:
        from importlib.metadata import version

        print(f"selfreg {version('selfreg')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the two runs and the page.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of scenes, weights and order.")] = 0,
    epochs: Annotated[int, typer.Option(help="Passes over the scenes, for each of the two networks.")] = 4,
    scenes: Annotated[int, typer.Option(help="Scenes to train on.")] = 240,
) -> None:
    """Train a network plainly and with self-regulation on generated scenes, and compare them on a page."""
    from selfreg.study.demo import run_demo

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
            _print_json(found.to_json())
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
        _print_json({"run": str(run.folder), **summary})
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
        _print_json({"folder": str(result.folder), **result.to_json()})
    else:
        print_result(result)


@app.command()
def evaluate(
    run: Annotated[Path | None, typer.Argument(help="Folder of a run.")] = None,
    split: Annotated[str | None, typer.Option(help="Split to measure on [the run's validation split].")] = None,
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
    """Measure a run (numbers go to RUN/evaluation/SPLIT.json too), or anybody's index PNGs.

    With --shard the run predicts its part of the split and measures nothing; once all parts are done, the command
    without --shard measures them.
    """
    from selfreg.inference.evaluate import evaluate_folders, evaluate_run, predict_shard, print_table

    if shard is not None:
        if run is None:
            raise ValueError("--shard shares out the predictions of a run: give a run")
        predict_shard(
            run, shard, split=split, which=_weights(weights), overrides=overrides or (), allow_code=allow_code
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
            run, split=split, which=_weights(weights), overrides=overrides or (), allow_code=allow_code
        )
    if as_json:
        _print_json(result)
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
    allow_code: AllowCode = False,
    shard: Shard = None,
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
        allow_code=allow_code,
        shard=shard or "1/1",
    )
    print(f"{number} masks in {out}")


@app.command()
def compare(
    sides: Annotated[list[Path], typer.Argument(help="Runs, or folders of index PNGs with --labels.")],
    html: Annotated[Path | None, typer.Option("--html", help="Write a page too.")] = None,
    split: Annotated[str | None, typer.Option(help="Split to compare on [the first run's validation split].")] = None,
    weights: Which = "last",
    overrides: Set = None,
    labels: LabelMaps = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the photographs, for the page.")] = None,
    num_classes: NumClasses = None,
    ignore_index: IgnoreIndex = 255,
    background: Background = None,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Compare runs, or anybody's index PNGs, on the same images: paired differences with 95 % intervals."""
    from selfreg.study.compare import compare_folders, compare_runs, print_comparison
    from selfreg.study.page import write_comparison

    if labels is None:
        result = compare_runs(
            sides, split=split, which=_weights(weights), overrides=overrides or (), allow_code=allow_code
        )
    elif num_classes is None:
        raise ValueError("--labels needs --num-classes")
    else:
        result = compare_folders(
            sides, labels, num_classes, ignore_index=ignore_index, background=background, images=images
        )
    if as_json:
        _print_json(result.to_json())
    else:
        print_comparison(result)
    if html is not None:
        path = write_comparison(result, html, title=" / ".join(side.name for side in result.sides))
        print(f"page: {path}", file=sys.stderr)


@app.command()
def study(
    config: Annotated[Path, typer.Argument(help="YAML configuration.")],
    arms: Annotated[
        str,
        typer.Option(help="base, mea, mea+f, mea+l, mea+p, full, or NAME:section.key=value,...; commas between them."),
    ] = "base,mea,mea+f,mea+l,mea+p,full",
    seeds: Annotated[int, typer.Option(help="Trainings of each arm; seeds count up from the configuration's.")] = 5,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder [runs/NAME-OF-CONFIG-study].")] = None,
    overrides: Set = None,
    jobs: Annotated[int, typer.Option(help="Runs at a time, each on a GPU or a share of the cores.")] = 1,
    html: Annotated[Path | None, typer.Option("--html", help="Where the page goes [OUT/index.html].")] = None,
    as_json: AsJson = False,
) -> None:
    """Train every arm with several seeds and say what the losses gain; started again, it goes on."""
    from selfreg.study.ladder import run_study

    folder = out or Path("runs") / f"{config.stem}-study"
    options: dict[str, Any] = {"arms": arms, "seeds": seeds, "jobs": jobs, "html": html, "as_json": as_json}
    if not run_study(config, folder, overrides=overrides or (), **options):
        raise typer.Exit(1)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    path: Annotated[Path, typer.Argument(help="File to write, e.g. model.onnx.")],
    file_format: Annotated[str, typer.Option("--format", help="onnx or torch-export.")] = "onnx",
    weights: Which = "last",
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Export the plain network; the file stays only if it computes the same."""
    from selfreg.inference.export import export_run

    parity = export_run(run, path, file_format, _weights(weights), allow_code=allow_code)  # type: ignore[arg-type]
    if as_json:
        _print_json({"path": str(path), "max_difference": parity.max_difference, "agreement": parity.agreement})
        return
    print(f"{path}: max difference {parity.max_difference:.1e}, same class at {100 * parity.agreement:.2f} % of pixels")


@app.command()
def taps(
    network: Annotated[str, typer.Argument(help="e.g. smp:DeepLabV3Plus/resnet50 or timm:hrnet_w18.")],
    num_classes: Annotated[int, typer.Option(help="Classes of the network.")] = 21,
    image_size: Annotated[tuple[int, int], typer.Option(help="Height and width of the dry run.")] = (512, 512),
    as_json: AsJson = False,
) -> None:
    """Show where a network would carry exits."""
    from selfreg.networks import build_network
    from selfreg.regulation import find_taps

    built = build_network(network, num_classes)
    parameters = sum(parameter.numel() for parameter in built.parameters())
    found = find_taps(built, image_size)
    if as_json:
        rows = [{key: getattr(tap, key) for key in ("name", "stride", "channels", "layout")} for tap in found]
        _print_json({"network": network, "num_classes": num_classes, "parameters": parameters, "taps": rows})
        return
    print(found)
    print(f"\n{network}: {parameters / 1e6:.2f} M parameters at {num_classes} classes")


@app.command("check-data")
def check_data(
    target: Annotated[Path, typer.Argument(help="Folder of a data set, or a configuration.")],
    kind: Annotated[str, typer.Option(help="Kind of data set in the folder: folder, voc, cityscapes, ...")] = "folder",
    split: Annotated[list[str] | None, typer.Option(help="Split to read (repeatable) [all].")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the JSON goes.")] = Path("check-data.json"),
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with a contact sheet too.")] = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Read every image and mask once; exit status 1 if any file is at fault."""
    from selfreg.report.data_check import check, print_report, write_report, write_report_page

    report = check(target, kind=kind, splits=split, overrides=overrides or ())
    if as_json:
        _print_json(report.to_json())
    else:
        print_report(report)
    print(f"report: {write_report(report, out)}", file=sys.stderr)
    if html is not None:
        print(f"page: {write_report_page(report, html)}", file=sys.stderr)
    if report.errors:
        raise typer.Exit(1)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, allow_nan=False))


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
