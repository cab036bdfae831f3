"""Verbs that use a network: predict, export, taps."""

from pathlib import Path
from typing import Annotated

import typer

from selfreg.cli.app import app
from selfreg.cli.options import AllowCode, AsJson, Shard, Which, numbers, print_json, weights_named
from selfreg.regulation.options import PROBE_SIZE


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
        which=weights_named(weights),
        scales=numbers(scales, "--scales"),
        flip=flip,
        tile=tile,
        allow_code=allow_code,
        shard=shard or "1/1",
    )
    print(f"{number} masks in {out}")


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

    parity = export_run(run, path, file_format, weights_named(weights), allow_code=allow_code)  # type: ignore[arg-type]
    if as_json:
        print_json({"path": str(path), "max_difference": parity.max_difference, "agreement": parity.agreement})
        return
    print(f"{path}: max difference {parity.max_difference:.1e}, same class at {100 * parity.agreement:.2f} % of pixels")


@app.command()
def taps(
    network: Annotated[str, typer.Argument(help="e.g. smp:DeepLabV3Plus/resnet50 or timm:hrnet_w18.")],
    num_classes: Annotated[int, typer.Option(help="Classes of the network.")] = 21,
    image_size: Annotated[tuple[int, int], typer.Option(help="Height and width of the dry run.")] = PROBE_SIZE,
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
        print_json({"network": network, "num_classes": num_classes, "parameters": parameters, "taps": rows})
        return
    print(found)
    print(f"\n{network}: {parameters / 1e6:.2f} M parameters at {num_classes} classes")
