"""`selfreg check-data`: what `check_data` found, as a table, JSON and a page."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from selfreg.checking.checks import check_data
from selfreg.checking.findings import DataReport, SplitSummary
from selfreg.checking.inspection import Item
from selfreg.config import load_config
from selfreg.data import read_pair
from selfreg.files import write_json
from selfreg.report.data_page import DataPage, Remark, Sample, write_data_page

_SHOWN_FINDINGS = 20


def check(
    target: Path, *, kind: str = "folder", splits: Sequence[str] | None = None, overrides: Sequence[str] = ()
) -> DataReport:
    """Read a whole data set: `target` is its folder (then `kind` says which), or a configuration.

    Raises ValueError for a folder or configuration that cannot be opened at all.
    """
    options: dict[str, Any] = {}
    root: Path | None = target
    if target.is_file():
        data = load_config(target, overrides).data
        kind, root, options = data.kind, data.root, data.options
        splits = splits or list(dict.fromkeys((data.train_split, data.val_split)))
    elif overrides:
        raise ValueError("--set changes a configuration; give one instead of a folder")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None)
        return check_data(
            kind,
            root,
            splits,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
            **options,
        )


def print_report(report: DataReport, console: Console | None = None) -> None:
    """The splits, the classes, and what is wrong, worst first."""
    console = console or Console()
    for table in (_split_table(report), _class_table(report)):
        if table is not None:
            console.print(table)
    for finding in [*report.errors, *report.warnings][:_SHOWN_FINDINGS]:
        colour = "red" if finding.level == "error" else "yellow"
        console.print(f"[{colour}]{finding.level}[/]", end=" ")
        console.print(finding.message, markup=False, highlight=False, soft_wrap=True)
    left = len(report.findings) - _SHOWN_FINDINGS
    if left > 0:
        console.print(f"... and {left} more: see the JSON")
    console.print(f"{len(report.errors)} errors, {len(report.warnings)} warnings")


def write_report(report: DataReport, path: Path) -> Path:
    """The whole report as JSON."""
    write_json(path, report.to_json())
    return path


def write_report_page(report: DataReport, path: Path, samples: int = 48) -> Path:
    """The report as a page with a contact sheet, worst first. Raises ValueError where no split could be opened."""
    if report.labels is None:
        raise ValueError(f"{report.root}: no split could be opened, so there is nothing to draw")
    images = sum(summary.num_images for summary in report.splits.values())
    facts = [("images", str(images)), ("errors", str(len(report.errors))), ("warnings", str(len(report.warnings)))]
    facts += [(f"void in {split}", f"{summary.void_share:.1%}") for split, summary in report.splits.items()]
    findings = [
        Remark(
            "fault" if finding.level == "error" else "warning",
            finding.message,
            () if finding.file is None else (finding.file,),
        )
        for finding in report.findings
    ]
    page = DataPage(
        title=f"Data: {Path(report.root).resolve().name if report.root else report.kind}",
        subtitle=f"{', '.join(report.splits)}; every image and mask read once",
        class_names=report.labels.class_names,
        palette=report.labels.palette,
        facts=facts,
        findings=findings,
        pixel_shares={split: summary.pixel_share for split, summary in report.splits.items()},
        image_counts={split: summary.image_count for split, summary in report.splits.items()},
        samples=[_sample(report, item, [f.message for f in found]) for item, found in report.worst(samples)],
    )
    return write_data_page(page, path)


def _sample(report: DataReport, item: Item, messages: list[str]) -> Sample:
    image = mask = None
    if item.image is not None and item.mask is not None and report.labels is not None and not item.faults:
        image, mask = read_pair(item.image, item.mask, report.labels)
    faults = messages if item.faults else []
    return Sample(item.image_id, image, mask, faults, [] if item.faults else messages)


def _split_table(report: DataReport) -> Table | None:
    if not report.splits:
        return None
    table = Table("split", "images", "void", title=f"{report.kind} {report.root or ''}")
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
    return f"{summary.pixel_share[index]:.2%} in {summary.image_count[index]}"
