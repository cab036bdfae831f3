"""Every loss again in plain NumPy, pixel by pixel: the oracle, written from the equations and not from the code."""

from itertools import chain
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max()
    result: Array = shifted - np.log(np.exp(shifted).sum())
    return result


def upsample(maps: Array, height: int, width: int, corners: bool = False) -> Array:
    """Bilinear, of (N, K, h, w): the outer edges of the grids coincide, or with `corners` the corner cells' centres."""
    out = np.zeros((*maps.shape[:2], height, width))
    for y in range(height):
        for x in range(width):
            sy = max((y + 0.5) * maps.shape[2] / height - 0.5, 0)
            sx = max((x + 0.5) * maps.shape[3] / width - 0.5, 0)
            if corners:
                sy, sx = y * (maps.shape[2] - 1) / (height - 1), x * (maps.shape[3] - 1) / (width - 1)
            top, left = int(sy), int(sx)
            bottom, right = min(top + 1, maps.shape[2] - 1), min(left + 1, maps.shape[3] - 1)
            dy, dx = sy - top, sx - left
            upper = (1 - dx) * maps[:, :, top, left] + dx * maps[:, :, top, right]
            lower = (1 - dx) * maps[:, :, bottom, left] + dx * maps[:, :, bottom, right]
            out[:, :, y, x] = (1 - dy) * upper + dy * lower
    return out


def average(maps: Array, height: int, width: int) -> Array:
    """Mean over the cells of a coarser grid that divides the finer one."""
    rows, columns = maps.shape[2] // height, maps.shape[3] // width
    out = np.zeros((*maps.shape[:2], height, width))
    for y in range(height):
        for x in range(width):
            cell = maps[:, :, y * rows : (y + 1) * rows, x * columns : (x + 1) * columns]
            out[:, :, y, x] = cell.reshape(*maps.shape[:2], -1).mean(axis=2)
    return out


def cells(labels: Array, num_classes: int, height: int, width: int, ignore: int, weight: Array) -> Array:
    """Weighted pixels of each class in each cell, (N, K, h, w)."""
    out = np.zeros((labels.shape[0], num_classes, height, width))
    for n in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                if labels[n, y, x] != ignore:
                    cell = y * height // labels.shape[1], x * width // labels.shape[2]
                    out[n, labels[n, y, x], cell[0], cell[1]] += weight[n, y, x]
    return out


def bce(logits: Array, targets: Array) -> float:
    p = 1 / (1 + np.exp(-logits))
    return float(-(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean())


def cross_entropy(maps: Array, counts: Array) -> float:
    """Mean over counted pixels, cell by cell."""
    total = 0.0
    for n in range(maps.shape[0]):
        for y in range(maps.shape[2]):
            for x in range(maps.shape[3]):
                total -= float((counts[n, :, y, x] * log_softmax(maps[n, :, y, x])).sum())
    return total / float(counts.sum())


def softmax_map(maps: Array, temperature: float = 1.0) -> Array:
    out = np.zeros_like(maps)
    for n in range(maps.shape[0]):
        for y in range(maps.shape[2]):
            for x in range(maps.shape[3]):
                out[n, :, y, x] = np.exp(log_softmax(maps[n, :, y, x] / temperature))
    return out


def divergence(student: Array, teacher: Array, counts: Array, temperature: float, verified: bool) -> float:
    """T^2 KL(teacher || student) per valid pixel, both logits, the teacher on a grid that is nowhere coarser."""
    height, width = student.shape[2:]
    q_map = average(softmax_map(teacher, temperature), height, width)
    p_map = softmax_map(student, temperature)
    total = 0.0
    for n in range(student.shape[0]):
        for y in range(height):
            for x in range(width):
                q, p, c = q_map[n, :, y, x], p_map[n, :, y, x], counts[n, :, y, x]
                if verified:
                    right = c[q.argmax()] == c.max()
                    surer = (c * np.log(q)).sum() > (c * np.log(p)).sum()
                    if not (right and surer):
                        continue
                total += c.sum() * float((q * (np.log(q) - np.log(p))).sum())
    return temperature**2 * total / float(counts.sum())


def hard(student: Array, teacher: Array, valid: Array) -> float:
    """Cross-entropy against the teacher's argmax; valid: (N, h', w') pixels in the teacher's cells."""
    decisions = teacher.argmax(axis=1)
    counts = cells(decisions, student.shape[1], student.shape[2], student.shape[3], -1, valid)
    return cross_entropy(student, counts)


def terms(
    class_maps: list[Array],
    image_logits: list[Array],
    labels: Array,
    *,
    variant: str,
    at_labels: bool = False,
    temperature: float = 1.0,
    ignore: int = 255,
    confidence: Array | None = None,
    features: list[Array] | None = None,
    window: int = 32,
    mean_over: str = "class",
) -> dict[str, float]:
    """All five raw terms, summed over exits."""
    num_classes = class_maps[0].shape[1]
    height, width = labels.shape[1:]
    weight = np.ones(labels.shape) if confidence is None else confidence

    def counts_at(maps: Array) -> Array:
        return cells(labels, num_classes, maps.shape[2], maps.shape[3], ignore, weight)

    corners = at_labels and variant == "authors"
    at_label_size = [upsample(maps, height, width, corners) for maps in class_maps]
    *exits, own = at_label_size if at_labels else [*class_maps[:-1], class_maps[-1]]
    segmentation = sum(cross_entropy(maps, counts_at(maps)) for maps in exits)
    segmentation += cross_entropy(at_label_size[-1], counts_at(at_label_size[-1]))

    known = [n for n in range(len(labels)) if (labels[n] != ignore).any()]
    presence = np.array([[float((labels[n] == k).any()) for k in range(num_classes)] for n in known])
    classification = sum(bce(z[known], presence) for z in image_logits)

    finest = max((maps.shape[2:] for maps in exits), key=lambda size: size[0] * size[1])
    compared = own if own.shape[2] <= finest[0] else average(own, *finest)
    students = [*exits[1:], compared]

    def distilled(student: Array, teacher: Array) -> float:
        size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
        student = average(student, *size) if student.shape[2:] != size else student
        return divergence(student, teacher, counts_at(student), temperature, variant == "verified")

    if variant == "authors":
        valid = counts_at(exits[0]).sum(axis=1)
        sr_f = sum(hard(student, exits[0], valid) for student in students)
        teacher_z = 1 / (1 + np.exp(-image_logits[-1][known]))
        sr_l = sum(bce(z[known], teacher_z) for z in image_logits[:-1])
    else:
        sr_l = sum(distilled(student, compared) for student in exits)
        sr_f = sum(distilled(student, exits[0]) for student in students)
    if variant == "feature":
        assert features is not None
        sr_f = sum(feature_distance(student, features[0], counts_at) for student in features[1:])
    local_presence = 0.0
    for maps in (*exits, compared):
        rows, columns = cells_across(window, maps.shape[2], height), cells_across(window, maps.shape[3], width)
        local_presence += presence_in_windows(maps, counts_at(maps), (rows, columns), mean_over)
    return {
        "segmentation": segmentation,
        "classification": classification,
        "local_presence": local_presence,
        "sr_f": sr_f,
        "sr_l": sr_l,
    }


def cells_across(window: int, cells: int, pixels: int) -> int:
    """A window of so many pixels in cells, on a side of `cells` cells that covers `pixels` pixels."""
    return min(cells, max(2, round(window * cells / pixels)))


def starts(cells: int, across: int) -> list[int]:
    """First cells of the windows, half of one apart, until the last cell is in one."""
    found = [0]
    while found[-1] + across < cells:
        found.append(found[-1] + max(1, across // 2))
    return found


def presence_in_windows(maps: Array, counts: Array, window: tuple[int, int], mean_over: str) -> float:
    """Logits (N, K, h, w), and windows of rows x columns of their cells."""
    rows, columns = window
    p = softmax_map(maps)
    present: dict[int, list[float]] = {}
    absent: dict[int, list[float]] = {}
    for n in range(len(maps)):
        for y in starts(maps.shape[2], rows):
            for x in starts(maps.shape[3], columns):
                held = counts[n, :, y : y + rows, x : x + columns]
                valid = held.sum(axis=0) > 0
                if not valid.any():
                    continue
                for k in range(maps.shape[1]):
                    given = p[n, k, y : y + rows, x : x + columns]
                    if held[k].any():
                        present.setdefault(k, []).append(-np.log(given[held[k] > 0].max()))
                    else:
                        absent.setdefault(k, []).append(-np.log(1 - given[valid].max()))
    if mean_over == "class":
        missed, invented = (sum(np.mean(of) for of in by.values()) / max(len(by), 1) for by in (present, absent))
    else:
        missed, invented = (np.mean([*chain(*by.values())] or [0.0]) for by in (present, absent))
    return float((missed + 4 * invented) / 2)


def feature_distance(student: Array, teacher: Array, counts_at: Any) -> float:
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    student, teacher = average(student, *size), average(teacher, *size)
    valid = counts_at(student).sum(axis=1)
    f = student / np.sqrt((student**2).sum(axis=1, keepdims=True))
    g = teacher / np.sqrt((teacher**2).sum(axis=1, keepdims=True))
    return float((valid * ((f - g) ** 2).sum(axis=1)).sum() / valid.sum())
