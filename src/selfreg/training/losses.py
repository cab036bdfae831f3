"""The loss of the network's own output, as `training.loss` names it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfreg.config import Config, TrainingConfig
from selfreg.config.training import LossName
from selfreg.data.labels import IGNORE_INDEX
from selfreg.regulation import ExitOutputs, classifies_masks, main_output, network_loss, segmentation_loss
from selfreg.regulation.losses import full_precision, grid, ratio, resize_logits

FOCAL_GAMMA = 2.0
"""Exponent of the focal loss (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017)."""

OHEM_PROBABILITY = 0.7
"""A pixel whose class has less than this probability is hard (the value of the published settings of HRNet)."""

OHEM_SHARE = 16
"""At least one in so many pixels counts as hard (Yu et al., "BiSeNet", ECCV 2018)."""

AUXILIARY_WEIGHT = 0.4
"""Weight of the loss of an auxiliary head of the network (OCRNet, Yuan et al., ECCV 2020)."""

OwnLoss = Callable[..., Tensor]
"""`loss(class_map, labels, class_weights=None, confidence=None)`, a scalar; see `own_loss_of`."""


def own_loss_of(config: TrainingConfig) -> OwnLoss:
    """Make the function that computes the loss of the network's own output.

    Args:
        config: `loss` and `label_smoothing` are read.

    Returns:
        A function of the class map, logits (N, K, h, w), the labels (N, H, W) int64 with 255 for void, the class
        weights (K,) or None, and the confidence (N, H, W) or None. It gives the weighted sum of the losses, float32.
        Logits are upsampled to the labels bilinearly. Void pixels do not count, and where nothing is valid the loss
        is 0 and has a graph. Class weights and confidence act on `cross_entropy`, `ohem` and `focal`.
    """
    if config.loss_weights == {"cross_entropy": 1.0} and not config.label_smoothing:
        return segmentation_loss
    return partial(_weighted_sum, weights=config.loss_weights, label_smoothing=config.label_smoothing)


def plain_loss(
    result: Any, labels: Tensor, *, own_loss: OwnLoss, class_weights: Tensor | None, confidence: Tensor | None
) -> Tensor:
    """The loss of plain training: that of the own output, and 0.4 times the cross-entropy of auxiliary class maps.

    A loss that the network computed itself takes the place of `own_loss`.

    Args:
        result: What the network returned, or `ExitOutputs` where it has auxiliary heads.
        labels: (N, H, W) int64 with 255 for void.
        own_loss: Of `own_loss_of`.
        class_weights: (K,) or None.
        confidence: (N, H, W) or None.
    """
    weighted: dict[str, Any] = {"class_weights": class_weights, "confidence": confidence}
    of_network = result.network_loss if isinstance(result, ExitOutputs) else network_loss(result)
    own = own_loss(main_output(result), labels, **weighted) if of_network is None else of_network
    if not isinstance(result, ExitOutputs):
        return own
    auxiliary = [segmentation_loss(class_map, labels, **weighted) for class_map in result.class_maps[:-1]]
    # empty sums keep unused parameters in the graph, as DDP wants it
    unused = torch.stack([logits[:0].sum() for logits in result.image_logits]).sum()
    return own + AUXILIARY_WEIGHT * torch.stack(auxiliary).sum() + unused


def refuse_loss_options(config: Config, network: nn.Module) -> None:
    """Refuse options of the loss for a network that classifies masks: it trains with its own loss.

    Raises:
        ValueError: If the network is of this kind, and an option of the loss or class weights are set.
    """
    training = config.training
    plain = own_loss_of(training) is segmentation_loss and training.class_weights == "none"
    if classifies_masks(network) and not plain:
        raise ValueError(
            f"network {config.network.name} classifies masks and trains with its own loss: leave out training.loss, "
            "training.label_smoothing and training.class_weights"
        )


def _weighted_sum(
    class_map: Tensor,
    labels: Tensor,
    *,
    weights: Mapping[LossName, float],
    label_smoothing: float,
    class_weights: Tensor | None = None,
    confidence: Tensor | None = None,
) -> Tensor:
    logits = resize_logits(full_precision(class_map), grid(labels))
    classes = None if class_weights is None else class_weights.to(logits)
    terms: dict[LossName, Callable[[], Tensor]] = {
        "cross_entropy": lambda: cross_entropy(logits, labels, classes, confidence, label_smoothing=label_smoothing),
        "ohem": lambda: ohem(logits, labels, classes, confidence),
        "focal": lambda: focal(logits, labels, classes, confidence),
        "dice": lambda: dice(logits, labels),
        "lovasz": lambda: lovasz(logits, labels),
    }
    return torch.stack([weight * terms[name]() for name, weight in weights.items()]).sum()


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    confidence: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy with label smoothing, a mean over valid pixels.

    Equals `torch.nn.functional.cross_entropy` where there is no confidence and something is valid. Arguments as in
    `own_loss_of`; logits (N, K, H, W).
    """
    losses = F.cross_entropy(
        logits,
        labels,
        weight=class_weights,
        ignore_index=IGNORE_INDEX,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    total = losses if confidence is None else losses * confidence
    return ratio(total.sum(), _pixel_weights(labels, class_weights, confidence).sum())


def focal(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, confidence: Tensor | None = None
) -> Tensor:
    """Focal loss of the softmax: a mean of - (1 - p_y)^gamma log p_y over valid pixels, gamma = 2.

    Source: Lin et al., ICCV 2017, equation 4, with the softmax in the place of the sigmoid.
    """
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="none")
    weights = _pixel_weights(labels, class_weights, confidence)
    # -expm1(-x) is 1 - p without cancellation
    return ratio((weights * (-torch.expm1(-losses)).pow(FOCAL_GAMMA) * losses).sum(), weights.sum())


def ohem(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, confidence: Tensor | None = None
) -> Tensor:
    """Cross-entropy of the hard pixels alone (online hard example mining), a mean over them.

    Hard is a pixel whose class has a probability below 0.7, and in any case the sixteenth of all pixels with the
    largest losses. With several processes each chooses among its own images.

    Source: Shrivastava et al., CVPR 2016; the two thresholds as in BiSeNet (Yu et al., ECCV 2018).
    """
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="none")
    with torch.no_grad():
        # void pixels have a loss of 0, so that they come last
        least_kept = losses.flatten().topk(max(1, losses.numel() // OHEM_SHARE)).values[-1]
        threshold = least_kept.clamp_max(-torch.log(losses.new_tensor(OHEM_PROBABILITY)))
        hard = losses >= threshold
    weights = _pixel_weights(labels, class_weights, confidence) * hard
    return ratio((weights * losses).sum(), weights.sum())


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Dice loss of the batch, a mean over the K classes of which those that do not occur add 0 (smp)."""
    from segmentation_models_pytorch.losses import DiceLoss

    loss: Tensor = DiceLoss("multiclass", ignore_index=IGNORE_INDEX)(logits, labels)
    return loss


def lovasz(logits: Tensor, labels: Tensor) -> Tensor:
    """Lovász-Softmax loss of the batch, a mean over the classes that occur (smp)."""
    from segmentation_models_pytorch.losses import LovaszLoss

    # where nothing is valid, the library gives an empty tensor
    loss: Tensor = LovaszLoss("multiclass", ignore_index=IGNORE_INDEX)(logits, labels).sum()
    return loss


def _pixel_weights(labels: Tensor, class_weights: Tensor | None, confidence: Tensor | None) -> Tensor:
    """Weight of each pixel, float32 (N, H, W): class weight times confidence, 0 for void."""
    valid = labels != IGNORE_INDEX
    weights = valid.float() if confidence is None else valid * confidence
    return weights if class_weights is None else weights * class_weights[labels.masked_fill(~valid, 0)]
