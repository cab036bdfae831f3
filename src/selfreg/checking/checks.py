"""Checks for every known problem of a data set."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from os import cpu_count
from pathlib import Path
from typing import Any

from selfreg.checking.classes import find_label_faults, find_label_problems, summarise_split
from selfreg.checking.duplicates import find_duplicates
from selfreg.checking.findings import DataReport, Finding
from selfreg.checking.inspection import Item, inspect_item, lost_item
from selfreg.data.kinds import DataOptionError, find_splits, open_source
from selfreg.data.source import HasUnreadFiles, Source
from selfreg.input_files import user_path
from selfreg.workers import map_in_processes

_IMAGES_PER_PROCESS = 8
_TREE_LINES = 100


def check_data(
    kind: str,
    root: str | Path | None,
    splits: Sequence[str] | None = None,
    *,
    workers: int | None = None,
    at_most: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> DataReport:
    """Read every image and mask of a data set once and report problems.

    Errors: unreadable, truncated or missing files, sizes that differ, labels out of range, colour masks, masks that are
    void throughout, empty splits, the same picture in two splits. Warnings: much void, classes that never occur, occur
    in one split only or are rare, pictures of two splits that look alike, the same picture twice in a split, masks
    without an image, EXIF orientations. No file can stop the check.

    Args:
        kind: Kind of data set, see `open_source`.
        root: Folder of the data set.
        splits: Splits to read; by default all of them.
        workers: Number of processes; by default the number of cores.
        at_most: Read about so many items of each split, evenly spaced; by default all of them.
        progress: Called with (items read, total number of items) after each item.
        **options: Options of the kind, as for `open_source`.

    Returns:
        The findings, errors first, and the class frequencies of each split.

    Raises:
        ValueError: If the kind or an option is unknown, or no split is found.

    Examples:
        >>> from selfreg.checking import check_data
        >>> report = check_data("scenes", None, ["train", "val"], length=4, evaluation_length=2, size=(64, 96))
        >>> report.errors
        []
        >>> report.splits["val"].num_images
        2
    """
    names = list(splits) if splits is not None else find_splits(kind, root)
    findings: list[Finding] = []
    sources: dict[str, Source] = {}
    for split in names:
        source = _open(kind, root, split, options, findings)
        if source is not None:
            sources[split] = source
    items = list(_inspect_all(sources, workers, at_most, progress))
    labels = next((source.labels for source in sources.values()), None)
    of_split = {split: [item for item in items if item.split == split] for split in sources}
    findings += [Finding("error", "file", item.split, item.name, fault) for item in items for fault in item.faults]
    findings += find_duplicates(items)
    summaries = {}
    if labels is not None:
        summaries = {split: summarise_split(found, labels.num_classes) for split, found in of_split.items()}
        if not options.get("tags_only"):
            findings += [*find_label_faults(of_split, labels), *find_label_problems(of_split, summaries, labels)]
    findings.sort(key=lambda finding: finding.level)
    tree = [] if root is None else list_tree(user_path(root))
    return DataReport(kind, None if root is None else str(root), labels, summaries, findings, items, tree, sources)


def list_tree(root: Path) -> list[str]:
    """The folders below `root`, one line each, with the number of files of each type; hidden folders are omitted."""
    lines: list[str] = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        visible = sorted(name for name in files if not name.startswith("."))
        depth = len(Path(folder).relative_to(root).parts)
        counts: dict[str, int] = {}
        for name in visible:
            suffix = Path(name).suffix or "without suffix"
            counts[suffix] = counts.get(suffix, 0) + 1
        # single files, such as labels.json, are named
        alone = {suffix: name for name in visible for suffix in [Path(name).suffix] if counts.get(suffix) == 1}
        held = ", ".join(alone.get(suffix, f"{count} {suffix}") for suffix, count in counts.items())
        lines.append(f"{'  ' * depth}{Path(folder).name}/{'  ' + held if held else ''}")
        if len(lines) == _TREE_LINES:
            return [*lines, "..."]
    return lines


def _open(
    kind: str, root: str | Path | None, split: str, options: Mapping[str, Any], findings: list[Finding]
) -> Source | None:
    """Open a split without rejecting missing files, so that all are reported; errors become findings."""
    lenient = {} if kind == "scenes" else {"must_exist": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # masks without an image are all reported below
        try:
            source = open_source(kind, root, split, **lenient, **options)
        except DataOptionError:
            raise
        except ValueError as error:
            findings.append(Finding("error", "split", split, None, str(error)))
            return None
    # what lies beside the folders of the splits is unread for all of them
    told = {finding.message for finding in findings}
    for path, reason in source.unread if isinstance(source, HasUnreadFiles) else ():
        message = f"{path}: {reason}: not used"
        if message not in told:
            findings.append(Finding("warning", "file", split, str(path), message))
    return source


def _inspect_all(
    sources: Mapping[str, Source],
    workers: int | None,
    at_most: int | None,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Item]:
    tasks = [
        (split, index)
        for split, source in sources.items()
        for index in range(0, len(source), -(-len(source) // at_most) if at_most and len(source) else 1)
    ]
    processes = min(workers or cpu_count() or 1, len(tasks) // _IMAGES_PER_PROCESS)
    items = map_in_processes(
        partial(_inspect, sources), tasks, processes=processes, chunk_size=8, died=partial(_lose, sources)
    )
    for number, item in enumerate(items, start=1):
        if progress is not None:
            progress(number, len(tasks))
        yield item


def _inspect(sources: Mapping[str, Source], task: tuple[str, int]) -> Item:
    split, index = task
    return inspect_item(sources[split], split, index)


def _lose(sources: Mapping[str, Source], task: tuple[str, int]) -> Item:
    split, index = task
    return lost_item(sources[split], split, index, "the process that read it died: out of memory, or a decoder crashed")
