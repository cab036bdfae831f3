"""Duplicate pictures: identical pixels, or pictures that look alike."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from selfreg.checking.findings import Finding
from selfreg.checking.inspection import Item

NEAR_BITS = 8
"""Pictures whose perceptual hashes differ in at most this many of 64 bits may be one picture ..."""
NEAR_CORRELATION = 0.98
"""... and count as such if their thumbnails correlate at least this much."""


def find_duplicates(items: Sequence[Item]) -> list[Finding]:
    """Find duplicate pictures: errors across splits, warnings within a split or if pictures only look alike."""
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
            message = f"{item.name}: the same picture as {where}: remove one of them"
            findings.append(Finding("error" if across else "warning", "duplicate", item.split, item.name, message))
    for first, item in _near_pairs([group[0] for group in same.values()]):
        message = f"{item.name}: looks like {first.name} of {first.split}: check whether it is the same picture"
        findings.append(Finding("warning", "near duplicate", item.split, item.name, message))
    return findings


def _near_pairs(items: Sequence[Item]) -> Iterator[tuple[Item, Item]]:
    """Pairs of similar items of different splits; each item of the later split occurs once."""
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
    """(N, 1024) thumbnails with mean 0 and norm 1; their products are correlations."""
    looks = np.array([item.thumbnail for item in items], dtype=np.float32).reshape(len(items), -1)
    looks -= looks.mean(axis=1, keepdims=True)
    looks /= np.maximum(np.linalg.norm(looks, axis=1, keepdims=True), 1e-6)
    return looks
