"""`selfreg check-data`: the result of `check_data` as a table, as JSON and as a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from selfreg.checking.checks import check_data
from selfreg.checking.findings import DataReport, FindingGroup, SplitSummary, group_findings
from selfreg.checking.inspection import Item
from selfreg.config import DataConfig, check_overrides, load_config, parse_config
from selfreg.data import image_format_of, read_image
from selfreg.data.kinds import guess_kind
from selfreg.files import write_json
from selfreg.opening import source_options
from selfreg.report.data_page import DataPage, Remark, Sample, write_data_page
from selfreg.terminal import PlainConsole, counted_progress

_SHOWN_GROUPS = 20


def check(
    target: Path, *, kind: str | None = None, splits: Sequence[str] | None = None, overrides: Sequence[str] = ()
) -> DataReport:
    """Check a whole data set.

    Args:
        target: Folder of the data set, or a configuration.
        kind: Kind of the data set in a folder; detected by default.
        splits: Splits to read; by default all of them, or those of the configuration.
        overrides: `section.key=value`: changes to the configuration, or options for the folder.

    Raises:
        ValueError: If the folder or configuration cannot be opened, or an override or `kind` has no effect.
    """
    if target.is_file():
        data = _data_of_config(target, kind, splits, overrides)
        splits = splits or list(dict.fromkeys((data.train_split, data.val_split)))
    else:
        data = _data_of_folder(target, kind, overrides)
    with counted_progress("reading") as progress:
        return check_data(data.kind, data.root, splits, progress=progress, **source_options(data))


_READ_OF_FOLDERS = tuple(f"data.{key}" for key in ("options", "bands", "range", "shown_bands"))


def _data_of_config(path: Path, kind: str | None, splits: Sequence[str] | None, overrides: Sequence[str]) -> DataConfig:
    if kind is not None:
        raise ValueError(f"--kind {kind}: is for a folder; for the configuration {path} give --set data.kind={kind}")
    named = () if splits else ("data.train_split", "data.val_split")
    check_overrides(overrides, ("data.kind", "data.root", *_READ_OF_FOLDERS, *named), "check-data")
    return load_config(path, overrides).data


def _data_of_folder(folder: Path, kind: str | None, overrides: Sequence[str]) -> DataConfig:
    check_overrides(overrides, _READ_OF_FOLDERS, "check-data FOLDER")
    content: dict[str, Any] = {"data": {"kind": kind or guess_kind(folder), "root": str(folder)}}
    return parse_config(content, str(folder), overrides).data


def print_report(report: DataReport, console: PlainConsole | None = None) -> None:
    """Print the splits, the classes and the findings, worst first; findings of one kind take one line."""
    console = console or PlainConsole()
    console.print(f"{report.kind} {report.root or ''}", highlight=False, soft_wrap=True)
    if any(item.pixels for item in report.items):  # no tables of zeros if no mask could be read
        for table in (_split_table(report), _class_table(report)):
            if table is not None:
                console.print(table)
    groups = report.groups
    for group in groups[:_SHOWN_GROUPS]:
        colour = "red" if group.level == "error" else "yellow"
        console.print(group.level, style=colour, end=" ")
        console.print(group.line(), highlight=False, soft_wrap=True)
    if len(groups) > _SHOWN_GROUPS:
        console.print(f"... and {len(groups) - _SHOWN_GROUPS} more kinds of findings: write them all with --out FILE")
    console.print(f"{len(report.errors)} errors, {len(report.warnings)} warnings")


def write_report(report: DataReport, path: Path) -> Path:
    """Write the whole report as JSON."""
    write_json(path, report.to_json())
    return path


def write_report_page(report: DataReport, path: Path, samples: int = 48) -> Path:
    """Write the report as a page with a contact sheet, worst images first.

    Raises:
        ValueError: If no split could be opened.
    """
    if report.labels is None:
        raise ValueError(f"{report.root}: no split could be opened, so there is no page to write")
    images = sum(summary.num_images for summary in report.splits.values())
    facts = [("images", str(images)), ("errors", str(len(report.errors))), ("warnings", str(len(report.warnings)))]
    facts += [(f"void in {split}", f"{summary.void_share:.1%}") for split, summary in report.splits.items()]
    findings = [
        Remark("fault" if group.level == "error" else "warning", group.text, group.files) for group in report.groups
    ]
    page = DataPage(
        title=f"Data: {Path(report.root).resolve().name if report.root else report.kind}",
        subtitle=f"{', '.join(report.splits)}; every image and mask read once",
        class_names=report.labels.class_names,
        palette=report.labels.palette,
        verdict=verdict_of(report),
        facts=facts,
        findings=findings,
        tree=report.tree,
        pixel_shares={split: summary.pixel_share for split, summary in report.splits.items()},
        image_counts={split: summary.image_count for split, summary in report.splits.items()},
        samples=[
            _sample(report, item, [group.line() for group in group_findings(found, report.root)])
            for item, found in report.worst(samples)
        ],
    )
    return write_data_page(page, path)


def verdict_of(report: DataReport) -> str:
    """Say in one sentence whether a data set can be trained on, with its most frequent error or warning."""
    images = sum(summary.num_images for summary in report.splits.values())
    groups = report.groups
    errors = [group for group in groups if group.level == "error"]
    if not groups:
        return f"Ready for training: no problem was found in {images} images and their masks."
    most = max(errors or groups, key=lambda group: group.count)
    example = f"; most often “{most.text}” ({most.count} files)" if most.count > 1 else f"; the first is “{most.text}”"
    if errors:
        return f"Not ready for training: {_total(errors, 'error')} in {images} images{example}."
    return f"Ready for training, after a look at {_total(groups, 'warning')} in {images} images{example}."


def _total(groups: Sequence[FindingGroup], name: str) -> str:
    number = sum(group.count for group in groups)
    return f"{number} {name}" + ("s" if number != 1 else "")


def _sample(report: DataReport, item: Item, messages: list[str]) -> Sample:
    """An item with its pictures: image and mask if they fit, otherwise each one that can be read."""
    faults, warnings = (messages, []) if item.faults else ([], messages)
    if not item.faults:
        source = report.sources[item.split]
        pair = source.read(item.index)
        image = image_format_of(source).to_rgb(pair.image)
        return Sample(item.image_id, image, pair.mask, faults, warnings)
    return Sample(item.image_id, _picture(item.image), None, faults, warnings, stored_mask=_picture(item.mask))


def _picture(path: Path | None) -> NDArray[np.uint8] | None:
    """A file as a picture (H, W, 3) uint8, or None if it cannot be read."""
    try:
        return None if path is None else read_image(path)
    except Exception:  # the problem is described in the text
        return None


def _split_table(report: DataReport) -> Table | None:
    if not report.splits:
        return None
    table = Table("split", "images", "void")
    for split, summary in report.splits.items():
        table.add_row(split, str(summary.num_images), f"{summary.void_share:.1%}")
    return table


def _class_table(report: DataReport) -> Table | None:
    if report.labels is None:
        return None
    table = Table("class", title="share of the labelled pixels, and images with the class")
    for split in report.splits:
        table.add_column(split, justify="right")
    for index, name in enumerate(report.labels.class_names):
        table.add_row(name, *(_class_cell(summary, index) for summary in report.splits.values()))
    return table


def _class_cell(summary: SplitSummary, index: int) -> str:
    if not any(summary.image_count):
        return "-"  # no mask of this split could be read
    return f"{summary.pixel_share[index]:.2%} in {summary.image_count[index]}"
