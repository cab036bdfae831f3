"""What is watched of self-regulation, against counting cell by cell."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from regulation.slow_terms import average, cells, log_softmax, softmax_map
from regulation.test_objective import VOID, K, batch, outputs
from selfreg.regulation import SelfRegulation, watch_regulation


def places(size: tuple[int, int]) -> list[tuple[int, int, int]]:
    return [(n, y, x) for n in range(2) for y in range(size[0]) for x in range(size[1])]


def counts_on(size: tuple[int, int], labels: Tensor) -> Any:
    return cells(labels.numpy(), K, *size, VOID, np.ones(labels.shape))


def accuracy(teacher: Any, labels: Tensor) -> float:
    counts = counts_on(teacher.shape[2:], labels)
    right = sum(counts[n, teacher[n, :, y, x].argmax(), y, x] for n, y, x in places(teacher.shape[2:]))
    return float(right / counts.sum())


def gate_open(teacher: Any, student: Any, labels: Tensor) -> float:
    size = min(teacher.shape[2], student.shape[2]), min(teacher.shape[3], student.shape[3])
    counts, q, logits = counts_on(size, labels), average(softmax_map(teacher), *size), average(student, *size)
    opened = 0.0
    for n, y, x in places(size):
        c, log_q, log_p = counts[n, :, y, x], np.log(q[n, :, y, x]), log_softmax(logits[n, :, y, x])
        if c[log_q.argmax()] == c.max() and c @ log_q > c @ log_p:
            opened += c.sum()
    return float(opened / counts.sum())


def test_the_accuracy_of_teachers_and_the_open_gates_are_counted() -> None:
    given, labels = outputs(30), batch(30)
    *exits, own = (class_map.numpy() for class_map in given.class_maps)
    own = average(own, 4, 4)
    found = watch_regulation(SelfRegulation("verified"), given, labels)
    assert found["teacher_accuracy/sr_f"].item() == pytest.approx(accuracy(exits[0], labels))
    assert found["teacher_accuracy/sr_l"].item() == pytest.approx(accuracy(own, labels))
    sr_f = [gate_open(exits[0], student, labels) for student in (*exits[1:], own)]
    assert found["gate_open/sr_f"].tolist() == pytest.approx(sr_f)
    sr_l = [gate_open(own, student, labels) for student in exits]
    assert found["gate_open/sr_l"].tolist() == pytest.approx(sr_l)
    assert 0 < found["gate_open/sr_f"].min() < 1


def test_only_what_teaches_is_watched() -> None:
    given, labels = outputs(31), batch(31)
    assert set(watch_regulation(SelfRegulation("distill", sr_f_weight=0.0), given, labels)) == {"teacher_accuracy/sr_l"}
    assert watch_regulation(SelfRegulation(sr_f_weight=0.0, sr_l_weight=0.0), given, labels) == {}
    # there SR-L is taught by image-level logits
    assert set(watch_regulation(SelfRegulation("authors"), given, labels)) == {"teacher_accuracy/sr_f"}


@pytest.mark.parametrize("resolution", ["exit", "label"])
def test_where_nothing_is_valid_nothing_is_right(resolution: Any) -> None:
    options = SelfRegulation(exit_resolution=resolution)
    found = watch_regulation(options, outputs(32), torch.full((2, 8, 8), VOID))
    assert all(not values.any() for values in found.values())
