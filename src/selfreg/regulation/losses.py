"""The losses of self-regulation, one pure function per equation.

F are logits (N, K, h, w), z image-level logits (N, K), y labels (N, H, W) with void = ignore_index, u a cell of the
grid of a term, n(u) its number of valid pixels, n = sum_u n(u), sg[.] stop-gradient, p and q class probabilities of
student and teacher, t(u) the class fractions of the labels in u. Losses are computed in float32 (float64 is kept) and
are means over valid pixels; if no pixel is valid, the loss is 0 with a graph. Functions of single cells also accept
stacked maps of several exits or teachers, with additional dimensions before N.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from selfreg.regulation.targets import class_counts


def segmentation_loss(
    class_map: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = 255,
    class_weights: Tensor | None = None,
    confidence: Tensor | None = None,
) -> Tensor:
    """Pixel cross-entropy at label resolution: the loss of a plain network, and of the last exit.

        L = - sum_u w(u) log softmax(F(u))_y(u) / sum_u w(u), over valid pixels, w = class_weights[y] * confidence.

    Equals torch's cross_entropy with ignore_index and weight if a pixel is valid.

    Args:
        class_map: Logits F (N, K, h, w); upsampled bilinearly (align_corners=False) if coarser than the labels.
        labels: (N, H, W) int64.
        ignore_index: Label of void pixels.
        class_weights: (K,), or None.
        confidence: (N, H, W) in [0, 1], or None.

    Returns:
        Scalar.
    """
    logits = resize_logits(full_precision(class_map), grid(labels))
    weights = None if class_weights is None else class_weights.to(logits)
    valid = labels != ignore_index
    if confidence is None:
        total = F.cross_entropy(logits, labels, weight=weights, ignore_index=ignore_index, reduction="sum")
        counted = valid.to(logits.dtype)
    else:
        losses = F.cross_entropy(logits, labels, weight=weights, ignore_index=ignore_index, reduction="none")
        total = (losses * confidence).sum()
        counted = valid * confidence
    if weights is not None:
        counted = counted * weights[labels.masked_fill(~valid, 0)]
    return ratio(total, counted.sum())


def cell_cross_entropy(log_probabilities: Tensor, counts: Tensor) -> Tensor:
    """Cross-entropy of each cell with its class counts, - sum_k c_k(u) log p_k(u).

    Args:
        log_probabilities: log softmax(F), (N, K, h, w).
        counts: c_k(u), (weighted) number of pixels of class k in cell u, (N, K, h, w).

    Returns:
        (N, h, w).
    """
    return -(counts * log_probabilities).sum(dim=-3)


def cell_segmentation_loss(log_probabilities: Tensor, counts: Tensor) -> Tensor:
    """Cross-entropy with class fractions at an exit's own resolution.

        L = - sum_u sum_k c_k(u) log p_k(u) / sum_u sum_k c_k(u)

    This equals pixel cross-entropy with F upsampled by nearest neighbour, but is computed on the exit's grid. Small
    objects are not lost by resizing labels. Arguments are those of `cell_cross_entropy`.

    Source: this project (the authors train exits at label resolution).
    """
    return ratio(cell_cross_entropy(log_probabilities, counts).sum(), counts.sum())


def classification_loss(image_logits: Tensor, presence: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy between image-level logits and the classes present in the image.

        L = mean_{n, k} BCE(sigmoid(z_nk), p_nk), over images with known classes

    Args:
        image_logits: z (N, K), or stacked logits of several exits (exits, N, K).
        presence: p, 0 or 1, (N, K).
        known: Whether the classes of the image are known, (N,) bool; an image without valid pixels is not.

    Returns:
        Scalar, or one value per exit (exits,).

    Source: the multi-exit loss of the paper, weight a = 0.2 in the authors' code.
    """
    logits = full_precision(image_logits)
    targets = presence.to(logits).expand_as(logits)
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return ratio((losses * known[:, None]).sum(dim=(-2, -1)), logits.shape[-1] * known.sum())


class Teacher(NamedTuple):
    """A teacher on one grid, without gradient, with the quantities that its students need; made by `as_teacher`.

    Attributes:
        probabilities: q (N, K, h, w).
        negative_entropy: sum_k q_k log q_k, (N, h, w).
        cross_entropy: - sum_k n t_k log q_k, (N, h, w); None without labels.
        right: argmax_k q_k = argmax_k t_k, (N, h, w) bool; None without labels.
    """

    probabilities: Tensor
    negative_entropy: Tensor
    cross_entropy: Tensor | None = None
    right: Tensor | None = None


@torch.no_grad()
def as_teacher(log_probabilities: Tensor, counts: Tensor | None = None) -> Teacher:
    """Make a teacher.

    Args:
        log_probabilities: log q, (N, K, h, w).
        counts: Counts n(u) t_k(u) of the labels, needed for `verified_gate`. If several classes have the largest count
            in a cell, each of them is correct.
    """
    probabilities = log_probabilities.exp()
    negative_entropy = (probabilities * log_probabilities).sum(dim=-3)
    if counts is None:
        return Teacher(probabilities, negative_entropy)
    # amax instead of argmax, which is a hundred times slower on a CPU if classes are not the innermost dimension
    largest = counts == counts.amax(dim=-3, keepdim=True)
    right = (probabilities * largest).amax(dim=-3) == probabilities.amax(dim=-3)
    return Teacher(probabilities, negative_entropy, cell_cross_entropy(log_probabilities, counts), right)


def distillation_loss(log_probabilities: Tensor, teacher: Teacher, valid: Tensor, gate: Tensor | None = None) -> Tensor:
    """Kullback-Leibler divergence from teacher to student, mean over valid pixels.

        L = sum_u n(u) g(u) sum_k q_k(u) (log q_k(u) - log p_k(u)) / sum_u n(u)

    If p and q were computed at temperature T, multiply the loss by T^2.

    Args:
        log_probabilities: log p of the student, (N, K, h, w).
        teacher: q.
        valid: n, (N, h, w).
        gate: g, (N, h, w); None means 1 (variant `distill`), `verified_gate` gives the variant `verified`.
    """
    weights = valid if gate is None else valid * gate
    return ratio((weights * divergence(log_probabilities, teacher)).sum(), valid.sum())


def divergence(log_probabilities: Tensor, teacher: Teacher) -> Tensor:
    """Kullback-Leibler divergence of each cell, sum_k q_k(u) (log q_k(u) - log p_k(u)), (N, h, w)."""
    return teacher.negative_entropy - (teacher.probabilities * log_probabilities).sum(dim=-3)


def verified_gate(cross_entropy: Tensor, teacher: Teacher) -> Tensor:
    """Mask of the cells where distillation applies, for the variant `verified`.

        g(u) = [ argmax_k q_k(u) = argmax_k t_k(u) ] * [ - sum_k t_k(u) log q_k(u) < - sum_k t_k(u) log p_k(u) ]:

    the teacher is correct, and its cross-entropy with the labels is lower than the student's. In a cell without valid
    pixels g = 0.

    Args:
        cross_entropy: The student's `cell_cross_entropy` with the labels' counts, (N, h, w).
        teacher: Made with the same counts.

    Returns:
        (N, h, w) bool.

    Raises:
        ValueError: If the teacher was made without labels.

    Source: this project.
    """
    if teacher.cross_entropy is None or teacher.right is None:
        raise ValueError("the teacher was made without the labels' counts: call as_teacher(log_probabilities, counts)")
    return teacher.right & (teacher.cross_entropy < cross_entropy.detach())


def hard_label_loss(log_probabilities: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy of a student with the teacher's hard decisions.

        L = - sum_u sum_k c_k(u) log p_k(u) / n

    c_k(u) is the number of valid pixels in the student's cell u whose class with the largest teacher logit is k.

    Args:
        log_probabilities: log p of the student, (N, K, h, w).
        teacher: Logits, (N, K, h', w').
        valid: Valid pixels of the teacher's cells, (N, h', w').

    Source: SR-F of the authors' code.
    """
    decisions = teacher.detach().argmax(dim=1)
    if grid(decisions) == grid(log_probabilities):
        losses = -log_probabilities.gather(1, decisions[:, None])[:, 0]
        return ratio((losses * valid).sum(), valid.sum())
    num_classes = log_probabilities.shape[1]
    counts = class_counts(
        decisions, num_classes, grid(log_probabilities), ignore_index=-1, pixel_weights=valid.to(log_probabilities)
    )
    return cell_segmentation_loss(log_probabilities, counts)


def presence_distillation_loss(student: Tensor, teacher: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy of z_i and sg[sigmoid(z_N)], both (N, K).

    Source: SR-L of the authors' code.
    """
    return classification_loss(student, full_precision(teacher).detach().sigmoid(), known)


def feature_loss(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Squared distance of normalised features on their common grid, mean over valid pixels.

        L = sum_u n(u) || f(u) / |f(u)| - sg[g(u) / |g(u)|] ||^2 / n

    Unlike class maps, features also contain details that are not classes.

    Args:
        student: f, (N, width, h, w).
        teacher: g on the same grid.
        valid: n, (N, h, w).

    Source: SR-F of the variant `feature`, one reading of the paper (with low confidence).
    """
    similarity = F.cosine_similarity(full_precision(student), full_precision(teacher).detach(), dim=1, eps=1e-6)
    return ratio((valid * (2 - 2 * similarity)).sum(), valid.sum())


# --- shared ----------------------------------------------------------------------------------------------------------


def ratio(total: Tensor, count: Tensor) -> Tensor:
    """total / count, or 0 with the graph of `total` if `count` (a scalar) is 0."""
    return total / divisor(count, total.dtype)


def divisor(count: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a count (scalar) as a divisor: 1 if it is 0.

    With several training processes it is the mean over them. The mean of the processes' losses and gradients, which
    data parallelism computes, is then that of the joint batch, however unequally void is distributed. Every process
    must compute the same terms in the same order.
    """
    count = mean_over_processes(count.to(dtype))
    return torch.where(count > 0, count, 1.0)


def mean_over_processes(count: Tensor) -> Tensor:
    """Mean of a count over the training processes; the count itself with one process or without gradients."""
    if not (torch.is_grad_enabled() and dist.is_available() and dist.is_initialized()):
        return count
    count = count.detach().clone()
    dist.all_reduce(count)
    return count / dist.get_world_size()


def full_precision(tensor: Tensor) -> Tensor:
    """Convert half precision to float32; float32 and float64 are kept."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def grid(tensor: Tensor) -> tuple[int, int]:
    """(height, width) of a tensor (..., h, w)."""
    return tensor.shape[-2], tensor.shape[-1]


def common_grid(first: Tensor, second: Tensor) -> tuple[int, int]:
    """The coarser of the grids of two tensors, in each direction."""
    return min(first.shape[-2], second.shape[-2]), min(first.shape[-1], second.shape[-1])


def resize_logits(logits: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Resize (N, C, h, w) to another grid bilinearly."""
    if grid(logits) == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)


def average_cells(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Average (N, C, h, w) over the cells of a grid that is not finer in any direction."""
    return maps if grid(maps) == size else F.adaptive_avg_pool2d(maps, size)
