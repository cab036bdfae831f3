import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreg.evaluation import Thresholds, failure_cases, failure_counts


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A body with a leg, a small object; the leg and the object are lost, the body has a wrong patch and a hole."""
    label = np.zeros((200, 240), dtype=np.uint8)
    label[50:110, 40:160] = 1
    label[110:160, 70:80] = 1
    label[20:32, 200:212] = 2
    prediction = label.copy()
    prediction[120:160, 70:80] = 3
    prediction[20:26, 200:212] = 0
    prediction[26:30, 200:212] = 3
    prediction[60:90, 60:80] = 2
    prediction[60:90, 120:140] = 0
    return prediction, label


def test_each_failure_is_one_case_with_its_place_and_classes() -> None:
    prediction, label = scene()
    cases = {case.kind: case for case in failure_cases(prediction, label, 4, background=0)[::-1]}
    lost = cases["object"]
    assert (lost.class_index, lost.predicted_class, lost.box) == (2, 0, (20, 200, 32, 212))
    assert (lost.area, lost.object_area) == (144, 144)
    assert lost.coverage == 24 / 144
    assert lost.mask.shape == (12, 12)
    assert lost.mask.all()
    leg = cases["part"]
    assert (leg.class_index, leg.predicted_class) == (1, 3)
    assert leg.box[2] == 160
    assert leg.box[1::2] == (70, 80)
    assert leg.object_area == 60 * 120 + 500
    assert leg.area == leg.mask.sum()
    patch = cases["mislabel"]
    assert (patch.class_index, patch.predicted_class, patch.box, patch.area) == (1, 2, (60, 60, 90, 80), 600)
    assert patch.coverage == 0
    hole = cases["hole"]
    assert (hole.class_index, hole.predicted_class, hole.box) == (1, 0, (60, 120, 90, 140))


def test_part_of_a_wrong_class_inside_its_object_is_a_blob_too() -> None:
    prediction, label = scene()
    kinds = [case.kind for case in failure_cases(prediction, label, 4, background=0)]
    assert sorted(kinds) == ["hole", "mislabel", "mislabel", "object", "part"]


def test_most_wrong_pixels_come_first() -> None:
    prediction, label = scene()
    wrong = [case.area * (1 - case.coverage) for case in failure_cases(prediction, label, 4, background=0)]
    assert wrong == sorted(wrong, reverse=True)


def test_case_is_measured_in_another_prediction() -> None:
    prediction, label = scene()
    for case in failure_cases(prediction, label, 4, background=0):
        assert case.coverage_in(label) == 1
        assert case.coverage_in(prediction) == case.coverage


def test_void_as_the_answer_is_no_class() -> None:
    _, label = scene()
    prediction = np.where(label == 2, 255, label)
    (case,) = failure_cases(prediction, label, 4, background=0)
    assert (case.kind, case.predicted_class) == ("object", None)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_cases_are_exactly_what_is_counted(seed: int) -> None:
    generator = np.random.default_rng(seed)
    label = np.kron(generator.integers(0, 5, (8, 8)), np.ones((7, 9), dtype=int))
    label[label == 4] = 255
    prediction = np.kron(generator.integers(0, 4, (14, 18)), np.ones((4, 4), dtype=int))
    prediction = np.where(generator.random((56, 72)) < 0.3, prediction, label)
    thresholds = Thresholds(minimum_area=4, small_object=0.05)
    for background in (None, 0):
        cases = failure_cases(prediction, label, 4, background=background, thresholds=thresholds)
        counts = failure_counts(prediction, label, 4, background=background, thresholds=thresholds)
        for index in range(4):
            of_class = [case for case in cases if case.class_index == index]
            assert sum(case.kind == "object" for case in of_class) == counts.small_objects_missed[index]
            assert sum(case.kind == "part" for case in of_class) == counts.parts_missed[index]
            assert sum(case.area for case in of_class if case.kind == "mislabel") == counts.mislabelled_pixels[index]
            assert sum(case.area for case in of_class if case.kind == "hole") == counts.hole_pixels[index]
        for case in cases:
            top, left, bottom, right = case.box
            inside = label[top:bottom, left:right][case.mask]
            assert (inside == case.class_index).all()
            assert inside.size == case.area
