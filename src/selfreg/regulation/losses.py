"""The losses of self-regulation, one pure function per equation.

F are logits (N, K, h, w), z image-level logits (N, K), y labels (N, H, W) with void = ignore_index, u a cell of the
grid on which a term is taken, n(u) its number of valid pixels, n = sum_u n(u), sg[.] stop-gradient, p and q class
probabilities of student and teacher, t(u) the class fractions of the labels in u. Everything is computed in float32
(float64 stays) and is a mean over valid pixels; where nothing is valid it is 0 and still has a graph. What is said of
one cell also takes the maps of several exits or teachers at once, as dimensions before N.
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
    """Pixel cross-entropy at label resolution: the loss of a plain network, and of exit N.

    L = - sum_u w(u) log softmax(F(u))_y(u) / sum_u w(u), over valid pixels, w = class_weights[y] * confidence. F (N,
    K, h, w) is upsampled bilinearly (align_corners=False) to labels (N, H, W) where it is coarser. Equals torch's
    cross_entropy with ignore_index and weight where something is valid.
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
    """Cross-entropy of each cell against its class counts: - sum_k c_k(u) log p_k(u), (N, h, w).

    log_probabilities: log softmax(F) (N, K, h, w); counts: c_k(u), (weighted) pixels of class k in cell u, (N, K, h,
    w).
    """
    return -(counts * log_probabilities).sum(dim=-3)


def cell_segmentation_loss(log_probabilities: Tensor, counts: Tensor) -> Tensor:
    """Cross-entropy against class fractions at an exit's own resolution.

    L = - sum_u sum_k c_k(u) log p_k(u) / sum_u sum_k c_k(u), arguments as in `cell_cross_entropy`. The same number as
    pixel cross-entropy with F upsampled by nearest neighbour, at the price of the exit's grid; no small object is
    lost to label resizing. This project's (the authors train exits at label resolution).
    """
    return ratio(cell_cross_entropy(log_probabilities, counts).sum(), counts.sum())


def classification_loss(image_logits: Tensor, presence: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy between z (N, K) and the classes present in the image (N, K), mean over K and known images.

    Of the stacked z of several exits, (exits, N, K), one value for each: (exits,).

    L = mean_{n, k} BCE(sigmoid(z_nk), p_nk). known: (N,) bool; an image without a valid pixel tells nothing of its
    classes. Source: the multi-exit loss of the paper, weight a = 0.2 in the authors' code.
    """
    logits = full_precision(image_logits)
    targets = presence.to(logits).expand_as(logits)
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return ratio((losses * known[:, None]).sum(dim=(-2, -1)), logits.shape[-1] * known.sum())


class Teacher(NamedTuple):
    """A teacher on one grid, without gradient, with what each of its students needs of it; made by `as_teacher`.

    probabilities: q (N, K, h, w); negative_entropy: sum_k q_k log q_k (N, h, w); cross_entropy: - sum_k n t_k log q_k
    (N, h, w); right: argmax_k q_k = argmax_k t_k, (N, h, w) bool. The last two are None without labels.
    """

    probabilities: Tensor
    negative_entropy: Tensor
    cross_entropy: Tensor | None = None
    right: Tensor | None = None


@torch.no_grad()
def as_teacher(log_probabilities: Tensor, counts: Tensor | None = None) -> Teacher:
    """Make a teacher of log q (N, K, h, w), and of the counts n(u) t_k(u) of the labels if it is to be verified.

    Where classes share the largest fraction of a cell, each of them is right.
    """
    probabilities = log_probabilities.exp()
    negative_entropy = (probabilities * log_probabilities).sum(dim=-3)
    if counts is None:
        return Teacher(probabilities, negative_entropy)
    # amax and not argmax, which is a hundred times slower on a CPU where classes are not the innermost dimension.
    largest = counts == counts.amax(dim=-3, keepdim=True)
    right = (probabilities * largest).amax(dim=-3) == probabilities.amax(dim=-3)
    return Teacher(probabilities, negative_entropy, cell_cross_entropy(log_probabilities, counts), right)


def distillation_loss(log_probabilities: Tensor, teacher: Teacher, valid: Tensor, gate: Tensor | None = None) -> Tensor:
    """Kullback-Leibler divergence from teacher to student, a mean over valid pixels.

    L = sum_u n(u) g(u) sum_k q_k(u) (log q_k(u) - log p_k(u)) / sum_u n(u). log_probabilities: log p of the student,
    (N, K, h, w); valid: n (N, h, w); gate: g (N, h, w), 1 without one (`distill`), `verified_gate` for `verified`. To
    be multiplied by T^2 where p and q were taken at temperature T.
    """
    weights = valid if gate is None else valid * gate
    return ratio((weights * divergence(log_probabilities, teacher)).sum(), valid.sum())


def divergence(log_probabilities: Tensor, teacher: Teacher) -> Tensor:
    """Kullback-Leibler divergence of each cell: sum_k q_k(u) (log q_k(u) - log p_k(u)), (N, h, w)."""
    return teacher.negative_entropy - (teacher.probabilities * log_probabilities).sum(dim=-3)


def verified_gate(cross_entropy: Tensor, teacher: Teacher) -> Tensor:
    """Where a teacher may speak: g (N, h, w) bool (this project's variant `verified`).

    g(u) = [ argmax_k q_k(u) = argmax_k t_k(u) ] * [ - sum_k t_k(u) log q_k(u) < - sum_k t_k(u) log p_k(u) ]:

    the teacher is right, and gives the truth more likelihood than the student does. cross_entropy: the student's
    `cell_cross_entropy` against the labels' counts (N, h, w); teacher: made with the same counts. A cell without valid
    pixels has g = 0. Raises ValueError for a teacher without labels.
    """
    if teacher.cross_entropy is None or teacher.right is None:
        raise ValueError("the teacher was made without the labels' counts: call as_teacher(log_probabilities, counts)")
    return teacher.right & (teacher.cross_entropy < cross_entropy.detach())


def hard_label_loss(log_probabilities: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy of a student against the teacher's hard decisions (SR-F of the authors' code).

    L = - sum_u sum_k c_k(u) log p_k(u) / n, where c_k(u) is the number of valid pixels in the student's cell u at which
    argmax_k of the teacher is k. teacher: logits (N, K, h', w'); valid: (N, h', w') valid pixels of the teacher's
    cells.
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
    """Binary cross-entropy of z_i against sg[sigmoid(z_N)], (N, K) both (SR-L of the authors' code)."""
    return classification_loss(student, full_precision(teacher).detach().sigmoid(), known)


def feature_loss(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Squared distance of normalised features on their common grid, a mean over valid pixels (SR-F of `feature`).

    L = sum_u n(u) || f(u) / |f(u)| - sg[g(u) / |g(u)|] ||^2 / n, f and g (N, width, h, w) on the same grid, valid: n
    (N, h, w). Unlike class maps, features carry detail that is no class (low confidence that the paper means this).
    """
    similarity = F.cosine_similarity(full_precision(student), full_precision(teacher).detach(), dim=1, eps=1e-6)
    return ratio((valid * (2 - 2 * similarity)).sum(), valid.sum())


# --- shared ----------------------------------------------------------------------------------------------------------


def ratio(total: Tensor, count: Tensor) -> Tensor:
    """total / count, and 0 (with the graph of total) where the count, a scalar, is 0."""
    return total / divisor(count, total.dtype)


def divisor(count: Tensor, dtype: torch.dtype) -> Tensor:
    """A count (scalar) to divide by: 1 where it is 0.

    In training with several processes it is the mean over them: then the mean of their losses and gradients, which
    data parallelism takes, is that of the joint batch, however unequally void is spread. Every process has to compute
    the same terms in the same order.
    """
    count = mean_over_processes(count.to(dtype))
    return torch.where(count > 0, count, 1.0)


def mean_over_processes(count: Tensor) -> Tensor:
    """A count as its mean over the training processes: itself where there is one process, or gradients are off."""
    if not (torch.is_grad_enabled() and dist.is_available() and dist.is_initialized()):
        return count
    count = count.detach().clone()
    dist.all_reduce(count)
    return count / dist.get_world_size()


def full_precision(tensor: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def grid(tensor: Tensor) -> tuple[int, int]:
    """The (height, width) of a tensor (..., h, w)."""
    return tensor.shape[-2], tensor.shape[-1]


def common_grid(first: Tensor, second: Tensor) -> tuple[int, int]:
    """The coarser of two tensors' grids, in each direction."""
    return min(first.shape[-2], second.shape[-2]), min(first.shape[-1], second.shape[-1])


def resize_logits(logits: Tensor, size: tuple[int, int], *, align_corners: bool = False) -> Tensor:
    """Bring (N, C, h, w) to another grid bilinearly."""
    if grid(logits) == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=align_corners)


def average_cells(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Average (N, C, h, w) over the cells of a grid that is nowhere finer."""
    return maps if grid(maps) == size else F.adaptive_avg_pool2d(maps, size)
