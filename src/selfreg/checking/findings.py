"""Results of checking a data set, as objects and as JSON."""

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from selfreg.checking.inspection import SIZE_EDGES, Item
from selfreg.data.labels import Labels
from selfreg.data.source import Source


@dataclass(frozen=True)
class Finding:
    """One problem of a data set.

    Attributes:
        level: "error" (a file is wrong) or "warning".
        check: "file", "split", "duplicate", "near duplicate", "void", "class" or "orientation".
        split: Split, or None for the whole data set.
        file: The file concerned, or None.
        message: One line that names file, value and remedy.
    """

    level: str
    check: str
    split: str | None
    file: str | None
    message: str


@dataclass(frozen=True)
class FindingGroup:
    """Findings of the same kind.

    Attributes:
        level: "error" or "warning".
        text: What is wrong, for the first file.
        files: The files concerned, relative to the data set's root if possible; none for findings about the whole data
            set.
        count: Number of findings.
    """

    level: str
    text: str
    files: tuple[str, ...]
    count: int

    def line(self, examples: int = 3) -> str:
        """The group as one line with at most `examples` files."""
        if not self.files:
            return self.text
        if self.count == 1:
            return f"{self.files[0]}: {self.text}"
        shown = ", ".join(self.files[1:examples])
        more = f" and {self.count - examples} more" if self.count > examples else ""
        also = f"; also {shown}{more}" if shown else more
        return f"{self.count} files, such as {self.files[0]}: {self.text}{also}"


def group_findings(findings: Sequence[Finding], root: str | None = None) -> list[FindingGroup]:
    """Group findings that have the same message for different files; the first one's text represents the group.

    Args:
        findings: In any order; groups are in the order of their first finding.
        root: Folder of the data set; file names are given relative to it.

    Returns:
        One group for each level and kind of message.
    """
    groups: dict[tuple[str, str, str], dict[tuple[str | None, str], None]] = defaultdict(dict)
    for finding in findings:
        file, text = _split_message(finding, root)
        names = [name for path in (finding.file, file) if path for name in (path, Path(path).name)]
        pattern = _pattern(text, names)
        groups[finding.level, finding.check, pattern][file, text] = None
    return [
        FindingGroup(level, next(iter(found))[1], tuple(file for file, _ in found if file), len(found))
        for (level, _, _), found in groups.items()
    ]


def _split_message(finding: Finding, root: str | None) -> tuple[str | None, str]:
    """Split a message into the file that it begins with (or None) and the rest, both without `root`."""
    prefix = "" if root is None else f"{Path(root)}{os.sep}"
    file, colon, text = finding.message.partition(": ")
    if finding.file is None or not colon or not (os.sep in file or file == finding.file):
        return None, finding.message
    return file.removeprefix(prefix), text.replace(prefix, "") if prefix else text


def _pattern(text: str, names: Sequence[str]) -> str:
    """The common part of messages of one kind: without names, numbers and text in parentheses."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, "")
    text = re.sub(r"\([^()]*\)|'[^']*'|\S+\.\w{2,4}\b|\d+", "", text)
    return " ".join(text.split())


@dataclass(frozen=True)
class SplitSummary:
    """Summary of the labels of one split.

    Attributes:
        num_images: Number of images, including those with errors.
        void_share: Fraction of void pixels, in [0, 1].
        pixel_share: Fraction of each class among the labelled pixels.
        image_count: Number of images with each class.
        object_sizes: For each class, the number of its components in each of five size classes (`SIZE_EDGES`).
    """

    num_images: int
    void_share: float
    pixel_share: tuple[float, ...]
    image_count: tuple[int, ...]
    object_sizes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class DataReport:
    """Result of `check_data`.

    Attributes:
        kind: Kind of the data set.
        root: Folder of the data set.
        labels: Classes; None if no split could be opened.
        splits: Split to summary.
        findings: Problems, errors first.
        items: Every item of every split, see `worst`.
        tree: Folders of the data set and their contents, one line each.
        sources: The splits that could be opened.
    """

    kind: str
    root: str | None
    labels: Labels | None
    splits: Mapping[str, SplitSummary]
    findings: Sequence[Finding]
    items: Sequence[Item]
    tree: Sequence[str] = ()
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False)

    @property
    def errors(self) -> list[Finding]:
        """The findings of level "error"; a data set without errors can be trained on."""
        return [finding for finding in self.findings if finding.level == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """The findings of level "warning"."""
        return [finding for finding in self.findings if finding.level == "warning"]

    @property
    def groups(self) -> list[FindingGroup]:
        """The findings, grouped by kind, errors first."""
        return group_findings(self.findings, self.root)

    def worst(self, count: int = 24) -> list[tuple[Item, list[Finding]]]:
        """The items to look at first with their findings: errors, warnings, then by the fraction of void."""
        about = defaultdict(list)
        for finding in self.findings:
            about[finding.file].append(finding)

        def rank(item: Item) -> tuple[int, int, float]:
            levels = [finding.level for finding in about[item.name]]
            return -levels.count("error"), -levels.count("warning"), -item.void_share

        return [(item, about[item.name]) for item in sorted(self.items, key=rank)[:count]]

    def to_json(self) -> dict[str, Any]:
        """The report as plain dictionaries, lists, strings and numbers."""
        return {
            "kind": self.kind,
            "root": self.root,
            "tree": list(self.tree),
            "classes": list(self.labels.class_names) if self.labels else [],
            "num_errors": len(self.errors),
            "num_warnings": len(self.warnings),
            "findings": [asdict(finding) for finding in self.findings],
            "object_size_edges": list(SIZE_EDGES),
            "splits": {split: asdict(summary) for split, summary in self.splits.items()},
            "worst": [
                {
                    "split": item.split,
                    "id": item.image_id,
                    "image": None if item.image is None else str(item.image),
                    "mask": None if item.mask is None else str(item.mask),
                    "void_share": round(item.void_share, 4),
                    "messages": [finding.message for finding in found],
                }
                for item, found in self.worst()
            ],
        }
