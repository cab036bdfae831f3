"""Verbs that use a network: predict, export, taps."""

from pathlib import Path
from typing import Annotated

import typer

from selfreg.cli.app import app
from selfreg.cli.options import (
    AllowCode,
    AsJson,
    Flip,
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
from selfreg.messages import one_line, say
from selfreg.regulation.options import PROBE_SIZE


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="Folder of a run, or an ONNX file that `selfreg export` wrote.")],
    images: Annotated[Path | None, typer.Argument(help="A photograph, or a folder of them.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the index PNGs.")] = ...,  # type: ignore[assignment]
    split: Annotated[str | None, typer.Option(help="Predict a split of the run's data instead of photographs.")] = None,
    overrides: Set = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write overlays to OUT/overlays.")] = False,
    probabilities: Annotated[
        str | None,
        typer.Option(help="Also write class probabilities to OUT/probabilities: npy (float16) or png (8-bit)."),
    ] = None,
    weights: Which = "last",
    scales: Scales = None,
    flip: Flip = False,
    tile: Tile = None,
    allow_code: AllowCode = False,
    shard: Shard = None,
) -> None:
    """Write a class map for each photograph, with the same size and relative path.

    Photographs that cannot be read are skipped and named; the exit status is then 1.
    """
    from selfreg.inference.photographs import find_images, share_of

    # typing errors are reported before heavy imports
    share_of(shard or "1/1")
    if images is not None:
        find_images(images, leave_out=out)
    if model.suffix.lower() != ".onnx":
        open_run(model)
    elif not model.is_file():
        raise ValueError(f"{model}: no such file")
    elif weights != "last":
        raise ValueError(f"--weights {weights}: has no effect on the ONNX file {model}; leave it out")
    from selfreg.inference.model import load
    from selfreg.inference.predict import predict_with_model

    loaded = load(
        model,
        weights=weights_named(weights),
        scales=numbers(scales or "1", "--scales"),
        flip=flip,
        tile=tile,
        allow_code=allow_code,
    )
    result = predict_with_model(
        loaded,
        images,
        out,
        split=split,
        overlay=overlay,
        probabilities=probabilities,  # type: ignore[arg-type]
        shard=shard or "1/1",
        overrides=overrides or (),
    )
    say(f"{result.written} masks in {out}")
    if result.unreadable:
        say(*map(one_line, result.unreadable), stderr=True)
        say(f"{len(result.unreadable)} images could not be read and were skipped", stderr=True)
        raise typer.Exit(1)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    path: Annotated[Path, typer.Argument(help="File to write, e.g. model.onnx; a folder for transformers.")],
    file_format: Annotated[
        str, typer.Option("--format", help="onnx, torch-export, or transformers (a folder, for hf: networks).")
    ] = "onnx",
    weights: Which = "last",
    allow_code: AllowCode = False,
    as_json: AsJson = False,
) -> None:
    """Export the plain network; the file is kept only if its outputs match."""
    open_run(run)
    from selfreg.inference.export import export_run

    parity = export_run(run, path, file_format, weights_named(weights), allow_code=allow_code)  # type: ignore[arg-type]
    if as_json:
        print_json({"path": str(path), "max_difference": parity.max_difference, "agreement": parity.agreement})
        return
    say(f"{path}: max difference {parity.max_difference:.1e}, same class at {100 * parity.agreement:.2f} % of pixels")


@app.command()
def taps(
    network: Annotated[str, typer.Argument(help="e.g. smp:DeepLabV3Plus/resnet50 or timm:hrnet_w18.")],
    num_classes: Annotated[int, typer.Option(help="Number of classes of the network.")] = 21,
    image_size: Annotated[tuple[int, int], typer.Option(help="Height and width of the dry run.")] = PROBE_SIZE,
    as_json: AsJson = False,
) -> None:
    """Show the stages of a network to which exits can be attached."""
    from selfreg.networks import build_network
    from selfreg.regulation import find_taps

    built = build_network(network, num_classes)
    parameters = sum(parameter.numel() for parameter in built.parameters())
    found = find_taps(built, image_size)
    if as_json:
        rows = [{key: getattr(tap, key) for key in ("name", "stride", "channels", "layout")} for tap in found]
        print_json({"network": network, "num_classes": num_classes, "parameters": parameters, "taps": rows})
        return
    say(*str(found).splitlines(), "")
    say(f"{network}: {parameters / 1e6:.2f} M parameters at {num_classes} classes")
