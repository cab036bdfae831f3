import math
import pickle

import numpy as np
import pytest
import torch

from selfreg.evaluation import ConfusionMatrix, FailureRates, failure_counts, failure_scores


def batch(count: int = 4) -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((count, 60, 80), dtype=np.uint8)
    predictions = np.zeros_like(labels)
    for index in range(count):
        labels[index, 10:40, 10 + index : 60] = 1
        labels[index, 50:56, 70:76] = 2
        predictions[index] = labels[index]
        predictions[index, 20 : 24 + index, 20:30] = 2
        if index % 2:
            predictions[index, 50:56, 70:76] = 0
    return predictions, labels


def test_rates_of_a_batch_are_those_of_the_summed_counts() -> None:
    predictions, labels = batch()
    metric = FailureRates(3, background=0)
    metric.update(torch.from_numpy(predictions), torch.from_numpy(labels))
    counts = [failure_counts(p, y, 3, background=0) for p, y in zip(predictions, labels, strict=True)]
    expected = failure_scores(counts[0] + counts[1] + counts[2] + counts[3], 0)
    found = metric.compute()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    assert found["missed_unit_rate"] == 0.5
    low, high = found["intervals"]["missed_unit_rate"]
    assert 0 <= low < 0.5 < high <= 1


def test_batch_and_single_images_are_the_same() -> None:
    predictions, labels = batch()
    together, apart = FailureRates(3, bootstrap=0), FailureRates(3, bootstrap=0)
    together.update(predictions, labels)
    for prediction, label in zip(predictions, labels, strict=True):
        apart.update(prediction, label)
    assert torch.equal(torch.cat(together.images), torch.cat(apart.images))
    assert apart.compute()["intervals"] == {}
    apart.reset()
    assert apart.images == []


def test_processes_put_their_images_together() -> None:
    predictions, labels = batch()
    alone = FailureRates(3, background=0)
    alone.update(predictions, labels)
    expected = alone.compute()
    other = FailureRates(3, background=0)
    other.update(predictions[2:], labels[2:])
    first = FailureRates(
        3,
        background=0,
        dist_sync_fn=lambda state, group: [state, torch.cat(other.images)],  # noqa: ARG005
        distributed_available_fn=lambda: True,
    )
    first.update(predictions[:2], labels[:2])
    found = first.compute()
    assert found["missed_unit_rate"] == expected["missed_unit_rate"]
    assert found["partial_mislabel_rate"] == expected["partial_mislabel_rate"]
    np.testing.assert_equal(found["intervals"], expected["intervals"])


def test_confusion_matrices_of_processes_add_up() -> None:
    predictions, labels = batch()
    other = ConfusionMatrix(3)
    other.update(predictions[2:], labels[2:])
    first = ConfusionMatrix(
        3,
        dist_sync_fn=lambda state, group: [state, other.matrix],  # noqa: ARG005
        distributed_available_fn=lambda: True,
    )
    first.update(predictions[:2], labels[:2])
    alone = ConfusionMatrix(3)
    alone.update(predictions, labels)
    assert first.compute() == alone.compute()


def test_metric_is_picklable_and_says_when_it_is_empty() -> None:
    metric = pickle.loads(pickle.dumps(FailureRates(3)))
    with pytest.raises(ValueError, match="has seen no image"):
        metric.compute()


def test_nothing_to_count_is_nan() -> None:
    metric = FailureRates(3, background=0)
    metric.update(np.zeros((20, 20), dtype=np.uint8), np.zeros((20, 20), dtype=np.uint8))
    found = metric.compute()
    assert math.isnan(found["missed_unit_rate"])
    assert math.isnan(found["partial_mislabel_rate"])


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match="must both be"):
        FailureRates(3).update(np.zeros((2, 4, 4), dtype=int), np.zeros((4, 4), dtype=int))
