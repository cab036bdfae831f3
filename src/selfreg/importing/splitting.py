"""A validation split for an export that has none."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

VAL_SHARE = 0.2
"""Share of the images that go to the validation split by default."""
_FEWEST_GROUPS = 5

# Roboflow writes several versions of one photograph: NAME_jpg.rf.HASH
_VERSION = re.compile(r"\.rf\.[0-9A-Za-z]+$")
_NUMBER = re.compile(r"[ _.\-]*\d+$")


def choose_validation(names: Sequence[str], share: float, seed: int) -> tuple[set[str], int]:
    """Choose images for validation, as whole groups of related images.

    Images whose names differ only in a number at the end (frames of a clip), images of one folder, and images that
    Roboflow made from one photograph form a group, if this gives five groups or more. Otherwise only the versions of
    one photograph do.

    Args:
        names: Names of the images, with `/`, without suffix.
        share: Fraction of the images to choose, in (0, 1).
        seed: Seed of the choice.

    Returns:
        The chosen names, at least one and not all, and the number of groups.

    Raises:
        ValueError: If there are fewer than two groups.
    """
    groups = _groups(sorted(names))
    if len(groups) < 2:
        raise ValueError(f"a validation split of {len(names)} images that belong together cannot be made: use --val 0")
    order = np.random.default_rng(seed).permutation(len(groups)).tolist()
    wanted = max(1, round(share * len(names)))
    chosen: set[str] = set()
    for index in order[:-1]:
        # skip a group that would exceed the target by more than is missing, unless nothing was chosen yet
        over = len(chosen) + len(groups[index]) - wanted
        if len(chosen) < wanted and (not chosen or over <= wanted - len(chosen)):
            chosen.update(groups[index])
    return chosen, len(groups)


def _groups(names: Sequence[str]) -> list[list[str]]:
    photographs = {name: _VERSION.sub("", name) for name in names}
    folders = {name: name.rpartition("/")[0] for name in names}
    clips = {name: folders[name] + "/" + _NUMBER.sub("", photographs[name].rpartition("/")[2]) for name in names}
    for keys in (folders, clips):
        sizes = Counter(keys.values())
        together = sum(size for size in sizes.values() if size > 1)
        if len(sizes) >= _FEWEST_GROUPS and 2 * together >= len(names):
            return _by_key(keys)
    return _by_key(photographs)


def _by_key(keys: dict[str, str]) -> list[list[str]]:
    groups = defaultdict(list)
    for name, key in keys.items():
        groups[key].append(name)
    return list(groups.values())
