from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import oracle
from selfreg.evaluation import boundary_counts, boundary_iou, boundary_scores


def noisy_pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 60, 2)
    coarse = generator.integers(0, 4, (height // 6 + 1, width // 6 + 1))
    label = np.kron(coarse, np.ones((6, 6), dtype=int))[:height, :width]
    prediction = np.where(generator.random((height, width)) < 0.05, generator.integers(0, 4, (height, width)), label)
    prediction = np.roll(prediction, generator.integers(-2, 3, 2), (0, 1))
    label = np.where(np.roll(label, 3) * generator.random() > 2, 255, label)
    prediction[generator.random((height, width)) < 0.01] = 255
    return prediction, label


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_boundary_iou_equals_erosion_of_each_mask(seed: int) -> None:
    prediction, label = noisy_pair(seed)
    np.testing.assert_allclose(boundary_iou(prediction, label, 4), oracle.boundary_iou(prediction, label, 4, 255))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_trimap_iou_equals_a_window_around_each_pixel(seed: int) -> None:
    prediction, label = noisy_pair(seed)
    found = boundary_scores(boundary_counts(prediction, label, 4))["per_class_trimap_iou"]
    np.testing.assert_allclose(found, oracle.trimap_iou(prediction, label, 4, 255))


def test_wider_band_on_a_larger_image() -> None:
    label = np.zeros((120, 200), dtype=np.uint8)  # 2 % of the diagonal: 5 pixels
    label[40:80, 60:120] = 1
    counts = boundary_counts(label, label, 2)
    assert counts.boundary_labelled[1] == 40 * 60 - 30 * 50
    # Class 0: the frame of the image, and five pixels around the rectangle.
    assert counts.boundary_labelled[0] == (120 * 200 - 110 * 190) + (50 * 70 - 40 * 60)
    assert counts.trimap_labelled.tolist() == [50 * 70 - 40 * 60, 40 * 60 - 30 * 50]


def test_inside_of_an_object_does_not_matter() -> None:
    label = np.zeros((120, 200), dtype=np.uint8)
    label[20:100, 40:160] = 1
    prediction = label.copy()
    prediction[50:70, 90:110] = 0
    np.testing.assert_array_equal(
        boundary_counts(prediction, label, 2).boundary_shared[1], boundary_counts(label, label, 2).boundary_shared[1]
    )


def test_perfect_prediction_is_one_whatever_void_is_filled_with() -> None:
    label = np.zeros((60, 60), dtype=np.uint8)
    label[10:30, 10:30] = 1
    label[30:40] = 255
    prediction = np.where(label == 255, 1, label)
    assert boundary_iou(prediction, label, 3)[:2].tolist() == [1, 1]
    assert np.isnan(boundary_iou(prediction, label, 3)[2])


def test_flips_change_nothing() -> None:
    prediction, label = noisy_pair(4)
    before = boundary_counts(prediction, label, 4)
    for flip in (np.flipud, np.fliplr, np.transpose):
        after = boundary_counts(flip(prediction), flip(label), 4)
        for field in fields(before):
            np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))


def test_data_set_score_divides_once() -> None:
    pairs = [noisy_pair(seed) for seed in (1, 2, 3)]
    counts = [boundary_counts(prediction, label, 4) for prediction, label in pairs]
    total = counts[0] + counts[1] + counts[2]
    shared = sum(count.boundary_shared for count in counts)
    union = sum(count.boundary_labelled + count.boundary_predicted - count.boundary_shared for count in counts)
    np.testing.assert_allclose(boundary_scores(total)["per_class_boundary_iou"], shared / union)


def test_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="one image at a time"):
        boundary_iou(np.zeros((2, 4, 4), dtype=int), np.zeros((2, 4, 4), dtype=int), 2)
    with pytest.raises(ValueError, match="one image at a time"):
        boundary_iou(np.zeros((0, 4), dtype=int), np.zeros((0, 4), dtype=int), 2)
