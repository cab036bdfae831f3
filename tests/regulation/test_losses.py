"""Each equation by hand on two-by-two maps, against torch's own losses, and where nothing is valid."""

from math import log

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from selfreg.regulation import losses
from selfreg.regulation.local_presence import as_windows, local_presence_loss
from selfreg.regulation.targets import class_counts, class_presence

VOID = 255
# Class probabilities (3/4, 1/4) and (1/4, 3/4) as logits; (1/2, 1/2) is 0.
SURE = [log(3.0), 0.0]
OTHER = [0.0, log(3.0)]
EVEN = [0.0, 0.0]


def class_map(*cells: list[float]) -> Tensor:
    """A (1, 2, 2, 2) map from the logits of its four cells, row by row."""
    return torch.tensor(cells).T.reshape(1, 2, 2, 2)


def log_p(*cells: list[float]) -> Tensor:
    return class_map(*cells).log_softmax(dim=1)


LABELS = torch.tensor([[[0, 0], [1, VOID]]])
COUNTS = class_counts(LABELS, 2, (2, 2))
VALID = COUNTS.sum(dim=1)
STUDENT = log_p(EVEN, EVEN, EVEN, EVEN)
TEACHER = log_p(SURE, OTHER, OTHER, SURE)
KL_SURE_EVEN = 0.75 * log(1.5) + 0.25 * log(0.5)


def test_segmentation_is_the_mean_over_valid_pixels() -> None:
    loss = losses.segmentation_loss(class_map(SURE, EVEN, OTHER, SURE), LABELS)
    assert loss.item() == pytest.approx(-(log(0.75) + log(0.5) + log(0.75)) / 3)


def test_segmentation_with_class_weights_divides_by_their_sum() -> None:
    loss = losses.segmentation_loss(class_map(SURE, EVEN, OTHER, SURE), LABELS, class_weights=torch.tensor([1.0, 3.0]))
    assert loss.item() == pytest.approx(-(log(0.75) + log(0.5) + 3 * log(0.75)) / 5)


@pytest.mark.parametrize("weighted", [False, True])
def test_segmentation_equals_torchs_cross_entropy_at_label_resolution(weighted: bool) -> None:
    logits = torch.randn(2, 4, 5, 6)
    labels = torch.randint(0, 4, (2, 20, 24))
    labels[0, :7] = VOID
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0]) if weighted else None
    upsampled = F.interpolate(logits, size=(20, 24), mode="bilinear")
    expected = F.cross_entropy(upsampled, labels, weight=weights, ignore_index=VOID)
    torch.testing.assert_close(losses.segmentation_loss(logits, labels, class_weights=weights), expected)


def test_a_pixel_of_confidence_zero_is_void_and_a_common_confidence_changes_nothing() -> None:
    logits = torch.randn(1, 3, 4, 4)
    labels = torch.randint(0, 3, (1, 4, 4))
    confidence = torch.ones(1, 4, 4)
    confidence[:, :2] = 0
    void = labels.masked_fill(confidence == 0, VOID)
    expected = losses.segmentation_loss(logits, void)
    torch.testing.assert_close(losses.segmentation_loss(logits, labels, confidence=confidence), expected)
    torch.testing.assert_close(losses.segmentation_loss(logits, void, confidence=torch.full((1, 4, 4), 0.3)), expected)


def test_cell_segmentation_compares_with_class_fractions() -> None:
    labels = torch.tensor([[[0, 0], [1, VOID]]])
    counts = class_counts(labels, 2, (1, 1))
    log_probabilities = torch.tensor(SURE).log_softmax(0).view(1, 2, 1, 1)
    expected = -(2 / 3 * log(0.75) + 1 / 3 * log(0.25))
    assert losses.cell_segmentation_loss(log_probabilities, counts).item() == pytest.approx(expected)


def test_cell_segmentation_equals_label_resolution_with_nearest_upsampling() -> None:
    logits = torch.randn(2, 5, 4, 3, dtype=torch.float64)
    labels = torch.randint(0, 5, (2, 16, 24))
    labels[1, 3:9, 4:11] = VOID
    counts = class_counts(labels, 5, (4, 3))
    found = losses.cell_segmentation_loss(logits.log_softmax(1), counts)
    expected = F.cross_entropy(F.interpolate(logits, size=(16, 24)), labels, ignore_index=VOID)
    torch.testing.assert_close(found, expected)


def test_classification_is_the_mean_over_classes_of_known_images() -> None:
    logits = torch.tensor([[0.0, log(3.0)], [5.0, 5.0]])
    presence = class_presence(torch.tensor([[[0, 0]], [[VOID, VOID]]]), 2)
    loss = losses.classification_loss(logits, presence, torch.tensor([True, False]))
    assert loss.item() == pytest.approx(-(log(0.5) + log(0.25)) / 2)


def test_distillation_is_the_divergence_from_teacher_to_student_over_valid_pixels() -> None:
    loss = losses.distillation_loss(STUDENT, losses.as_teacher(TEACHER), VALID)
    assert loss.item() == pytest.approx(KL_SURE_EVEN)
    assert losses.distillation_loss(TEACHER, losses.as_teacher(TEACHER), VALID).item() == pytest.approx(0, abs=1e-7)


def test_distillation_equals_torchs_kl_div() -> None:
    student, teacher = torch.randn(2, 2, 6, 5, 4).log_softmax(2)
    expected = F.kl_div(student, teacher, log_target=True, reduction="none").sum(1).mean()
    torch.testing.assert_close(
        losses.distillation_loss(student, losses.as_teacher(teacher), torch.ones(2, 5, 4)), expected
    )


def test_a_verified_teacher_speaks_only_where_it_is_right_and_more_certain() -> None:
    # right and surer; wrong; right and surer; void
    teacher = losses.as_teacher(TEACHER, COUNTS)
    gate = losses.verified_gate(losses.cell_cross_entropy(STUDENT, COUNTS), teacher)
    assert gate.tolist() == [[[True, False], [True, False]]]
    loss = losses.distillation_loss(STUDENT, teacher, VALID, gate)
    assert loss.item() == pytest.approx(2 / 3 * KL_SURE_EVEN)


def test_a_verified_teacher_is_silent_to_a_student_that_knows_as_well() -> None:
    student = log_p(SURE, EVEN, [0.0, log(9.0)], EVEN)
    gate = losses.verified_gate(losses.cell_cross_entropy(student, COUNTS), losses.as_teacher(TEACHER, COUNTS))
    assert not gate.any()


def test_in_a_mixed_cell_an_overconfident_teacher_is_silent() -> None:
    counts = class_counts(torch.tensor([[[0, 0, 0], [1, 1, 255]]]), 2, (1, 1))
    sure = torch.tensor([log(99.0), 0.0]).log_softmax(0).view(1, 2, 1, 1)
    fair = torch.tensor([log(0.6), log(0.4)]).view(1, 2, 1, 1)
    student = losses.cell_cross_entropy(torch.tensor([0.5, 0.5]).log().view(1, 2, 1, 1), counts)
    assert not losses.verified_gate(student, losses.as_teacher(sure, counts)).any()
    assert losses.verified_gate(student, losses.as_teacher(fair, counts)).all()


def test_where_classes_share_a_cell_equally_each_of_them_is_right() -> None:
    counts = class_counts(torch.tensor([[[0, 1]]]), 3, (1, 1))
    for logits, right in (([2.0, 1.0, 0.0], True), ([1.0, 2.0, 0.0], True), ([0.0, 0.0, 1.0], False)):
        teacher = losses.as_teacher(torch.tensor(logits).log_softmax(0).view(1, 3, 1, 1), counts)
        assert teacher.right is not None
        assert bool(teacher.right.item()) is right


def test_a_teacher_without_labels_cannot_be_verified() -> None:
    with pytest.raises(ValueError, match="as_teacher"):
        losses.verified_gate(VALID, losses.as_teacher(TEACHER))


def test_hard_labels_are_the_teachers_decisions() -> None:
    student = log_p(SURE, SURE, EVEN, EVEN)
    loss = losses.hard_label_loss(student, class_map(SURE, OTHER, OTHER, SURE), VALID)
    assert loss.item() == pytest.approx(-(log(0.75) + log(0.25) + log(0.5)) / 3)


def test_hard_labels_become_fractions_at_a_coarser_student() -> None:
    student = torch.tensor(SURE).log_softmax(0).view(1, 2, 1, 1)
    loss = losses.hard_label_loss(student, class_map(SURE, OTHER, OTHER, OTHER), VALID)
    assert loss.item() == pytest.approx(-(1 / 3 * log(0.75) + 2 / 3 * log(0.25)))


def test_presence_is_distilled_from_the_teachers_sigmoid() -> None:
    loss = losses.presence_distillation_loss(
        torch.tensor([[0.0, log(3.0)]]), torch.tensor([[log(3.0), 0.0]]), torch.tensor([True])
    )
    assert loss.item() == pytest.approx((log(2) - (0.5 * log(0.75) + 0.5 * log(0.25))) / 2)


def test_features_are_compared_by_direction() -> None:
    student = class_map([3.0, 0.0], [0.0, 2.0], [1.0, 1.0], [9.0, 9.0])
    teacher = class_map([1.0, 0.0], [1.0, 0.0], [-1.0, -1.0], [0.0, 1.0])
    assert losses.feature_loss(student, teacher, VALID).item() == pytest.approx((0 + 2 + 4) / 3)


def test_nothing_valid_gives_zero_with_a_graph() -> None:
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)
    log_probabilities = logits.log_softmax(1)
    nothing = torch.zeros(1, 2, 2)
    labels = torch.full((1, 2, 2), VOID)
    counts = class_counts(labels, 2, (2, 2))
    teacher = losses.as_teacher(TEACHER, counts)
    values = [
        losses.segmentation_loss(logits, labels),
        losses.segmentation_loss(logits, labels, class_weights=torch.ones(2), confidence=torch.ones(1, 2, 2)),
        losses.cell_segmentation_loss(log_probabilities, counts),
        losses.classification_loss(logits.mean((2, 3)), torch.zeros(1, 2), torch.tensor([False])),
        losses.distillation_loss(log_probabilities, teacher, nothing),
        losses.distillation_loss(log_probabilities, teacher, nothing, losses.verified_gate(counts.sum(1), teacher)),
        local_presence_loss(log_probabilities, as_windows(counts, (2, 2))),
        losses.hard_label_loss(log_probabilities, logits, nothing),
        losses.presence_distillation_loss(logits.mean((2, 3)), torch.zeros(1, 2), torch.tensor([False])),
        losses.feature_loss(logits, logits, nothing),
    ]
    for value in values:
        assert value.item() == 0
        (gradient,) = torch.autograd.grad(value, logits, retain_graph=True)
        assert torch.equal(gradient, torch.zeros_like(gradient))
