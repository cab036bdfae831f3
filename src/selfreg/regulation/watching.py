"""What self-regulation does in one batch: how often its teachers are right, and where they teach."""

from __future__ import annotations

import torch
from torch import Tensor

from selfreg.regulation import losses
from selfreg.regulation.losses import average_cells, common_grid, full_precision, grid
from selfreg.regulation.options import MethodOptions
from selfreg.regulation.outputs import ExitOutputs
from selfreg.regulation.targets import CellLabels


@torch.no_grad()
def watch_regulation(
    options: MethodOptions,
    outputs: ExitOutputs,
    labels: Tensor,
    *,
    ignore_index: int = 255,
    confidence: Tensor | None = None,
) -> dict[str, Tensor]:
    """Measure the teachers of SR-F and SR-L on one batch, without gradient and without reading anything on the host.

    Args:
        options: The options of the objective.
        outputs: Of `MultiExit`, with at least two exits.
        labels: (N, H, W) int64 in [0, K) or `ignore_index`.
        ignore_index: Label that counts as no class.
        confidence: (N, H, W) non-negative, what each pixel counts, or None.

    Returns:
        For each of SR-F and SR-L whose weight is above 0: `teacher_accuracy/sr_f`, a scalar, the share of valid pixels
        whose class is the most likely one of the teacher in their cell (exit 1 for SR-F, exit N for SR-L; not of SR-L
        in the variant `authors`, whose teacher has no class map). For the variant `verified` also `gate_open/sr_f`,
        shape (N - 1,): the share of valid pixels in whose cell the gate is open, for exits 2 to N (SR-F) or 1 to N - 1
        (SR-L). All are in [0, 1], and 0 where nothing is valid.
    """
    maps = _compared(options, outputs, grid(labels))
    cells = CellLabels(labels, maps[0].shape[1], ignore_index=ignore_index, confidence=confidence)
    last = len(maps) - 1
    found: dict[str, Tensor] = {}
    stars = {"sr_f": (options.sr_f_weight, 0, range(1, last + 1)), "sr_l": (options.sr_l_weight, last, range(last))}
    for term, (weight, teacher, students) in stars.items():
        if weight == 0 or (term, options.variant) == ("sr_l", "authors"):
            continue  # there the teacher is not a class map, but image-level logits
        counts = cells.counts(grid(maps[teacher]))
        decided = counts.gather(1, maps[teacher].argmax(dim=1, keepdim=True))
        found[f"teacher_accuracy/{term}"] = losses.ratio(decided.sum(), counts.sum())
        if options.variant == "verified":
            gates = [_gate_open(maps[teacher], maps[student], cells, options.temperature) for student in students]
            found[f"gate_open/{term}"] = torch.stack(gates)
    return found


def _compared(options: MethodOptions, outputs: ExitOutputs, label_grid: tuple[int, int]) -> list[Tensor]:
    """The logits with which every exit takes part in self-regulation, as in the training step."""
    *exits, own = (full_precision(class_map) for class_map in outputs.class_maps)
    if options.exit_resolution == "label":
        corners = options.variant == "authors"  # as in their code
        return [losses.resize_logits(class_map, label_grid, align_corners=corners) for class_map in (*exits, own)]
    if outputs.own_map is not None:
        own = full_precision(outputs.own_map)
    finest = max((grid(class_map) for class_map in exits), key=lambda size: size[0] * size[1])
    return [*exits, average_cells(own, (min(own.shape[2], finest[0]), min(own.shape[3], finest[1])))]


def _gate_open(teacher: Tensor, student: Tensor, cells: CellLabels, temperature: float) -> Tensor:
    size = common_grid(teacher, student)
    counts = cells.counts(size)
    probabilities = average_cells((teacher / temperature).softmax(dim=1), size)
    log_q = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
    log_p = (average_cells(student, size) / temperature).log_softmax(dim=1)
    gate = losses.verified_gate(losses.cell_cross_entropy(log_p, counts), losses.as_teacher(log_q, counts))
    valid = cells.valid(size)
    return losses.ratio((valid * gate).sum(), valid.sum())
