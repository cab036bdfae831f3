from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evaluation import oracle
from selfreg.evaluation import FailureCounts, Thresholds, failure_counts, failure_scores

BACKGROUND, ANIMAL, BIRD = 0, 1, 2


def rates(
    prediction: np.ndarray, label: np.ndarray, num_classes: int = 3, background: int | None = 0
) -> dict[str, float]:
    counts = failure_counts(prediction, label, num_classes, background=background)
    return {name: float(value) for name, value in failure_scores(counts, background).items() if value.ndim == 0}


def animal() -> np.ndarray:
    """A body 120 x 60 on four legs 10 wide and 50 long, and a bird of 12 x 12; 200 x 240 pixels, on background."""
    label = np.zeros((200, 240), dtype=np.uint8)
    label[50:110, 40:160] = ANIMAL
    for left in (45, 70, 120, 145):
        label[110:160, left : left + 10] = ANIMAL
    label[20:32, 200:212] = BIRD
    return label


def without_legs(label: np.ndarray) -> np.ndarray:
    prediction = label.copy()
    prediction[110:160] = BACKGROUND
    return prediction


def test_perfect_prediction_fails_nowhere() -> None:
    found = rates(animal(), animal())
    assert found["missed_unit_rate"] == 0
    assert found["partial_mislabel_rate"] == 0
    assert found["background_hole_rate"] == 0
    assert (found["num_small_objects"], found["num_parts"], found["num_large_objects"]) == (1, 4, 1)


def test_lost_legs_are_four_missed_parts_and_nothing_else() -> None:
    counts = failure_counts(without_legs(animal()), animal(), 3, background=0)
    assert counts.parts.tolist() == counts.parts_missed.tolist() == counts.parts_missed_low.tolist() == [0, 4, 0]
    assert counts.small_objects_missed.sum() == counts.mislabelled_pixels.sum() == 0
    # The inside of each leg, four wide and 47 long, is a hole as well.
    assert counts.hole_pixels[ANIMAL] == 4 * 4 * 47


def test_lost_small_object_moves_failure_one_alone() -> None:
    prediction = animal()
    prediction[20:32, 200:212] = BACKGROUND
    before, after = rates(animal(), animal()), rates(prediction, animal())
    assert after["missed_small_object_rate"] == 1
    assert after["missed_unit_rate"] == pytest.approx((0 / 4 + 1 / 1) / 2)
    unchanged = ("missed_part_rate", "partial_mislabel_rate", "background_hole_rate", "whole_object_errors")
    assert [after[name] for name in unchanged] == [before[name] for name in unchanged]


def test_wrong_patch_inside_a_large_object_moves_failure_two_alone() -> None:
    prediction = animal()
    prediction[65:95, 60:100] = BIRD
    counts = failure_counts(prediction, animal(), 3, background=0)
    # The margin is 1 % of the diagonal, 3.12 pixels: the patch lies deeper than that all over.
    # Above the legs the body has no contour, and a leg of 10 has an interior of 4.
    assert counts.mislabelled_pixels.tolist() == [0, 1200, 0]
    assert counts.large_objects_mislabelled.tolist() == [0, 1, 0]
    found = rates(prediction, animal())
    assert found["missed_unit_rate"] == 0
    assert found["partial_mislabel_rate"] == pytest.approx(1200 / counts.interior_pixels[ANIMAL])
    assert 0.15 < found["partial_mislabel_rate"] < 0.2
    assert found["mislabelled_object_rate"] == 1


def test_interior_is_what_lies_deeper_than_the_margin() -> None:
    label = np.zeros((300, 400), dtype=np.uint8)
    label[100:200, 100:300] = ANIMAL
    # One hundredth of the diagonal of 500 is 5: a pixel 5 from the nearest background pixel does not lie deeper.
    assert failure_counts(label, label, 3, background=0).interior_pixels[ANIMAL] == 90 * 190


@pytest.mark.parametrize("grow", [3, -3])
def test_dilation_by_three_pixels_moves_neither_rate(grow: int) -> None:
    from scipy import ndimage

    label = animal()
    for left in (45, 70, 120, 145):
        label[110:160, left : left + 14] = ANIMAL
    label[16:36, 196:216] = BIRD
    shape = (2 * abs(grow) + 1,) * 2
    prediction = ndimage.grey_dilation(label, shape) if grow > 0 else ndimage.grey_erosion(label, shape)
    found = rates(prediction.astype(np.uint8), label)
    assert found["partial_mislabel_rate"] == found["background_hole_rate"] == 0
    assert (found["missed_unit_rate"] if grow > 0 else found["missed_unit_rate_low"]) == 0


def test_eroded_thin_legs_are_missed_at_one_half_and_found_at_one_quarter() -> None:
    from scipy import ndimage

    prediction = ndimage.grey_erosion(animal(), (7, 7)).astype(np.uint8)
    found = rates(prediction, animal())
    assert found["missed_part_rate"] == 1
    assert found["missed_part_rate_low"] == 0


@pytest.mark.parametrize("flip", [np.flipud, np.fliplr, np.transpose])
def test_flips_change_nothing(flip: object) -> None:
    prediction = without_legs(animal())
    prediction[65:95, 60:100] = BIRD
    before = failure_counts(prediction, animal(), 3, background=0)
    after = failure_counts(flip(prediction), flip(animal()), 3, background=0)  # type: ignore[operator]
    for field in fields(before):
        np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))


def test_small_object_ends_at_one_hundredth_of_the_valid_pixels() -> None:
    label = np.zeros((100, 100), dtype=np.uint8)
    label[10:20, 10:20] = ANIMAL
    assert failure_counts(label, label, 2, background=0).small_objects[ANIMAL] == 1
    label[99, 99] = 255
    assert failure_counts(label, label, 2, background=0).small_objects[ANIMAL] == 0


def test_units_have_sixteen_pixels_at_least() -> None:
    label = np.zeros((100, 100), dtype=np.uint8)
    label[10:14, 10:14] = ANIMAL
    label[50:53, 50:55] = ANIMAL
    assert failure_counts(label, label, 2, background=0).small_objects[ANIMAL] == 1


def test_unit_covered_by_exactly_half_is_found() -> None:
    label = np.zeros((100, 100), dtype=np.uint8)
    label[10:14, 10:14] = ANIMAL
    prediction = label.copy()
    prediction[10:12, 10:14] = BACKGROUND
    assert failure_counts(prediction, label, 2, background=0).small_objects_missed[ANIMAL] == 0
    prediction[12, 10] = BACKGROUND
    assert failure_counts(prediction, label, 2, background=0).small_objects_missed[ANIMAL] == 1


def test_components_join_at_corners() -> None:
    label = np.zeros((100, 100), dtype=np.uint8)
    label[10:14, 10:14] = label[14:18, 14:18] = ANIMAL
    assert failure_counts(label, label, 2, background=0).small_objects[ANIMAL] == 1


def test_void_never_joins_grows_or_counts() -> None:
    label = np.zeros((100, 100), dtype=np.uint8)
    label[10:20, 10:30] = 255
    label[10:15, 10:15] = label[10:15, 25:30] = ANIMAL
    counts = failure_counts(np.zeros_like(label), label, 2, background=0)
    assert counts.small_objects[ANIMAL] == counts.small_objects_missed[ANIMAL] == 2
    assert counts.objects_by_size.sum() == 2
    # Whatever is predicted on void changes nothing, hallucinations included.
    prediction = np.where(label == 255, ANIMAL, label)
    after = failure_counts(prediction, label, 2, background=0)
    assert after.small_predictions[ANIMAL] == 2
    assert after.hallucinated.sum() == 0


def test_void_contour_splits_touching_objects_and_without_it_they_merge() -> None:
    label = np.zeros((100, 100), dtype=np.uint8)
    label[40:48, 40:48] = label[40:48, 49:57] = ANIMAL
    label[40:48, 48] = 255
    assert failure_counts(label, label, 2, background=0).small_objects[ANIMAL] == 2
    label[40:48, 48] = ANIMAL
    assert failure_counts(label, label, 2, background=0).small_objects[ANIMAL] == 0


def test_void_prediction_is_wrong_in_failure_one_and_no_class_in_failure_two() -> None:
    prediction = animal()
    prediction[20:32, 200:212] = 255
    prediction[65:95, 60:100] = 255
    counts = failure_counts(prediction, animal(), 3, background=0)
    assert counts.small_objects_missed.tolist() == [0, 0, 1]
    assert counts.mislabelled_pixels.sum() == counts.hole_pixels.sum() == 0
    assert counts.interior_pixels[ANIMAL] > 0


def test_hole_in_a_large_object_counts_as_background_hole_alone() -> None:
    prediction = animal()
    prediction[65:95, 60:100] = BACKGROUND
    counts = failure_counts(prediction, animal(), 3, background=0)
    assert counts.hole_pixels.tolist() == [0, 1200, 0]
    assert counts.mislabelled_pixels.sum() == counts.large_objects_mislabelled.sum() == 0
    # Without a background class the same pixels are a wrong class like any other.
    counts = failure_counts(prediction, animal(), 3)
    assert counts.hole_pixels.sum() == 0
    assert counts.mislabelled_pixels[ANIMAL] == 1200


def test_blob_counts_from_one_half_per_cent_of_the_interior_and_sixteen_pixels() -> None:
    label = np.zeros((300, 400), dtype=np.uint8)
    label[100:200, 100:300] = ANIMAL
    least = 86  # 0.005 * 90 * 190 = 85.5
    for size, counted in ((least - 1, 0), (least, least)):
        prediction = label.copy()
        prediction[150, 105 : 105 + size] = BIRD
        assert failure_counts(prediction, label, 3, background=0).mislabelled_pixels[ANIMAL] == counted
    small = np.zeros((60, 60), dtype=np.uint8)
    small[10:40, 10:40] = ANIMAL
    for size, counted in ((15, 0), (16, 16)):
        prediction = small.copy()
        prediction[20, 15 : 15 + size] = BIRD
        assert failure_counts(prediction, small, 3, background=0).mislabelled_pixels[ANIMAL] == counted


def test_touching_blobs_of_two_wrong_classes_count_apart() -> None:
    label = np.zeros((60, 60), dtype=np.uint8)
    label[10:40, 10:40] = ANIMAL
    prediction = label.copy()
    prediction[20, 15:25] = BIRD
    prediction[21, 15:25] = 3
    assert failure_counts(prediction, label, 4, background=0).mislabelled_pixels.sum() == 0
    prediction[20:22, 15:25] = BIRD
    assert failure_counts(prediction, label, 4, background=0).mislabelled_pixels[ANIMAL] == 20


def test_large_object_less_than_half_right_is_a_whole_object_error() -> None:
    prediction = np.where(animal() == ANIMAL, BIRD, animal())
    counts = failure_counts(prediction, animal(), 3, background=0)
    assert counts.large_objects_wrong.tolist() == [0, 1, 0]
    assert counts.large_objects.sum() == counts.interior_pixels.sum() == counts.mislabelled_pixels.sum() == 0
    found = rates(prediction, animal())
    assert found["whole_object_errors"] == 1
    assert np.isnan(found["partial_mislabel_rate"])


def test_large_object_without_an_interior_is_left_out() -> None:
    label = np.zeros((100, 100), dtype=np.uint8)
    label[::50, :] = 0
    label[30:32, :] = ANIMAL
    label[30:36, 0:99] = ANIMAL
    counts = failure_counts(label, label, 2, background=0, thresholds=Thresholds(margin=0.05))
    assert counts.large_objects.sum() == 0
    assert counts.objects_by_size.sum() == 1


def test_image_border_is_no_contour_of_the_interior() -> None:
    label = np.zeros((300, 400), dtype=np.uint8)
    label[:100, :200] = ANIMAL
    assert failure_counts(label, label, 2, background=0).interior_pixels[ANIMAL] == 95 * 195


def test_one_class_over_the_whole_image_is_all_interior_and_has_no_parts() -> None:
    label = np.zeros((50, 50), dtype=np.uint8)
    counts = failure_counts(label, label, 2)
    assert counts.interior_pixels.tolist() == [2500, 0]
    assert counts.parts.sum() == 0


def test_background_has_no_components() -> None:
    label = animal()
    with_background, without = failure_counts(label, label, 3, background=0), failure_counts(label, label, 3)
    assert with_background.large_objects[BACKGROUND] == 0
    assert without.large_objects[BACKGROUND] == 1
    assert np.isnan(rates(label, label, background=None)["background_hole_rate"])


def test_hallucinated_components_are_small_predictions_less_than_half_on_their_class() -> None:
    label = animal()
    prediction = label.copy()
    prediction[180:190, 180:190] = BIRD
    prediction[20:32, 206:218] = BIRD
    counts = failure_counts(prediction, label, 3, background=0)
    assert counts.small_predictions.tolist() == [0, 0, 2]
    assert counts.hallucinated.tolist() == [0, 0, 1]
    prediction[180:190, 180:190] = BACKGROUND
    prediction[180:190, 180:210] = BIRD
    assert failure_counts(prediction, label, 3, background=0).hallucinated[BIRD] == 1
    prediction[170:190, 180:210] = BIRD
    assert failure_counts(prediction, label, 3, background=0).small_predictions[BIRD] == 1


def test_prediction_exactly_half_on_its_class_is_no_hallucination() -> None:
    label = animal()
    prediction = label.copy()
    prediction[20:32, 194:200] = BIRD
    prediction[20:32, 206:212] = BACKGROUND
    assert failure_counts(prediction, label, 3, background=0).hallucinated[BIRD] == 0
    prediction[20, 206] = BACKGROUND
    prediction[20, 205] = BACKGROUND
    assert failure_counts(prediction, label, 3, background=0).hallucinated[BIRD] == 1


def test_nothing_to_count_is_nan_with_zero_units() -> None:
    void = np.full((40, 40), 255, dtype=np.uint8)
    found = rates(np.zeros((40, 40), dtype=np.uint8), void)
    assert np.isnan(found["missed_unit_rate"])
    assert np.isnan(found["partial_mislabel_rate"])
    assert found["num_small_objects"] == found["num_parts"] == found["num_large_objects"] == 0


def test_object_sizes_fall_into_their_buckets() -> None:
    label = np.zeros((100, 100), dtype=np.uint8)
    label[0:10, 0:10] = ANIMAL  # 1 % exactly: the bucket up to 0.01
    label[50:70, 50:70] = ANIMAL  # 4 %: between 0.03 and 0.1
    prediction = label.copy()
    prediction[0:10, 0:10] = BACKGROUND
    counts = failure_counts(prediction, label, 2, background=0)
    assert counts.objects_by_size[ANIMAL].tolist() == [0, 0, 0, 0, 1, 0, 1, 0, 0]
    assert counts.objects_found_by_size[ANIMAL].tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 0]


def test_part_must_stand_out_by_its_share_of_the_radius() -> None:
    # Inscribed radius 30 (29.5 from the centre to the edge, 30 to the nearest outside pixel): r = 10.5.
    for length, expected in ((8, 0), (14, 1)):
        label = np.zeros((200, 200), dtype=np.uint8)
        label[60:120, 20:180] = ANIMAL
        label[120 : 120 + length, 90:100] = ANIMAL
        assert failure_counts(label, label, 2, background=0).parts[ANIMAL] == expected


@pytest.mark.parametrize(("length", "expected"), [(10, 0), (11, 1)])
def test_part_reaches_exactly_one_radius_out_of_the_opened_object(length: int, expected: int) -> None:
    # R = 20 and r = 10. Above the limb, one pixel wide, the core comes within ten pixels of the lower contour, nine
    # above the last row of the body; the tip has to lie 20 below that.
    label = np.zeros((120, 120), dtype=np.uint8)
    label[20:59, 10:110] = ANIMAL
    label[59 : 59 + length, 60] = ANIMAL
    thresholds = Thresholds(part_width=0.5, minimum_area=1)
    assert failure_counts(label, label, 2, background=0, thresholds=thresholds).parts[ANIMAL] == expected


@pytest.mark.parametrize(("width", "expected"), [(25, 1), (24, 0)])
def test_large_object_begins_at_one_twentieth_of_the_valid_pixels(width: int, expected: int) -> None:
    label = np.zeros((100, 100), dtype=np.uint8)
    label[10:30, 10 : 10 + width] = ANIMAL
    assert failure_counts(label, label, 2, background=0).large_objects[ANIMAL] == expected


def test_part_thicker_than_its_share_of_the_radius_is_no_part() -> None:
    for width, expected in ((16, 1), (26, 0)):
        label = np.zeros((200, 200), dtype=np.uint8)
        label[60:120, 20:180] = ANIMAL
        label[120:170, 90 : 90 + width] = ANIMAL
        assert failure_counts(label, label, 2, background=0).parts[ANIMAL] == expected


@pytest.mark.parametrize("speck", [BIRD, 255])
def test_specks_smaller_than_a_unit_do_not_dent_an_object(speck: int) -> None:
    label = np.zeros((200, 200), dtype=np.uint8)
    label[60:120, 20:180] = ANIMAL
    whole = failure_counts(label, label, 3, background=0)
    label[90:93, 40:180:20] = speck
    dented = failure_counts(label, label, 3, background=0)
    assert dented.parts.sum() == whole.parts.sum() == 0
    assert dented.interior_pixels[ANIMAL] == whole.interior_pixels[ANIMAL] - 3 * 7
    # What is as large as a unit has a contour of its own.
    label[90:94, 40:180:20] = speck
    label[90:94, 41:180:20] = speck
    label[90:94, 42:180:20] = speck
    label[90:94, 43:180:20] = speck
    assert failure_counts(label, label, 3, background=0).interior_pixels[ANIMAL] < dented.interior_pixels[ANIMAL] - 100


def test_speck_between_two_objects_belongs_to_neither() -> None:
    label = np.full((100, 100), ANIMAL, dtype=np.uint8)
    label[:, 50:] = BIRD
    whole = failure_counts(label, label, 3)
    label[40:44, 49:51] = 255
    counts = failure_counts(label, label, 3)
    assert (counts.interior_pixels[1:] < whole.interior_pixels[1:]).all()


def test_corners_of_a_rectangle_are_no_parts() -> None:
    label = np.zeros((200, 200), dtype=np.uint8)
    label[60:120, 20:180] = ANIMAL
    assert failure_counts(label, label, 2, background=0).parts.sum() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"background": 3}, "background 3 is not a class"),
        ({"label": np.zeros((4, 5), dtype=np.uint8)}, "differ in shape"),
        ({"label": np.full((4, 4), 7)}, "label holds 7"),
        ({"prediction": np.full((4, 4), 9)}, "prediction holds 9"),
        ({"prediction": np.zeros((4, 4))}, "not integers"),
        ({"prediction": np.zeros(16, dtype=int), "label": np.zeros(16, dtype=int)}, "one image at a time"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, Any], message: str) -> None:
    maps = {"prediction": np.zeros((4, 4), dtype=np.uint8), "label": np.zeros((4, 4), dtype=np.uint8)}
    with pytest.raises(ValueError, match=message):
        failure_counts(**{**maps, "num_classes": 3, **arguments})


@pytest.mark.parametrize("wrong", [{"coverage": 1.5}, {"margin": -0.1}, {"minimum_area": 0}])
def test_thresholds_without_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Thresholds(**wrong)


def test_counts_add_up() -> None:
    first = failure_counts(without_legs(animal()), animal(), 3, background=0)
    total = first + first
    assert isinstance(total, FailureCounts)
    for field in fields(first):
        np.testing.assert_array_equal(getattr(total, field.name), 2 * getattr(first, field.name))


def blocks(generator: np.random.Generator, num_codes: int, height: int, width: int) -> np.ndarray:
    """Random rectangles over each other: components of all sizes, with limbs."""
    codes = np.full((height, width), generator.integers(num_codes))
    for _ in range(generator.integers(0, 12)):
        top, left = generator.integers(0, height), generator.integers(0, width)
        tall, wide = generator.integers(1, [height + 1, width + 1])
        if generator.random() < 0.5:
            tall, wide = (min(tall, 3), wide) if generator.random() < 0.5 else (tall, min(wide, 3))
        codes[top : top + tall, left : left + wide] = generator.integers(num_codes)
    return codes


@given(
    seed=st.integers(0, 2**32 - 1),
    background=st.sampled_from([None, 0]),
    minimum_area=st.integers(1, 8),
    small_object=st.sampled_from([0.01, 0.03, 0.1]),
    part_width=st.sampled_from([0.35, 0.5, 0.2, 0.6]),
    coverage=st.sampled_from([0.5, 0.3]),
    large_object=st.sampled_from([0.05, 0.2]),
    margin=st.sampled_from([0.01, 0.03, 0.05]),
    minimum_blob=st.sampled_from([0.005, 0.02]),
)
# an object of fewer pixels than a unit that is a large one of its tiny image
@example(
    seed=171,
    background=None,
    minimum_area=6,
    small_object=0.01,
    part_width=0.35,
    coverage=0.5,
    large_object=0.05,
    margin=0.05,
    minimum_blob=0.005,
)
@settings(max_examples=80, deadline=None)
def test_counts_equal_those_of_a_slow_plain_version(seed: int, background: int | None, **values: float) -> None:
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 32, 2)
    label = blocks(generator, 4, height, width)
    prediction = np.where(generator.random((height, width)) < 0.03, generator.integers(0, 4, (height, width)), label)
    patch = blocks(generator, 8, height, width)
    prediction = np.where(patch < 4, patch, prediction)
    prediction = np.where(patch == 4, 255, prediction)
    label = np.where(blocks(generator, 8, height, width) == 0, 255, label)
    label = np.where(generator.random((height, width)) < 0.01, generator.choice([0, 1, 255]), label)
    thresholds = Thresholds(low_coverage=0.25, **values)  # type: ignore[arg-type]
    found = failure_counts(prediction, label, 4, background=background, thresholds=thresholds)
    expected = oracle.failure_counts(prediction, label, 4, 255, background, thresholds)
    for name, value in expected.items():
        np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)
