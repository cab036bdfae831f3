"""The cases of a comparison: which errors a page shows."""

from collections import defaultdict
from collections.abc import Iterator
from math import log2

import numpy as np
from numpy.typing import NDArray

from selfreg.comparison.compare import Comparison
from selfreg.data import Pair, image_format_of
from selfreg.evaluation import FailureCase, failure_cases
from selfreg.inference.scoring import read_prediction
from selfreg.report.content import Case, CaseKind

_KINDS: dict[str, CaseKind] = {
    "object": "missed object",
    "part": "missed part",
    "mislabel": "mislabelled part",
    "hole": "mislabelled part",
}

ClassMaps = tuple[NDArray[np.uint8], ...]


def choose_cases(comparison: Comparison, limit: int = 200, overviews: int = 12) -> list[Case]:
    """Choose errors and whole images to show.

    Errors of each kind come with the largest change between the sides first, then the worst that all sides share. An
    error that several sides have in common is shown once.

    Args:
        comparison: The comparison.
        limit: Largest number of errors.
        overviews: Largest number of whole images.
    """
    by_kind: dict[CaseKind, list[Case]] = defaultdict(list)
    whole: list[Case] = []
    for index in range(len(comparison.source)):
        pair, maps = comparison.source.read(index), _predictions(comparison, index)
        for case in _failures(comparison, index, pair, maps):
            by_kind[case.kind].append(case)
        whole.append(_overview(comparison, index, pair, maps))
        # pictures need much memory: keep only as many as can be shown
        for kind, cases in by_kind.items():
            if len(cases) > 4 * limit:
                by_kind[kind] = _best(cases, limit)
        if len(whole) > 4 * overviews:
            whole = _spread(whole, overviews)
    chosen = _round_robin([_best(cases, limit) for cases in by_kind.values()], limit)
    return chosen + _spread(whole, overviews)


def _predictions(comparison: Comparison, index: int) -> ClassMaps:
    source = comparison.source
    image_id = source.ids[index]
    return tuple(read_prediction(side.folder, image_id, source.labels, side.class_names) for side in comparison.sides)


def _failures(comparison: Comparison, index: int, pair: Pair, maps: ClassMaps) -> Iterator[Case]:
    labels = comparison.source.labels
    found: list[FailureCase] = []
    for prediction in (maps[-1], *maps[:-1]):
        for failure in failure_cases(prediction, pair.mask, labels.num_classes, background=labels.background):
            if not any(_same(failure, other) for other in found):
                found.append(failure)
    for failure in found:
        coverages = [failure.coverage_in(prediction) for prediction in maps]
        top, left, bottom, right = failure.box
        outline = np.zeros(pair.mask.shape, bool)
        outline[top:bottom, left:right] = failure.mask
        weight = log2(1 + failure.area)
        gain = coverages[-1] - coverages[0] if len(maps) > 1 else 1 - coverages[0]
        yield Case(
            image_id=comparison.source.ids[index],
            image=image_format_of(comparison.source).to_rgb(pair.image),
            label=pair.mask,
            predictions=maps,
            kind=_KINDS[failure.kind],
            class_index=failure.class_index,
            wrong_class=failure.predicted_class,
            outline=outline,
            box=failure.box,
            scores=tuple(f"{100 * coverage:.0f} % correct" for coverage in coverages),
            change=gain * weight,
            severity=(1 - coverages[-1]) * weight,
            quality=tuple(coverage * weight for coverage in coverages),
        )


def _same(first: FailureCase, second: FailureCase) -> bool:
    """Whether two cases are the same object or part, or wrong patches that mostly overlap."""
    if _KINDS[first.kind] != _KINDS[second.kind] or first.class_index != second.class_index:
        return False
    top, left = max(first.box[0], second.box[0]), max(first.box[1], second.box[1])
    bottom, right = min(first.box[2], second.box[2]), min(first.box[3], second.box[3])
    common = max(bottom - top, 0) * max(right - left, 0)
    areas = [(case.box[2] - case.box[0]) * (case.box[3] - case.box[1]) for case in (first, second)]
    return common > 0.5 * (areas[0] + areas[1] - common)


def _overview(comparison: Comparison, index: int, pair: Pair, maps: ClassMaps) -> Case:
    valid = pair.mask != 255
    pixels = max(int(valid.sum()), 1)
    right = [float(((prediction == pair.mask) & valid).sum() / pixels) for prediction in maps]
    return Case(
        image_id=comparison.source.ids[index],
        image=image_format_of(comparison.source).to_rgb(pair.image),
        label=pair.mask,
        predictions=maps,
        kind="overview",
        scores=tuple(f"{100 * share:.1f} % correct" for share in right),
        change=right[-1] - right[0] if len(maps) > 1 else 1 - right[0],
        quality=tuple(right),
    )


def _best(cases: list[Case], number: int) -> list[Case]:
    # with three or more sides, a case is ranked by the pair of sides with the largest change
    return sorted(cases, key=lambda case: (min(case.quality) - max(case.quality), -case.severity))[:number]


def _spread(cases: list[Case], number: int) -> list[Case]:
    """Take gains, losses and unchanged cases in equal shares, so that the selection favours no side."""
    ordered = sorted(cases, key=lambda case: case.change)
    if len(ordered) <= number:
        return ordered
    positions = np.linspace(0, len(ordered) - 1, number).round().astype(int)
    return [ordered[position] for position in positions]


def _round_robin(lists: list[list[Case]], limit: int) -> list[Case]:
    chosen: list[Case] = []
    for rank in range(max(map(len, lists), default=0)):
        chosen.extend(cases[rank] for cases in lists if rank < len(cases))
    return chosen[:limit]
