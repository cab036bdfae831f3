import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreg.weak.refinement import affinity_from_boundaries, random_walk, walk_within_boundaries
from weak.refinement.scores import random_case, two_halves, wrong_share

SEEDS = st.integers(0, 2**32 - 1)


def random_boundaries(seed: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed % 2**31)
    return torch.rand(height, width, generator=generator) ** torch.randint(1, 9, (1,), generator=generator)


def dense_affinity(boundaries: np.ndarray, radius: float) -> np.ndarray:
    """Pair by pair: walk the line in small steps and look up the pixels around each point at half a pixel or less."""
    height, width = boundaries.shape
    affinity = np.eye(height * width)
    for i in np.ndindex(height, width):
        for j in np.ndindex(height, width):
            down, right = j[0] - i[0], j[1] - i[1]
            if not 0 < np.hypot(down, right) < radius:
                continue
            steps = max(abs(down), abs(right))
            strongest = 0.0
            for k in range(steps + 1):
                y, x = i[0] + k * down / steps, i[1] + k * right / steps
                near = [
                    boundaries[a, b]
                    for a in range(height)
                    for b in range(width)
                    if max(abs(a - y), abs(b - x)) <= 0.5 + 1e-9
                ]
                strongest = max(strongest, *near)
            affinity[i[0] * width + i[1], j[0] * width + j[1]] = 1 - strongest
    return affinity


@given(seed=SEEDS, height=st.integers(1, 6), width=st.integers(1, 6), radius=st.sampled_from([2.0, 3.0, 5.0]))
@settings(max_examples=15, deadline=None)
def test_affinity_equals_the_plain_loop(seed: int, height: int, width: int, radius: float) -> None:
    boundaries = random_boundaries(seed, height, width)
    found = affinity_from_boundaries(boundaries, radius)
    np.testing.assert_allclose(found.toarray(), dense_affinity(boundaries.numpy(), radius), atol=1e-6)


@given(seed=SEEDS, log2_steps=st.integers(0, 8), power=st.sampled_from([1.0, 3.0, 10.0]))
@settings(max_examples=25, deadline=None)
def test_walk_equals_the_dense_power_of_the_transition_matrix(seed: int, log2_steps: int, power: float) -> None:
    _, scores = random_case(seed, largest=9)
    classes, height, width = scores.shape
    affinity = affinity_from_boundaries(random_boundaries(seed, height, width))
    powers = affinity.toarray().astype(np.float64) ** power
    transition = powers / powers.sum(0)  # as in IRN: columns of sum 1, class maps as row vectors
    dense = scores.numpy().reshape(classes, -1) @ np.linalg.matrix_power(transition, 2**log2_steps)
    walked = random_walk(scores, affinity, power=power, log2_steps=log2_steps)
    np.testing.assert_allclose(walked.reshape(classes, -1), dense, atol=2e-5)


@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_scores_stay_non_negative_of_sum_one(seed: int) -> None:
    _, scores = random_case(seed, largest=60)
    height, width = scores.shape[1:]
    refined = walk_within_boundaries(scores, random_boundaries(seed, -(-height // 4), -(-width // 4)))
    assert refined.shape == scores.shape
    assert refined.min() >= 0
    torch.testing.assert_close(refined.sum(0), torch.ones(scores.shape[1:]))


@given(seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_scores_that_are_equal_everywhere_stay(seed: int) -> None:
    _, scores = random_case(seed, largest=40)
    constant = scores[:, :1, :1].expand_as(scores).contiguous()
    torch.testing.assert_close(
        walk_within_boundaries(constant, random_boundaries(seed, 8, 9)), constant, atol=1e-4, rtol=0
    )


@given(seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_order_of_the_classes_does_not_matter(seed: int) -> None:
    _, scores = random_case(seed, largest=30, classes=4)
    boundaries = random_boundaries(seed, 7, 8)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(
        walk_within_boundaries(scores[order], boundaries), walk_within_boundaries(scores, boundaries)[order]
    )


@given(seed=SEEDS, axis=st.sampled_from([0, 1]))
@settings(max_examples=8, deadline=None)
def test_flipped_boundaries_give_flipped_scores(seed: int, axis: int) -> None:
    scores = random_case(seed, largest=30)[1].repeat(1, 8, 8)  # a grid of one row or column has no corners
    boundaries = random_boundaries(seed, 7, 8)
    flipped = walk_within_boundaries(scores.flip(axis + 1), boundaries.flip(axis))
    torch.testing.assert_close(flipped, walk_within_boundaries(scores, boundaries).flip(axis + 1), atol=1e-5, rtol=0)


def test_scores_spread_up_to_a_boundary_and_not_past_it() -> None:
    boundaries = torch.zeros(9, 21)
    boundaries[:, 10] = 1
    scores = torch.full((2, 9, 21), 0.5)
    scores[:, 4, 3] = torch.tensor([0.0, 1.0])
    scores[:, 4, 17] = torch.tensor([1.0, 0.0])
    walked = random_walk(scores, affinity_from_boundaries(boundaries))
    assert (walked[1, :, :10] > 0.5).all()
    assert (walked[1, :, 11:] < 0.5).all()
    # within either half every pixel has heard of every other: nearly the mean, weighted by the number of neighbours
    assert walked[1, :, :10].std() < 1e-3


def test_scores_move_to_the_boundary() -> None:
    _, label, scores = two_halves(40, 60)
    boundaries = torch.zeros(10, 15)
    boundaries[:, 7] = 0.95  # 30 of 60 pixels: the middle of the eighth of fifteen
    assert wrong_share(scores, label) > 0.04
    assert wrong_share(walk_within_boundaries(scores, boundaries), label) < 0.02


def test_pixels_that_are_all_boundary_keep_their_scores() -> None:
    _, scores = random_case(3, largest=12)
    height, width = scores.shape[1:]
    torch.testing.assert_close(walk_within_boundaries(scores, torch.ones(height, width)), scores)


def test_what_does_not_fit_is_refused() -> None:
    affinity = affinity_from_boundaries(torch.zeros(4, 5))
    with pytest.raises(ValueError, match="must be 30 square, not 20 x 20"):
        random_walk(torch.rand(2, 5, 6), affinity)
    with pytest.raises(ValueError, match="log2_steps is -1"):
        random_walk(torch.rand(2, 4, 5), affinity, log2_steps=-1)
    with pytest.raises(ValueError, match="take the sigmoid of logits first"):
        affinity_from_boundaries(torch.full((4, 5), -1.0))
    with pytest.raises(ValueError, match="take the sigmoid of logits first"):
        affinity_from_boundaries(torch.full((4, 5), float("nan")))
    with pytest.raises(ValueError, match=r"boundaries must be \(h, w\)"):
        affinity_from_boundaries(torch.zeros(1, 4, 5))


def test_a_pixel_counts_the_less_the_surer_a_boundary_passes_through_it() -> None:
    _, scores = random_case(8, largest=8)
    classes, height, width = scores.shape
    boundaries = random_boundaries(8, height, width)
    transition = affinity_from_boundaries(boundaries).toarray().astype(np.float64) ** 10
    transition /= transition.sum(1, keepdims=True)
    certain = (scores.numpy() * (1 - boundaries.numpy())).reshape(classes, -1).T
    walked = np.linalg.matrix_power(transition, 8) @ certain
    expected = (walked / walked.sum(1, keepdims=True)).T.reshape(scores.shape)
    found = walk_within_boundaries(scores, boundaries, log2_steps=3)  # the grid is the image's
    np.testing.assert_allclose(found, expected, atol=1e-4)
