"""The outcome of checking a data set, as objects and as JSON."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from selfreg.checking.inspection import SIZE_EDGES, Item
from selfreg.data.labels import Labels


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (level "error": a file is at fault) or worth knowing (level "warning").

    Attributes:
        level: "error" or "warning".
        check: "file", "split", "duplicate", "near duplicate", "void", "class" or "orientation".
        split: where, or None where it concerns the whole data set.
        file: the file that it is about, or None.
        message: one line, naming file, value and mend.
    """

    level: str
    check: str
    split: str | None
    file: str | None
    message: str


@dataclass(frozen=True)
class SplitSummary:
    """The labels of one split.

    Attributes:
        num_images: all, those at fault too.
        void_share: share of all pixels, 0..1.
        pixel_share: of each class, of the labelled pixels.
        image_count: number of images with each class.
        object_sizes: for each class, the number of its components in each of five size classes (`SIZE_EDGES`).
    """

    num_images: int
    void_share: float
    pixel_share: tuple[float, ...]
    image_count: tuple[int, ...]
    object_sizes: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class DataReport:
    """What `check_data` found.

    Attributes:
        kind, root: the data set.
        labels: its classes; None where no split could be opened.
        splits: split to summary.
        findings: errors first.
        items: every item of every split; `worst` gives those to look at.
    """

    kind: str
    root: str | None
    labels: Labels | None
    splits: Mapping[str, SplitSummary]
    findings: Sequence[Finding]
    items: Sequence[Item]

    @property
    def errors(self) -> list[Finding]:
        """The findings that put a file at fault; the data set is sound when there are none."""
        return [finding for finding in self.findings if finding.level == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """The findings that are worth knowing."""
        return [finding for finding in self.findings if finding.level == "warning"]

    def worst(self, count: int = 24) -> list[tuple[Item, list[Finding]]]:
        """The items to look at first, with what was found about each: errors, warnings, then the largest void share."""
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
