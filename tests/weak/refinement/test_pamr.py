import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreg.weak.refinement import pamr
from weak.refinement.scores import random_case, two_halves, wrong_share

SEEDS = st.integers(0, 2**32 - 1)


def plain_pamr(image: np.ndarray, scores: np.ndarray, dilations: tuple[int, ...], iterations: int) -> np.ndarray:
    """The equations, pixel by pixel in double precision."""
    height, width = image.shape[:2]
    colours = image.astype(np.float64)
    steps = [(d * i, d * j) for d in dilations for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]

    def neighbours(y: int, x: int) -> list[tuple[int, int]]:
        return [(min(max(y + i, 0), height - 1), min(max(x + j, 0), width - 1)) for i, j in steps]

    for _ in range(iterations):
        averaged = np.zeros_like(scores)
        for y in range(height):
            for x in range(width):
                around = neighbours(y, x)
                sigma = np.std([colours[y, x], *(colours[q] for q in around)], axis=0)
                kernel = [-np.mean(np.abs(colours[y, x] - colours[q]) / (0.1 * sigma + 1e-6)) for q in around]
                affinity = np.exp(np.array(kernel) - max(kernel))
                affinity /= affinity.sum()
                for weight, (i, j) in zip(affinity, around, strict=True):
                    averaged[:, y, x] += weight * scores[:, i, j]
        scores = averaged
    return scores


@given(seed=SEEDS, iterations=st.integers(0, 3))
@settings(max_examples=15, deadline=None)
def test_pamr_equals_the_plain_loop(seed: int, iterations: int) -> None:
    image, scores = random_case(seed)
    refined = pamr(image, scores, dilations=(1, 2, 5), iterations=iterations)
    plain = plain_pamr(image, scores.numpy().astype(np.float64), (1, 2, 5), iterations)
    np.testing.assert_allclose(refined, plain, atol=2e-5)


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_scores_stay_non_negative_of_sum_one(seed: int) -> None:
    image, scores = random_case(seed, largest=40)
    refined = pamr(image, scores)
    assert refined.shape == scores.shape
    assert refined.min() >= 0
    torch.testing.assert_close(refined.sum(0), torch.ones(scores.shape[1:]))


@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_scores_that_are_equal_everywhere_stay(seed: int) -> None:
    image, scores = random_case(seed, largest=30)
    constant = scores[:, :1, :1].expand_as(scores)
    torch.testing.assert_close(pamr(image, constant), constant)


@given(seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_order_of_the_classes_does_not_matter(seed: int) -> None:
    image, scores = random_case(seed, largest=30, classes=4)
    torch.testing.assert_close(pamr(image, scores[[2, 0, 3, 1]]), pamr(image, scores)[[2, 0, 3, 1]])


@given(seed=SEEDS, axis=st.sampled_from([0, 1]))
@settings(max_examples=10, deadline=None)
def test_a_flipped_image_gives_flipped_scores(seed: int, axis: int) -> None:
    image, scores = random_case(seed, largest=30)
    flipped = pamr(np.flip(image, axis), scores.flip(axis + 1))
    torch.testing.assert_close(flipped, pamr(image, scores).flip(axis + 1), atol=1e-4, rtol=0)


def test_scores_move_to_the_edge_of_the_image() -> None:
    image, label, scores = two_halves()
    assert wrong_share(scores, label) > 0.04
    assert wrong_share(pamr(image, scores), label) < 0.005


def test_a_flat_image_averages_the_neighbours_evenly() -> None:
    image = np.full((5, 5, 3), 99, dtype=np.uint8)
    scores = torch.zeros(2, 5, 5)
    scores[0] = 1
    scores[:, 2, 2] = torch.tensor([0.0, 1.0])
    refined = pamr(image, scores, dilations=(1,), iterations=1)
    assert refined[1, 2, 2] == 0
    torch.testing.assert_close(refined[1, 1, 1], torch.tensor(1 / 8))


def test_images_that_do_not_fit_the_scores_are_refused() -> None:
    image, scores = random_case(1)
    with pytest.raises(ValueError, match="resize the scores to the image first"):
        pamr(np.zeros((50, 50, 3), dtype=np.uint8), scores)
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\), not float64"):
        pamr(image.astype(np.float64), scores)
    with pytest.raises(ValueError, match=r"scores must be floats \(C, H, W\)"):
        pamr(image, scores[0])
    with pytest.raises(ValueError, match="dilations of at least 1"):
        pamr(image, scores, dilations=(0,))
