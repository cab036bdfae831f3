"""Local presence by hand on small maps, and against a loop over windows and classes."""

from math import log
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from regulation import slow_terms
from selfreg.regulation.local_presence import as_windows, local_presence_loss
from selfreg.regulation.targets import class_counts

VOID = 255


def test_local_presence_asks_for_every_class_where_it_is_and_for_no_other() -> None:
    # p_0 of four cells; class 1 is surest where it is not, and the void cell's opinion is not asked for
    p = torch.tensor([0.75, 0.1, 0.25, 1e-4], dtype=torch.float64)
    log_p = torch.stack([p, 1 - p]).view(1, 2, 2, 2).log()
    counts = class_counts(torch.tensor([[[0, 0], [1, VOID]]]), 2, (2, 2))
    both = local_presence_loss(log_p, as_windows(counts, (2, 2)))
    assert both.item() == pytest.approx(-log(0.75) / 2)
    only_zero = class_counts(torch.tensor([[[0, 0], [VOID, VOID]]]), 2, (2, 2))
    one = local_presence_loss(log_p, as_windows(only_zero, (2, 2)))
    assert one.item() == pytest.approx((-log(0.75) + 4 * -log(1 - 0.9)) / 2)


def test_local_presence_counts_a_small_object_as_much_as_a_large_one() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    labels[0, 1, 2] = 1
    windows = as_windows(class_counts(labels, 2, (4, 4)), (4, 4))
    missed = torch.tensor([log(3.0), 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    assert local_presence_loss(missed.log_softmax(1), windows).item() == pytest.approx((-log(0.75) - log(0.25)) / 4)
    found = torch.zeros(1, 2, 4, 4)
    found[0, 0] = 30.0
    found[0, :, 1, 2] = torch.tensor([0.0, 30.0])
    assert local_presence_loss(found.log_softmax(1), windows).item() == pytest.approx(0, abs=1e-6)
    elsewhere = found.flip(3)
    assert local_presence_loss(elsewhere.log_softmax(1), windows).item() > 1


def test_local_presence_counts_a_rare_class_as_much_as_a_common_one() -> None:
    labels = torch.zeros(1, 2, 8, dtype=torch.int64)
    labels[0, 0, 7] = 1  # in one window of seven
    ignored = torch.tensor([log(3.0), 0.0], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 2, 8)
    loss = local_presence_loss(ignored.log_softmax(1), as_windows(class_counts(labels, 2, (2, 8)), (2, 2)))
    missed = (-log(0.75) - log(0.25)) / 2
    assert loss.item() == pytest.approx((missed + 4 * -log(0.75)) / 2)


def test_local_presence_leaves_out_windows_without_a_valid_pixel() -> None:
    labels = torch.zeros(1, 2, 4, dtype=torch.int64)
    labels[0, :, 2:] = VOID
    sure = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 4)
    half = local_presence_loss(sure.log_softmax(1), as_windows(class_counts(labels, 2, (2, 4)), (2, 2)))
    whole = local_presence_loss(sure.log_softmax(1), as_windows(class_counts(labels * 0, 2, (2, 4)), (2, 2)))
    assert half.item() == pytest.approx(whole.item())


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    side=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    average=st.sampled_from(["class", "pair"]),
    seed=st.integers(0, 1000),
)
def test_local_presence_equals_a_loop_over_windows_and_classes(
    size: tuple[int, int], side: tuple[int, int], average: Literal["class", "pair"], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 5, (2, *size), generator=generator)
    labels[labels == 4] = VOID
    logits = torch.randn(2, 4, *size, generator=generator, dtype=torch.float64)
    counts = class_counts(labels, 4, size)
    window = (min(side[0], size[0]), min(side[1], size[1]))
    loss = local_presence_loss(logits.log_softmax(1), as_windows(counts, window), average)
    expected = slow_terms.presence_in_windows(logits.numpy(), counts.numpy(), window, average)
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("logit", "least", "most"),
    [(-200.0, 0.0, 0.0), (-60.0, 0.0, 1e-20), (60.0, 0.1, 1.0), (90.0, 0.1, 1.0), (200.0, 0.1, 1.0)],
)
def test_local_presence_is_finite_and_has_a_gradient_where_a_class_is_missed_with_certainty(
    logit: float, least: float, most: float
) -> None:
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    logits = torch.zeros(1, 2, 2, 2)
    logits[:, 1] = logit
    logits.requires_grad_()
    loss = local_presence_loss(logits.log_softmax(1), as_windows(class_counts(labels, 2, (2, 2)), (2, 2)))
    assert torch.isfinite(loss)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all()
    assert least <= gradient.abs().max().item() <= most


@pytest.mark.parametrize("margin", [0.5, 2.0, 8.0, 12.5, 15.0, 20.0, 25.0, 30.0])
@pytest.mark.parametrize("num_classes", [2, 5])
def test_an_absent_class_has_the_exact_gradient_however_certain_it_is(margin: float, num_classes: int) -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    logits = torch.rand(1, num_classes, 4, 4, generator=generator, dtype=torch.float64)
    logits[0, 1] += margin + torch.rand(4, 4, generator=generator, dtype=torch.float64)

    def exact(given: Tensor) -> Tensor:
        # of one window that covers the map: log(1 - p) by the other classes' logsumexp, class by class
        total = given.logsumexp(1)
        others = [torch.cat([given[:, :k], given[:, k + 1 :]], 1).logsumexp(1) for k in range(num_classes)]
        absent = [(total - others[k]).amax() for k in range(1, num_classes)]
        return 0.5 * ((total - given[:, 0]).amin() + 4 * torch.stack(absent).mean())

    windows = as_windows(class_counts(labels, num_classes, (4, 4)), (4, 4))
    single, double = (logits.to(dtype).requires_grad_() for dtype in (torch.float32, torch.float64))
    loss = local_presence_loss(single.log_softmax(1), windows)
    (found,) = torch.autograd.grad(loss, single)
    (expected,) = torch.autograd.grad(exact(double), double)
    assert loss.item() == pytest.approx(exact(double).item(), rel=1e-4)
    torch.testing.assert_close(found.double(), expected, rtol=0.01, atol=1e-3)
    # the class's own gradient, which is nowhere small
    cell = expected[0, 1].abs().argmax()
    assert found[0, 1].flatten()[cell].item() == pytest.approx(expected[0, 1].flatten()[cell].item(), rel=0.01)
