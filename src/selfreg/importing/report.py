"""`selfreg import`: the import, its decisions, and the result of `check-data` on the new data set."""

from pathlib import Path

from selfreg.checking.findings import DataReport
from selfreg.checking.report import check, print_report
from selfreg.importing.items import Unlabelled
from selfreg.importing.writing import Imported, import_export
from selfreg.messages import say
from selfreg.terminal import counted_progress


def import_and_check(
    source: Path,
    out: Path,
    *,
    format_name: str | None = None,
    val: float | None = None,
    seed: int | None = None,
    unlabelled: Unlabelled | None = None,
) -> tuple[Imported, DataReport]:
    """Import an export and check the new data set; see `import_export`."""
    with counted_progress("importing") as progress:
        imported = import_export(
            source,
            out,
            format_name=format_name,
            val=val,
            seed=seed,
            unlabelled=unlabelled,
            progress=progress,
        )
    return imported, check(out, kind="folder")


def print_import(imported: Imported, report: DataReport) -> None:
    """Print what was written and decided, then the findings of `check-data`."""
    counts = ", ".join(f"{count} in {split}" for split, count in imported.counts.items())
    say(f"{imported.folder}: imported from {imported.format}; images: {counts}")
    for note in imported.notes:
        say(f"note: {note}")
    print_report(report)
