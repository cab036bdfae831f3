"""Networks that classify masks (MaskFormer, Mask2Former, OneFormer, EoMT): what their own loss needs of the labels."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def classifies_masks(network: nn.Module) -> bool:
    """Whether a network takes masks and their classes, and computes its own loss of them (those of transformers)."""
    return {"mask_labels", "class_labels"} <= inspect.signature(network.forward).parameters.keys()


def mask_targets(network: nn.Module, labels: Tensor, ignore_index: int = 255) -> dict[str, Any]:
    """Make the arguments with which a network that classifies masks computes its own loss.

    Every class that occurs in an image is one mask. Pixels to ignore are in no mask. Needs a host read, as the matching
    of queries and masks does.

    Args:
        network: The plain network.
        labels: (N, H, W) int64 in [0, K) or `ignore_index`.
        ignore_index: Label of the pixels to ignore.

    Returns:
        `mask_labels`, of each image (M, H, W) float32 of 0 and 1, and `class_labels`, (M,) int64; nothing for a network
        that does not classify masks.

    Source: Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation", NeurIPS 2021.
    """
    if not classifies_masks(network):
        return {}
    classes = [found[found != ignore_index] for found in (torch.unique(label) for label in labels)]
    masks = [(label == found[:, None, None]).float() for label, found in zip(labels, classes, strict=True)]
    return {"mask_labels": masks, "class_labels": classes}


def network_loss(result: Any) -> Tensor | None:
    """The scalar loss that a network that classifies masks computed itself, in float32; None for any other network."""
    # by its key: torch.compile cannot ask a mapping for an attribute
    if not isinstance(result, Mapping) or "masks_queries_logits" not in result:
        return None
    loss = result.get("loss")
    return loss.float().reshape(()) if isinstance(loss, Tensor) else None
