"""Class counts and fractions of cells, against one-hot labels averaged by torch and by hand."""

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from selfreg.regulation import CellLabels, class_counts, class_fractions, class_presence

VOID = 255


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    valid = labels != VOID
    hot = F.one_hot(labels.masked_fill(~valid, 0), num_classes).permute(0, 3, 1, 2).double()
    return hot * valid[:, None]


def test_counts_by_hand() -> None:
    labels = torch.tensor([[[0, 0, 1, VOID], [0, 2, 1, VOID]]])
    assert class_counts(labels, 3, (1, 2)).tolist() == [[[[3.0, 0.0]], [[0.0, 2.0]], [[1.0, 0.0]]]]


def test_fractions_are_the_average_of_one_hot_labels_over_valid_pixels() -> None:
    labels = torch.randint(0, 4, (2, 24, 16))
    labels[torch.rand(2, 24, 16) < 0.4] = VOID
    labels[0, :8, :8] = VOID
    pooled = F.avg_pool2d(one_hot(labels, 4), 8)
    valid = pooled.sum(1, keepdim=True)
    expected = torch.where(valid > 0, pooled / valid, 0).float()
    torch.testing.assert_close(class_fractions(class_counts(labels, 4, (3, 2))), expected)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 23),
    width=st.integers(1, 23),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_every_valid_pixel_counts_once_whatever_the_sizes(
    height: int, width: int, rows: int, columns: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (2, height, width), generator=generator)
    labels[labels == 3] = VOID
    counts = class_counts(labels, 3, (rows, columns))
    torch.testing.assert_close(counts.sum((2, 3)).double(), one_hot(labels, 3).sum((2, 3)))
    fractions = class_fractions(counts).sum(1)
    valid = counts.sum(1) > 0
    torch.testing.assert_close(fractions, valid.float())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_counts_flip_with_the_labels(seed: int) -> None:
    labels = torch.randint(0, 4, (1, 12, 8), generator=torch.Generator().manual_seed(seed))
    for dim in (1, 2):
        flipped = class_counts(labels.flip(dim), 4, (3, 4))
        assert torch.equal(flipped, class_counts(labels, 4, (3, 4)).flip(dim + 1))


def test_pixel_weights_are_what_a_pixel_counts() -> None:
    labels = torch.tensor([[[0, 1], [1, VOID]]])
    weights = torch.tensor([[[0.5, 0.25], [1.0, 9.0]]])
    assert class_counts(labels, 2, (1, 1), pixel_weights=weights).flatten().tolist() == [0.5, 1.25]


def test_presence_leaves_void_out() -> None:
    labels = torch.tensor([[[0, 2], [VOID, 2]], [[VOID, VOID], [VOID, VOID]]])
    assert class_presence(labels, 3).tolist() == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


def test_a_grid_is_counted_once_per_batch() -> None:
    cells = CellLabels(torch.zeros(1, 8, 8, dtype=torch.int64), 2)
    assert cells.counts((4, 4)) is cells.counts((4, 4))
    assert cells.valid((4, 4)).tolist() == [[[4.0] * 4] * 4]


@settings(max_examples=40, deadline=None)
@given(
    grids=st.lists(st.sampled_from([(12, 8), (6, 4), (3, 4), (3, 2), (5, 4), (1, 1)]), min_size=2, max_size=4),
    weighted=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_grid_has_the_same_counts_whichever_grids_were_counted_before(
    grids: list[tuple[int, int]], weighted: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (2, 13, 9), generator=generator)
    labels[labels == 3] = VOID
    confidence = torch.rand(2, 13, 9, generator=generator) if weighted else None
    cells = CellLabels(labels, 3, confidence=confidence)
    for size in grids:
        torch.testing.assert_close(cells.counts(size), class_counts(labels, 3, size, pixel_weights=confidence))


def test_class_weights_enter_weighted_counts_alone() -> None:
    labels = torch.tensor([[[0, 1]]])
    cells = CellLabels(labels, 2, class_weights=torch.tensor([2.0, 3.0]))
    assert cells.weighted_counts((1, 1)).flatten().tolist() == [2.0, 3.0]
    assert cells.counts((1, 1)).flatten().tolist() == [1.0, 1.0]
