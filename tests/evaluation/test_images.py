import json
import pickle

import numpy as np
import pytest

from selfreg.evaluation import (
    MEASURES,
    ConfusionMatrix,
    ImageResult,
    evaluate_image,
    failure_counts,
    failure_scores,
    paired_differences,
    summarise,
)


def image(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    label = np.kron(generator.integers(0, 4, (6, 8)), np.ones((12, 12), dtype=np.uint8))
    for _ in range(4):
        top, left = generator.integers(0, 60), generator.integers(0, 80)
        label[top : top + 6, left : left + 6] = generator.integers(0, 4)
    label[:3] = 255
    return label


def spoiled(label: np.ndarray, seed: int, share: float) -> np.ndarray:
    generator = np.random.default_rng(seed)
    wrong = np.kron(generator.random((18, 24)) < share, np.ones((4, 4), dtype=bool))
    return np.where(wrong, (np.where(label == 255, 0, label) + 1) % 4, np.where(label == 255, 0, label))


def results(share: float, count: int = 12, **options: object) -> list[ImageResult]:
    labels = [image(seed) for seed in range(count)]
    return [evaluate_image(spoiled(label, 100 + i, share), label, 4, **options) for i, label in enumerate(labels)]  # type: ignore[arg-type]


def test_headline_numbers_lie_at_the_top_and_all_is_json() -> None:
    summary = summarise(results(0.1), ["sky", "road", "car", "pole"])
    assert list(summary)[:4] == ["miou", "boundary_iou", "missed_unit_rate", "partial_mislabel_rate"]
    text = json.dumps(summary, allow_nan=False)
    assert json.loads(text)["class_names"] == ["sky", "road", "car", "pole"]
    assert summary["num_images"] == 12
    assert summary["background_hole_rate"] is None
    for name in (
        "whole_object_errors",
        "hallucinated_components",
        "num_small_objects",
        "num_parts",
        "num_large_objects",
    ):
        assert type(summary[name]) is int


def test_summary_agrees_with_the_metrics_one_by_one() -> None:
    labels = [image(seed) for seed in range(5)]
    predictions = [spoiled(label, seed, 0.2) for seed, label in enumerate(labels)]
    summary = summarise([evaluate_image(p, y, 4) for p, y in zip(predictions, labels, strict=True)])
    metric = ConfusionMatrix(4)
    counts = failure_counts(predictions[0], labels[0], 4)
    for index, (prediction, label) in enumerate(zip(predictions, labels, strict=True)):
        metric.update(prediction, label)
        counts = counts if index == 0 else counts + failure_counts(prediction, label, 4)
    for name, value in metric.compute().items():
        assert summary[name] == pytest.approx(value)
    for name in ("missed_unit_rate", "partial_mislabel_rate", "missed_part_rate", "hallucinated_components"):
        assert summary[name] == pytest.approx(float(failure_scores(counts, None)[name]))
    assert np.array(summary["confusion_matrix"])[:, :4].tolist() == metric.matrix.tolist()


def test_void_prediction_is_a_wrong_pixel_everywhere() -> None:
    label = image(0)
    prediction = np.where(label == 1, 255, label)
    summary = summarise([evaluate_image(prediction, label, 4)])
    assert summary["per_class_iou"] == [1, 0, 1, 1]
    assert summary["per_class_boundary_iou"][1] == 0
    assert summary["confusion_matrix"][1][4] == (label == 1).sum()


def test_intervals_hold_the_number_and_depend_on_the_seed_alone() -> None:
    evaluated = results(0.2)
    summary = summarise(evaluated, seed=1)
    for name in ("miou", "missed_unit_rate", "partial_mislabel_rate", "boundary_iou"):
        low, high = summary["intervals"][name]
        assert low < summary[name] < high
    assert summarise(evaluated, seed=1)["intervals"] == summary["intervals"]
    assert summarise(evaluated, seed=2)["intervals"] != summary["intervals"]
    assert len(summary["intervals"]["recall_by_size"]) == len(summary["recall_by_size"]) == 9
    assert summarise(evaluated[:1])["intervals"] == {}


def test_interval_agrees_with_a_loop_over_resamples() -> None:
    evaluated = results(0.2, count=6)
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(6, np.full(6, 1 / 6), size=200)
    values = []
    for weights in drawn:
        chosen = [result for result, times in zip(evaluated, weights, strict=True) for _ in range(times)]
        values.append(summarise(chosen, bootstrap=0)["miou"])
    low, high = summarise(evaluated, bootstrap=200, seed=0)["intervals"]["miou"]
    assert [low, high] == pytest.approx(np.percentile(values, [2.5, 97.5]))


def test_paired_difference_finds_what_unpaired_intervals_hide() -> None:
    a, b = results(0.2), results(0.17)
    difference = paired_differences(a, b)["pixel_accuracy"]
    intervals = [summarise(both)["intervals"]["pixel_accuracy"] for both in (a, b)]
    assert difference["verdict"] == "better"
    assert difference["excludes_zero"] is True
    assert difference["difference"] == pytest.approx(difference["b"] - difference["a"])
    assert 0 < difference["low"] < difference["difference"] < difference["high"]
    assert difference["high"] - difference["low"] < intervals[0][1] - intervals[0][0]


def test_fewer_missed_units_are_better() -> None:
    differences = paired_differences(results(0.4), results(0.02))
    assert differences["missed_unit_rate"]["difference"] < 0
    assert differences["missed_unit_rate"]["verdict"] == "better"
    assert paired_differences(results(0.02), results(0.4))["missed_unit_rate"]["verdict"] == "worse"


def test_same_predictions_are_not_distinguishable() -> None:
    differences = paired_differences(results(0.2), results(0.2))
    assert set(differences) == set(MEASURES) - {"background_hole_rate"}
    for difference in differences.values():
        assert difference["difference"] == difference["low"] == difference["high"] == 0
        assert difference["verdict"] == "not distinguishable"
        assert difference["excludes_zero"] is False
    json.dumps(differences, allow_nan=False)


def test_comparison_needs_the_same_images() -> None:
    with pytest.raises(ValueError, match="12 images and B 11"):
        paired_differences(results(0.1), results(0.1, count=11))
    with pytest.raises(ValueError, match="different labels for image 0"):
        paired_differences(results(0.1), results(0.1)[::-1])
    with pytest.raises(ValueError, match="two or more"):
        paired_differences(results(0.1, count=1), results(0.1, count=1))


def test_unlike_results_are_refused() -> None:
    with pytest.raises(ValueError, match="no evaluated images"):
        summarise([])
    with pytest.raises(ValueError, match="background"):
        summarise([*results(0.1, count=1), *results(0.1, count=1, background=0)])
    with pytest.raises(ValueError, match="3 class names for 4 classes"):
        summarise(results(0.1), ["a", "b", "c"])


def test_result_is_small_and_survives_a_process_border() -> None:
    (result,) = results(0.1, count=1)
    packed = pickle.dumps(result)
    assert len(packed) < 20_000
    assert summarise([pickle.loads(packed)], bootstrap=0) == summarise([result], bootstrap=0)


def test_scoring_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys; from selfreg.evaluation import evaluate_image, summarise; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
