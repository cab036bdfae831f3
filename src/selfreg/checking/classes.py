"""Checks of the labels of a data set: void, and absent or rare classes."""

from collections.abc import Mapping, Sequence

import numpy as np

from selfreg.checking.findings import Finding, SplitSummary
from selfreg.checking.inspection import SIZE_EDGES, Item
from selfreg.data.label_counts import label_fault
from selfreg.data.labels import IGNORE_INDEX, Labels

VOID_SHARE = 0.03
"""A split with more void than this gets a warning."""
MOSTLY_VOID = 0.9
"""So does an image with more void than this."""
RARE_PIXELS = 0.01
"""A class with fewer of the labelled pixels than this is rare."""
RARE_IMAGES = 10
"""A class in fewer images than this is rare."""
_RARE_SHOWN = 10


def summarise_split(items: Sequence[Item], num_classes: int) -> SplitSummary:
    """Sum the labels of one split."""
    pixels = np.zeros(256, dtype=np.int64)
    images = np.zeros(256, dtype=np.int64)
    objects = np.zeros((256, len(SIZE_EDGES) + 1), dtype=np.int64)
    for item in items:
        for value, count in item.pixels.items():
            pixels[value] += count
            images[value] += 1
        for value, counts in item.objects.items():
            objects[value] += counts
    labelled = max(int(pixels[:num_classes].sum()), 1)
    return SplitSummary(
        len(items),
        float(pixels[IGNORE_INDEX] / max(pixels.sum(), 1)),
        tuple((pixels[:num_classes] / labelled).tolist()),
        tuple(images[:num_classes].tolist()),
        tuple(tuple(row) for row in objects[:num_classes].tolist()),
    )


def find_label_faults(items: Mapping[str, Sequence[Item]], labels: Labels) -> list[Finding]:
    """Errors for splits whose labels are certainly wrong, such as misread binary masks."""
    findings = []
    for split, found in items.items():
        pixels = np.zeros(256, dtype=np.int64)
        for item in found:
            for value, count in item.pixels.items():
                pixels[value] += count
        fault = label_fault(pixels, labels, split) if pixels.any() else None
        # masks that are void throughout are reported separately
        if fault is not None and pixels[: labels.num_classes].any():
            findings.append(Finding("error", "split", split, None, fault))
    return findings


def find_label_problems(
    items: Mapping[str, Sequence[Item]], summaries: Mapping[str, SplitSummary], labels: Labels
) -> list[Finding]:
    """Warnings about void, rotated pictures, and absent or rare classes; each class is reported once."""
    findings = []
    for split, summary in summaries.items():
        if summary.void_share > VOID_SHARE:
            message = f"{split}: {summary.void_share:.1%} of the pixels are void"
            findings.append(Finding("warning", "void", split, None, message))
        for item in items[split]:
            if MOSTLY_VOID < item.void_share < 1:
                message = f"{item.name}: {item.void_share:.1%} of the mask is void"
                findings.append(Finding("warning", "void", split, item.name, message))
        turned = [item.name for item in items[split] if item.turned]
        if turned:
            message = f"{turned[0]}: turned by its EXIF orientation ({len(turned)} such)"
            findings.append(Finding("warning", "orientation", split, turned[0], message))
    # nothing is known about the classes if no mask could be read
    readable = {split: sum(bool(item.pixels) for item in found) for split, found in items.items()}
    known = {split: summary for split, summary in summaries.items() if readable[split]}
    return findings + _class_findings(known, readable, labels) if known else findings


def _class_findings(
    summaries: Mapping[str, SplitSummary], readable: Mapping[str, int], labels: Labels
) -> list[Finding]:
    findings = []
    rare: list[tuple[float, str]] = []
    for index, name in enumerate(labels.class_names):
        present = [split for split, summary in summaries.items() if summary.image_count[index]]
        if not present:
            findings.append(Finding("warning", "class", None, None, f"class '{name}' never occurs"))
        elif len(present) == 1 and len(summaries) > 1:
            message = f"class '{name}' occurs in {present[0]} only"
            findings.append(Finding("warning", "class", present[0], None, message))
        else:
            rare += _rarest(name, {split: summaries[split] for split in present}, readable, index)
    if rare:
        shown = ", ".join(text for _, text in sorted(rare)[:_RARE_SHOWN])
        more = f" and {len(rare) - _RARE_SHOWN} more" if len(rare) > _RARE_SHOWN else ""
        rule = f"below {RARE_PIXELS:.0%} of the labelled pixels or in fewer than {RARE_IMAGES} images of a split"
        message = f"rare classes, rarest first: {shown}{more}; rare means {rule}"
        findings.append(Finding("warning", "class", None, None, message))
    return findings


def _rarest(
    name: str, summaries: Mapping[str, SplitSummary], readable: Mapping[str, int], index: int
) -> list[tuple[float, str]]:
    """A class with its frequency in the split where it is rarest, or nothing if it is not rare."""
    found = []
    for split, summary in summaries.items():
        share, count = summary.pixel_share[index], summary.image_count[index]
        if share < RARE_PIXELS or count < min(RARE_IMAGES, readable[split]):
            found.append((share, f"{name} ({share:.2%} of {split}, in {count} image{'s' if count != 1 else ''})"))
    return sorted(found)[:1]
