"""Everything that can be wrong with a data set, found before it costs a training."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreg.checking.findings import DataReport, Finding, SplitSummary
from selfreg.checking.inspection import SIZE_EDGES, Item, inspect_item
from selfreg.data.folder import Folder
from selfreg.data.kinds import DataOptionError, find_splits, open_source
from selfreg.data.labels import IGNORE_INDEX, Labels
from selfreg.data.source import Source
from selfreg.termination import follow_parent

VOID_SHARE = 0.03
"""A split with more void than this is worth a warning."""
MOSTLY_VOID = 0.9
"""So is an image with more void than this."""
RARE_PIXELS = 0.01
"""A class with fewer of the labelled pixels than this is rare."""
RARE_IMAGES = 10
"""A class in fewer images than this is rare."""
NEAR_BITS = 8
"""Pictures whose perceptual hashes differ in at most this many of 63 bits may be one picture ..."""
NEAR_CORRELATION = 0.98
"""... and count as such when their thumbnails correlate at least so much."""


def check_data(
    kind: str,
    root: str | Path | None,
    splits: Sequence[str] | None = None,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> DataReport:
    """Reads every image and mask of a data set once and reports what is wrong.

    Errors: unreadable, truncated or missing files, sizes that differ, labels out of range, colour masks, masks that
    are void throughout, empty splits, the same picture in two splits. Warnings: much void, classes that never occur,
    occur in one split only or are rare, pictures of two splits that look alike, the same picture twice in a split,
    masks without an image, EXIF orientations.

    Args:
        kind: of data set, see `open_source`.
        root: its folder.
        splits: those to read; all that are there if not given.
        workers: number of processes; as many as there are cores if not given.
        progress: called with (items read, items in all) after each.
        options: of the kind, as for `open_source`.

    Raises:
        ValueError: an unknown kind or option, or no split is found.
    """
    names = list(splits) if splits is not None else find_splits(kind, root)
    findings: list[Finding] = []
    sources: dict[str, Source] = {}
    for split in names:
        source = _open(kind, root, split, options, findings)
        if source is not None:
            sources[split] = source
    items = list(_inspect_all(sources, workers, progress))
    labels = next((source.labels for source in sources.values()), None)
    of_split = {split: [item for item in items if item.split == split] for split in sources}
    findings += [Finding("error", "file", item.split, item.name, fault) for item in items for fault in item.faults]
    findings += find_duplicates(items)
    summaries = {}
    if labels is not None:
        summaries = {split: summarise(found, labels.num_classes) for split, found in of_split.items()}
        if not options.get("tags_only"):
            findings += _label_findings(of_split, summaries, labels)
    findings.sort(key=lambda finding: finding.level)
    return DataReport(kind, None if root is None else str(root), labels, summaries, findings, items)


def summarise(items: Sequence[Item], num_classes: int) -> SplitSummary:
    """Adds up the labels of one split."""
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


def find_duplicates(items: Sequence[Item]) -> list[Finding]:
    """The same picture twice, pixel by pixel or to the eye; across splits by preference, that being the costly case."""
    findings = []
    same: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.fingerprint:
            same[item.fingerprint].append(item)
    for group in same.values():
        first = group[0]
        for item in group[1:]:
            across = item.split != first.split
            where = f"{first.name} of {first.split}" if across else first.name
            message = f"{item.name}: the same picture as {where}: take one of them away"
            findings.append(Finding("error" if across else "warning", "duplicate", item.split, item.name, message))
    for first, item in _near_pairs([group[0] for group in same.values()]):
        message = f"{item.name}: looks like {first.name} of {first.split}: see whether it is the same picture"
        findings.append(Finding("warning", "near duplicate", item.split, item.name, message))
    return findings


def _near_pairs(items: Sequence[Item]) -> Iterator[tuple[Item, Item]]:
    """Pairs of items of different splits that look alike, each item of the later split once."""
    splits = list(dict.fromkeys(item.split for item in items))
    for number, later in enumerate(splits):
        mine = [item for item in items if item.split == later]
        others = [item for item in items if item.split in splits[:number]]
        if not others:
            continue
        hashes = np.array([item.perceptual for item in others], dtype=np.uint64)
        looks = _standardised(others)
        for item, look in zip(mine, _standardised(mine), strict=True):
            close = np.flatnonzero(np.bitwise_count(hashes ^ np.uint64(item.perceptual)) <= NEAR_BITS)
            if len(close):
                alike = looks[close] @ look
                if alike.max() >= NEAR_CORRELATION:
                    yield others[close[int(alike.argmax())]], item


def _standardised(items: Sequence[Item]) -> NDArray[np.float32]:
    """(N, 1024) thumbnails of mean 0 and length 1: their products are correlations."""
    looks = np.array([item.thumbnail for item in items], dtype=np.float32).reshape(len(items), -1)
    looks -= looks.mean(axis=1, keepdims=True)
    looks /= np.maximum(np.linalg.norm(looks, axis=1, keepdims=True), 1e-6)
    return looks


def _open(
    kind: str, root: str | Path | None, split: str, options: Mapping[str, Any], findings: list[Finding]
) -> Source | None:
    """Opens a split with its missing files left in, so that all are found; a split that cannot be opened is noted."""
    lenient = {} if kind == "scenes" else {"must_exist": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of masks without an image, which are all named below
        try:
            source = open_source(kind, root, split, **lenient, **options)
        except DataOptionError:
            raise
        except ValueError as error:
            findings.append(Finding("error", "split", split, None, str(error)))
            return None
    for orphan in source.orphans if isinstance(source, Folder) else ():
        findings.append(Finding("warning", "file", split, str(orphan), f"{orphan}: a mask without an image: not used"))
    return source


_sources: Mapping[str, Source] = {}
"""What a worker process reads from; set once in each."""


def _start_worker(sources: Mapping[str, Source]) -> None:
    global _sources
    _sources = sources
    follow_parent()


def _inspect(task: tuple[str, int]) -> Item:
    split, index = task
    return inspect_item(_sources[split], split, index)


def _inspect_all(
    sources: Mapping[str, Source], workers: int | None, progress: Callable[[int, int], None] | None
) -> Iterator[Item]:
    tasks = [(split, index) for split, source in sources.items() for index in range(len(source))]
    count = min(workers or cpu_count() or 1, max(1, len(tasks) // 8))
    if count == 1:
        results: Iterable[Item] = (inspect_item(sources[split], split, index) for split, index in tasks)
        yield from _counted(results, len(tasks), progress)
        return
    with ProcessPoolExecutor(count, initializer=_start_worker, initargs=(sources,)) as pool:
        yield from _counted(pool.map(_inspect, tasks, chunksize=8), len(tasks), progress)


def _counted(items: Iterable[Item], total: int, progress: Callable[[int, int], None] | None) -> Iterator[Item]:
    for number, item in enumerate(items, start=1):
        if progress is not None:
            progress(number, total)
        yield item


def _label_findings(
    items: Mapping[str, Sequence[Item]], summaries: Mapping[str, SplitSummary], labels: Labels
) -> list[Finding]:
    """Void, classes that are absent or rare, and turned pictures: never an error."""
    findings = []

    def warn(check: str, split: str | None, file: str | None, message: str) -> None:
        findings.append(Finding("warning", check, split, file, message))

    for split, summary in summaries.items():
        if summary.void_share > VOID_SHARE:
            warn("void", split, None, f"{split}: {summary.void_share:.1%} of the pixels are void")
        for item in items[split]:
            if MOSTLY_VOID < item.void_share < 1:
                warn("void", split, item.name, f"{item.name}: {item.void_share:.1%} of the mask is void")
        turned = [item.name for item in items[split] if item.turned]
        if turned:
            warn("orientation", split, turned[0], f"{turned[0]}: turned by its EXIF orientation ({len(turned)} such)")
    for index, name in enumerate(labels.class_names):
        counts = {split: summary.image_count[index] for split, summary in summaries.items()}
        present = [split for split, count in counts.items() if count]
        if not present:
            warn("class", None, None, f"class '{name}' never occurs")
        elif len(present) == 1 and len(counts) > 1:
            warn("class", present[0], None, f"class '{name}' occurs in {present[0]} only")
    for split, summary in summaries.items():
        fewest = min(RARE_IMAGES, summary.num_images)
        rare = [
            f"{name} ({share:.2%}, {count} images)"
            for name, share, count in zip(labels.class_names, summary.pixel_share, summary.image_count, strict=True)
            if count and (share < RARE_PIXELS or count < fewest)
        ]
        if rare:
            warn("class", split, None, f"{split}: {len(rare)} rare classes, share of pixels: {', '.join(rare)}")
    return findings
