import math
import pickle

import numpy as np
import pytest
import torch
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreg.evaluation import ConfusionMatrix, confusion_matrix, confusion_scores


def plain_confusion(prediction: np.ndarray, label: np.ndarray, num_classes: int, ignore_index: int) -> np.ndarray:
    matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
    for predicted, true in zip(prediction.ravel().tolist(), label.ravel().tolist(), strict=True):
        if true != ignore_index:
            matrix[true, predicted] += 1
    return matrix


def random_maps(seed: int, num_classes: int, shape: tuple[int, ...] = (9, 13)) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    label = generator.integers(0, num_classes, shape)
    label[generator.random(shape) < 0.2] = 255
    return generator.integers(0, num_classes, shape), label


def test_scores_of_a_matrix_worked_out_by_hand() -> None:
    metric = ConfusionMatrix(num_classes=4)
    metric.update(np.array([[0, 0, 1], [1, 1, 3]]), np.array([[0, 1, 1], [1, 255, 0]]))
    # Labelled: two pixels of class 0, three of class 1. Class 2 is nowhere; class 3 is predicted once, wrongly.
    scores = metric.compute()
    assert scores["per_class_iou"][:2] == [1 / 3, 2 / 3]
    assert math.isnan(scores["per_class_iou"][2])
    assert scores["per_class_iou"][3] == 0.0
    assert scores["miou"] == pytest.approx((1 / 3 + 2 / 3 + 0) / 3)
    assert scores["pixel_accuracy"] == pytest.approx(3 / 5)
    assert scores["mean_accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert scores["frequency_weighted_iou"] == pytest.approx(2 / 5 * 1 / 3 + 3 / 5 * 2 / 3)


def test_scores_are_plain_numbers() -> None:
    metric = ConfusionMatrix(3)
    metric.update(torch.tensor([0, 1]), torch.tensor([0, 1]))
    for value in metric.compute().values():
        for number in value if isinstance(value, list) else [value]:
            assert type(number) is float


@given(
    seed=st.integers(0, 10_000), num_classes=st.integers(1, 300), dtype=st.sampled_from([np.int16, np.int64, np.uint16])
)
@settings(max_examples=40, deadline=None)
def test_matrix_equals_a_plain_count(seed: int, num_classes: int, dtype: type) -> None:
    prediction, label = random_maps(seed, num_classes)
    ignore_index = 999
    label[label == 255] = ignore_index
    expected = plain_confusion(prediction, label, num_classes, ignore_index)
    found = confusion_matrix(prediction.astype(dtype), label.astype(dtype), num_classes, ignore_index)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


def test_large_class_counts_in_eight_bits_do_not_overflow() -> None:
    generator = np.random.default_rng(3)
    prediction, label = generator.integers(0, 254, (2, 60, 70)).astype(np.uint8)
    np.testing.assert_array_equal(
        confusion_matrix(prediction, label, 254), plain_confusion(prediction, label, 254, 255)
    )


def test_iou_agrees_with_torchmetrics() -> None:
    ours = ConfusionMatrix(7)
    theirs = torchmetrics.JaccardIndex(task="multiclass", num_classes=7, ignore_index=255, average="none")
    for seed in range(3):
        prediction, label = (torch.from_numpy(array) for array in random_maps(seed, 7, (2, 9, 13)))
        ours.update(prediction, label)
        theirs.update(prediction, label)
    np.testing.assert_allclose(ours.compute()["per_class_iou"], theirs.compute().numpy(), rtol=1e-6)


def test_batches_add_up_and_reset_forgets() -> None:
    prediction, label = random_maps(0, 5, (4, 9, 13))
    together, apart = ConfusionMatrix(5), ConfusionMatrix(5)
    together.update(prediction, label)
    for one_prediction, one_label in zip(prediction, label, strict=True):
        apart.update(torch.from_numpy(one_prediction), torch.from_numpy(one_label))
    assert torch.equal(together.matrix, apart.matrix)
    apart.reset()
    assert int(apart.matrix.sum()) == 0
    assert math.isnan(apart.compute()["miou"])


def test_state_is_int64_and_sums_over_processes() -> None:
    metric = ConfusionMatrix(5)
    assert metric.matrix.dtype == torch.int64
    assert metric._reductions["matrix"] is torchmetrics.utilities.dim_zero_sum
    assert pickle.loads(pickle.dumps(metric)).num_classes == 5


def test_state_survives_half_precision() -> None:
    metric = ConfusionMatrix(2)
    metric.half()
    metric.update(torch.zeros(70_000, dtype=torch.int64), torch.zeros(70_000, dtype=torch.int64))
    assert metric.matrix.tolist() == [[70_000, 0], [0, 0]]


@pytest.mark.parametrize("wrong", [3, 200, -1, 255, 1_000])
def test_prediction_out_of_range_is_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match=f"{wrong}"):
        ConfusionMatrix(3).update(torch.tensor([0, wrong]), torch.tensor([0, 1]))


@pytest.mark.parametrize("wrong", [3, 254, -1, 256])
def test_label_out_of_range_is_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match=f"label holds {wrong}"):
        ConfusionMatrix(3).update(torch.tensor([0, 1]), torch.tensor([0, wrong]))


def test_void_prediction_is_allowed_where_the_label_is_void() -> None:
    label = np.array([[0, 255], [1, 255]], dtype=np.uint8)
    assert confusion_matrix(label, label, 2).tolist() == [[1, 0], [0, 1]]


def test_void_may_be_any_value_outside_the_classes() -> None:
    for void in (-1, -100, 3, 255):
        label = np.array([0, void, 2])
        assert confusion_matrix(np.array([0, 1, 1]), label, 3, ignore_index=void).sum() == 2
    with pytest.raises(ValueError, match="ignore_index 2 is also a class"):
        ConfusionMatrix(3, ignore_index=2)


def test_shapes_and_types_must_fit() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        ConfusionMatrix(3).update(torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="not integers"):
        ConfusionMatrix(3).update(torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="num_classes is 0"):
        ConfusionMatrix(0)


def test_all_void_changes_nothing() -> None:
    metric = ConfusionMatrix(3)
    metric.update(np.zeros((4, 4), dtype=np.uint8), np.full((4, 4), 255, dtype=np.uint8))
    assert int(metric.matrix.sum()) == 0


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_counting_on_a_device_equals_counting_on_the_host(seed: int) -> None:
    from selfreg.evaluation.confusion import _count_on_device

    prediction, label = random_maps(seed, 6)
    found = _count_on_device(torch.from_numpy(prediction), torch.from_numpy(label), 6, 255)
    np.testing.assert_array_equal(found.numpy(), confusion_matrix(prediction, label, 6))
    prediction[0, 0], label[0, 0] = 6, 1
    with pytest.raises(ValueError, match="prediction holds 6"):
        _count_on_device(torch.from_numpy(prediction), torch.from_numpy(label), 6, 255)


def test_scores_keep_leading_axes() -> None:
    matrices = np.stack([confusion_matrix(*random_maps(seed, 4), 4) for seed in range(3)])
    together = confusion_scores(matrices)
    for index, matrix in enumerate(matrices):
        for name, value in confusion_scores(matrix).items():
            np.testing.assert_array_equal(together[name][index], value)
