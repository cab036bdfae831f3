"""Differences between arms and their intervals, against a plain version that adds up images one by one."""

import statistics
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats

from selfreg.evaluation import MEASURES, ImageResult, evaluate_image, resampled_scores, summarise
from selfreg.evaluation.bootstrap import draw_resamples
from selfreg.evaluation.scores import Floats
from selfreg.study.intervals import PairedDifference, coverage_of, mean_and_spread, paired_difference

ERRORS = (("base", 0.5), ("mea", 0.3))
SOME = ("miou", "boundary_iou", "missed_unit_rate", "pixel_accuracy", "hallucinated_components")


def draw_results(error: float, seed: int, images: int = 6) -> list[ImageResult]:
    """Blocky random maps of six classes, predicted with a share of wrong pixels; the labels are always the same."""
    results = []
    for index in range(images):
        label = np.kron(np.random.default_rng(index).integers(0, 6, (12, 12)), np.ones((4, 4), int))
        generator = np.random.default_rng((seed, index))
        noise = np.kron(generator.integers(0, 6, (24, 24)), np.ones((2, 2), int))
        wrong = np.kron(generator.random((24, 24)) < error, np.ones((2, 2), int)).astype(bool)
        results.append(evaluate_image(np.where(wrong, noise, label), label, 6))
    return results


def plain_score(results: list[ImageResult], times: Sequence[int], measure: str) -> float:
    """The measure of a data set that holds each image as often as it was drawn."""
    drawn = [result for result, number in zip(results, times, strict=True) for _ in range(number)]
    return float(summarise(drawn, bootstrap=0)[measure])


def test_scores_and_interval_are_those_of_images_drawn_one_by_one() -> None:
    bootstrap, seeds = 25, (0, 1, 2)
    arms = {name: {seed: draw_results(error, seed + int(100 * error)) for seed in seeds} for name, error in ERRORS}
    fast = {
        name: {seed: resampled_scores(results, bootstrap=bootstrap, seed=0) for seed, results in runs.items()}
        for name, runs in arms.items()
    }
    image_draws = draw_resamples(6, bootstrap, 0).astype(int)
    for measure in SOME:
        drawn = [
            statistics.mean(
                plain_score(arms["mea"][seed], images, measure) - plain_score(arms["base"][seed], images, measure)
                for seed in seeds
            )
            for images in image_draws
        ]
        whole = [
            float(summarise(arms["mea"][seed], bootstrap=0)[measure])
            - float(summarise(arms["base"][seed], bootstrap=0)[measure])
            for seed in seeds
        ]
        found = paired_difference(*({s: fast[name][s][measure] for s in seeds} for name in ("mea", "base")))
        assert found is not None
        assert found.seeds == seeds
        assert found.value == pytest.approx(statistics.mean(whole))
        of_seeds, of_images = statistics.variance(whole) / 3, statistics.variance(drawn)
        t, z = scipy.stats.t(2).interval(0.95)[1], scipy.stats.norm.interval(0.95)[1]
        half = (t**2 * of_seeds + z**2 * of_images) ** 0.5
        assert [found.low, found.high] == pytest.approx([found.value - half, found.value + half])


@pytest.mark.parametrize("seeds", [2, 3])
def test_a_little_noise_from_images_beside_that_of_few_seeds_does_not_make_intervals_too_narrow(seeds: int) -> None:
    generator = np.random.default_rng(0)
    images = 0.3 * np.array([0.0, *scipy.stats.norm.ppf(np.linspace(0.005, 0.995, 100))])
    held = 0
    for _ in range(1000):
        drawn = 0.3 * generator.standard_normal()
        arm = {seed: drawn + generator.standard_normal() + images for seed in range(seeds)}
        found = paired_difference(arm, {seed: np.zeros(101) for seed in range(seeds)})
        assert found is not None
        held += found.low <= 0 <= found.high
    assert held >= 940


def test_with_seeds_alone_to_differ_the_interval_is_that_of_a_paired_t_test() -> None:
    values = [0.3, 0.1, 0.45, 0.2]
    found = paired_difference(
        {seed: made(value) for seed, value in enumerate(values)}, {seed: made(0.0) for seed in range(4)}
    )
    expected = scipy.stats.ttest_rel(values, [0.0] * 4).confidence_interval(0.95)
    assert found is not None
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high])


def made(value: float, spread: float = 0.0, bootstrap: int = 1000, seed: int = 0) -> Floats:
    return np.array([value, *(value + spread * np.random.default_rng(seed).standard_normal(bootstrap))])


def test_only_common_seeds_are_paired_and_undefined_values_left_out() -> None:
    arm = {0: made(0.5), 1: made(0.9), 2: made(np.nan)}
    control = {0: made(0.4), 2: made(0.4), 3: made(0.1)}
    found = paired_difference(arm, control)
    assert found is not None
    assert found.seeds == (0,)
    assert [found.value, found.low, found.high] == pytest.approx([0.1] * 3)
    assert paired_difference({1: made(0.5)}, {2: made(0.5)}) is None


def test_a_measure_undefined_in_some_resamples_does_not_lose_the_interval() -> None:
    arm = {0: made(0.5), 1: made(0.6)}
    arm[0][1:400] = np.nan
    found = paired_difference(arm, {0: made(0.4), 1: made(0.4)})
    assert found is not None
    assert np.isfinite([found.low, found.high]).all()


def test_images_common_to_both_arms_cancel() -> None:
    arm = {seed: made(0.5, 0.1) for seed in range(3)}
    found = paired_difference(arm, {seed: made(0.4, 0.1) for seed in range(3)})
    assert found is not None
    assert found.high - found.low == pytest.approx(0, abs=1e-12)


def test_a_verdict_needs_an_interval_that_leaves_zero_out() -> None:
    better, unclear = PairedDifference(1.0, 0.5, 1.5, (0,)), PairedDifference(1.0, -0.1, 2.0, (0,))
    assert (better.verdict(True), better.verdict(False), unclear.verdict(True)) == (
        "better",
        "worse",
        "not distinguishable",
    )


def test_the_words_say_that_one_seed_covers_images_alone() -> None:
    assert "images alone" in coverage_of(1)
    assert "Student's t" in coverage_of(3)


def test_mean_and_spread_leave_missing_runs_out() -> None:
    assert mean_and_spread([1.0, None, 3.0]) == pytest.approx((2.0, 2**0.5))
    assert mean_and_spread([1.0, None]) == (1.0, None)
    assert mean_and_spread([None]) == (None, None)


def test_every_headline_number_of_the_evaluation_is_scored() -> None:
    assert set(resampled_scores(draw_results(0.2, 0))) == {*MEASURES, "per_class_iou"}
