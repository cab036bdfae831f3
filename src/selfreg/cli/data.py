"""Verbs for data: import, check-data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from selfreg.cli.app import app
from selfreg.cli.options import AsJson, Set, print_json
from selfreg.messages import say


@app.command("import")
def import_data(
    source: Annotated[Path, typer.Argument(help="Folder with the unpacked export of a labelling tool.")],
    out: Annotated[Path, typer.Argument(help="Folder of the new data set; it must not exist.")],
    format_name: Annotated[
        str | None,
        typer.Option("--format", help="coco, yolo, labelme, cvat, voc or cityscapes (default: detected)."),
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(help="Fraction of images for validation if the export has no such split (default: 0.2)."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the validation split (default: 0).")] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(help="Pixels outside all outlines: background (a class) or void (default: background)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Convert an export to a data set in folders; exit status 1 if check-data finds errors."""
    from selfreg.importing.report import import_and_check, print_import

    if unlabelled not in (None, "background", "void"):
        raise ValueError(f"--unlabelled {unlabelled}: use background or void")
    choice: Any = unlabelled
    imported, report = import_and_check(source, out, format_name=format_name, val=val, seed=seed, unlabelled=choice)
    if as_json:
        print_json(
            {
                "folder": str(imported.folder),
                "format": imported.format,
                "images": imported.counts,
                "notes": list(imported.notes),
                "check": report.to_json(),
            }
        )
    else:
        print_import(imported, report)
    if report.errors:
        raise typer.Exit(1)


@app.command("check-data")
def check_data(
    target: Annotated[Path, typer.Argument(help="Folder of a data set, or a configuration.")],
    kind: Annotated[
        str | None, typer.Option(help="Kind of data set in the folder: folder, voc, ... (default: detected).")
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Split to read, repeatable (default: all).")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the whole report as JSON.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write a page with a contact sheet.")] = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Check every image and mask of a data set; exit status 1 if there are errors."""
    from selfreg.checking.report import check, print_report, write_report, write_report_page

    report = check(target, kind=kind, splits=split, overrides=overrides or ())
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report)
    if out is not None:
        say(f"report: {write_report(report, out)}", stderr=True)
    if html is not None:
        say(f"page: {write_report_page(report, html)}", stderr=True)
    if report.errors:
        raise typer.Exit(1)
