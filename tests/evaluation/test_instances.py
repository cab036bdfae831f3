import numpy as np
import pytest
from scipy import ndimage

from selfreg.evaluation import instance_counts, instance_scores


def test_iiou_worked_out_by_hand() -> None:
    label = np.zeros((40, 40), dtype=np.uint8)
    instances = np.zeros((40, 40), dtype=np.int32)
    label[0:10, 0:10] = label[20:22, 0:10] = 1
    instances[0:10, 0:10], instances[20:22, 0:10] = 26001, 26002
    prediction = np.zeros_like(label)
    prediction[0:10, 0:10] = 1  # the large one whole, the small one lost
    prediction[30:33, 30:40] = 1  # thirty false pixels
    scores = instance_scores(instance_counts(prediction, label, instances, 2))
    # Average area 60; iTP = 60 * 1, iFN = 60 * 1, FP = 30.
    assert scores["per_class_iiou"][1] == pytest.approx(60 / (60 + 60 + 30))
    assert np.isnan(scores["per_class_iiou"][0])
    assert scores["iiou"] == pytest.approx(0.4)
    # With given averages, as Cityscapes does it.
    given = instance_scores(instance_counts(prediction, label, instances, 2), np.array([1.0, 100.0]))
    assert given["iiou"] == pytest.approx(100 / (100 + 100 + 30))


def plain_iiou(prediction: np.ndarray, label: np.ndarray, instances: np.ndarray, num_classes: int) -> np.ndarray:
    result = np.full(num_classes, np.nan)
    for index in range(num_classes):
        masks = [(instances == i) & (label == index) for i in np.unique(instances[(instances > 0) & (label == index)])]
        if not masks:
            continue
        average = np.mean([mask.sum() for mask in masks])
        hit = sum(average / mask.sum() * (mask & (prediction == index)).sum() for mask in masks)
        miss = sum(average / mask.sum() * (mask & (prediction != index)).sum() for mask in masks)
        false = ((prediction == index) & (label != index) & (label != 255)).sum()
        result[index] = hit / (hit + miss + false)
    return result


@pytest.mark.parametrize("seed", range(8))
def test_iiou_equals_a_loop_over_instances(seed: int) -> None:
    generator = np.random.default_rng(seed)
    label = np.kron(generator.integers(0, 4, (9, 9)), np.ones((5, 5), dtype=int))
    instances = np.zeros_like(label)
    for index in range(1, 4):
        found, _ = ndimage.label(label == index)
        instances[found > 0] = found[found > 0] + 1000 * index
    label[generator.random(label.shape) < 0.1] = 255
    instances[:9] = 0  # a crowd: labelled, but no instance
    prediction = np.where(generator.random(label.shape) < 0.3, generator.integers(0, 4, label.shape), label)
    per_class = instance_scores(instance_counts(prediction, label, instances, 4))["per_class_iiou"]
    np.testing.assert_allclose(per_class, plain_iiou(prediction, label, instances, 4))


def test_sizes_are_told_apart() -> None:
    label = np.zeros((300, 300), dtype=np.uint8)
    instances = np.zeros((300, 300), dtype=np.int32)
    for number, (top, size) in enumerate([(0, 20), (30, 60), (100, 120)], start=1):
        label[top : top + size, :size] = 1
        instances[top : top + size, :size] = number
    prediction = label.copy()
    prediction[0:10, :20] = 0  # half of the small one
    prediction[100:220, 120:180] = 1  # the large one runs over by a half
    prediction[290:300, 290:300] = 1  # a small false alarm
    found = instance_scores(instance_counts(prediction, label, instances, 2))["per_class_iou_by_size"][1]
    assert found.tolist() == pytest.approx([200 / (400 + 100), 1.0, 14400 / (14400 + 7200)])


def test_false_alarm_counts_at_its_own_size() -> None:
    label = np.zeros((200, 200), dtype=np.uint8)
    for size, bucket in ((20, 0), (50, 1), (120, 2)):
        prediction = label.copy()
        prediction[:size, :size] = 1
        counts = instance_counts(prediction, label, np.zeros_like(label), 2)
        assert np.flatnonzero(counts.false_by_size[1]).tolist() == [bucket]


def test_false_pixels_of_one_component_are_shared_by_overlap() -> None:
    label = np.zeros((200, 200), dtype=np.uint8)
    instances = np.zeros((200, 200), dtype=np.int32)
    label[0:100, 0:100], instances[0:100, 0:100] = 1, 1  # large: 10000
    label[0:10, 110:120], instances[0:10, 110:120] = 1, 2  # small: 100
    prediction = label.copy()
    prediction[0:10, 100:110] = 1  # a bridge of 100 false pixels
    counts = instance_counts(prediction, label, instances, 2)
    assert counts.false_by_size[1].tolist() == pytest.approx([100 * 100 / 10100, 0, 100 * 10000 / 10100])
    assert counts.false_pixels[1] == pytest.approx(100)


def test_image_without_instances_adds_only_false_pixels() -> None:
    label = np.zeros((20, 20), dtype=np.uint8)
    prediction = label.copy()
    prediction[:5, :5] = 1
    counts = instance_counts(prediction, label, np.zeros((20, 20), dtype=int), 2)
    assert counts.instances.sum() == 0
    assert counts.false_pixels.tolist() == [0, 25]
    assert np.isnan(instance_scores(counts)["iiou"])


def test_bad_instance_maps_are_refused() -> None:
    label = np.zeros((4, 4), dtype=np.uint8)
    for wrong in (np.zeros((4, 5), dtype=int), np.zeros((4, 4)), np.full((4, 4), -1)):
        with pytest.raises(ValueError, match="integers from 0 upward"):
            instance_counts(label, label, wrong, 2)
