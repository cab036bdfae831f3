"""The losses of self-regulation, one pure function per equation.

F are logits (N, K, h, w), z image-level logits (N, K), y labels (N, H, W) with void = ignore_index, u a cell of the
grid on which a term is taken, n(u) its number of valid pixels, n = sum_u n(u), sg[.] stop-gradient. Everything is
computed in float32 (float64 stays) and is a mean over valid pixels; where nothing is valid it is 0 and still has a
graph.
"""

from __future__ import annotations

import torch
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
    logits = resize_logits(full_precision(class_map), _grid(labels))
    weights = None if class_weights is None else class_weights.to(logits)
    if confidence is None:
        total = F.cross_entropy(logits, labels, weight=weights, ignore_index=ignore_index, reduction="sum")
    else:
        losses = F.cross_entropy(logits, labels, weight=weights, ignore_index=ignore_index, reduction="none")
        total = (losses * confidence).sum()
    valid = labels != ignore_index
    norm = valid.to(logits.dtype) if confidence is None else valid * confidence
    if weights is not None:
        norm = norm * weights[labels.masked_fill(~valid, 0)]
    return ratio(total, norm.sum())


def cell_segmentation_loss(log_probabilities: Tensor, counts: Tensor) -> Tensor:
    """Cross-entropy against class fractions at an exit's own resolution.

    L = - sum_u sum_k c_k(u) log p_k(u) / sum_u sum_k c_k(u), with log p = log softmax(F) (N, K, h, w) and c_k(u) the
    (weighted) number of pixels of class k in cell u, (N, K, h, w). The same as pixel cross-entropy with F upsampled
    by nearest neighbour, at the price of the exit's grid; no small object is lost to label resizing. This project's
    (the authors train exits at label resolution).
    """
    return ratio(-(counts * log_probabilities).sum(), counts.sum())


def classification_loss(image_logits: Tensor, presence: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy between z (N, K) and the classes present in the image (N, K), mean over K and known images.

    L = mean_{n, k} BCE(sigmoid(z_nk), p_nk). known: (N,) bool; an image without a valid pixel tells nothing of its
    classes. Source: the multi-exit loss of the paper, weight a = 0.2 in the authors' code.
    """
    logits = full_precision(image_logits)
    losses = F.binary_cross_entropy_with_logits(logits, presence.to(logits), reduction="none").mean(dim=1)
    return ratio(torch.where(known, losses, 0.0).sum(), known.sum())


def distillation_loss(log_probabilities: Tensor, teacher: Tensor, weights: Tensor, valid: Tensor) -> Tensor:
    """Kullback-Leibler divergence from teacher to student, a mean over valid pixels.

    L = sum_u w(u) sum_k q_k(u) (log q_k(u) - log p_k(u)) / sum_u n(u). log p: (N, K, h, w) of the student; teacher: q
    (N, K, h, w), detached here; weights: w (N, h, w), n(u) for `distill`, n(u) times the gate for `verified`; valid:
    n (N, h, w). Times T^2 where both were taken at temperature T.
    """
    teacher = teacher.detach()
    divergence = torch.xlogy(teacher, teacher).sum(dim=1) - (teacher * log_probabilities).sum(dim=1)
    return ratio((weights * divergence).sum(), valid.sum())


def hard_label_loss(log_probabilities: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Cross-entropy of a student against the teacher's hard decisions (SR-F of the authors' code).

    L = - sum_u sum_k c_k(u) log p_k(u) / n, where c_k(u) is the number of valid pixels in the student's cell u at which
    argmax_k of the teacher is k. teacher: logits (N, K, h', w'); valid: (N, h', w') valid pixels of the teacher's
    cells.
    """
    decisions = teacher.detach().argmax(dim=1)
    size = _grid(log_probabilities)
    num_classes = log_probabilities.shape[1]
    counts = class_counts(decisions, num_classes, size, ignore_index=-1, pixel_weights=valid)
    return cell_segmentation_loss(log_probabilities, counts.to(log_probabilities))


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


def verified_gate(student: Tensor, teacher: Tensor, fractions: Tensor) -> Tensor:
    """Where a teacher may speak: g (N, h, w) of 0 and 1, float, without gradient (this project's variant `verified`).

    g(u) = [ argmax_k q_k(u) = argmax_k t_k(u) ] * [ sum_k t_k(u) log q_k(u) > sum_k t_k(u) log p_k(u) ],
    t the class fractions of the labels in cell u, q the teacher's and p the student's probabilities: the teacher is
    right, and gives the truth more likelihood than the student does. student: log p; teacher: q; fractions: t, all
    (N, K, h, w).
    """
    student = student.detach()
    teacher = teacher.detach()
    right = teacher.argmax(dim=1) == fractions.argmax(dim=1)
    surer = (fractions * (teacher.clamp_min(torch.finfo(teacher.dtype).tiny).log() - student)).sum(dim=1) > 0
    return (right & surer).to(student.dtype)


# --- shared ----------------------------------------------------------------------------------------------------------


def ratio(total: Tensor, count: Tensor) -> Tensor:
    """total / count, and 0 (with the graph of total) where count is 0."""
    return total / torch.where(count > 0, count, torch.ones_like(count))


def full_precision(tensor: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring (N, C, h, w) to a finer grid bilinearly (align_corners=False); to a coarser one use `average_cells`."""
    if _grid(logits) == size:
        return logits
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)


def average_cells(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Average (N, C, h, w) over the cells of a grid that is nowhere finer."""
    return maps if _grid(maps) == size else F.adaptive_avg_pool2d(maps, size)


def _grid(tensor: Tensor) -> tuple[int, int]:
    return tensor.shape[-2], tensor.shape[-1]
