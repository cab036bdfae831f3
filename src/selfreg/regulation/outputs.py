"""What goes in and comes out of the regulated forward pass: one network's output, one set of exit outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor


class ExitOutputs(NamedTuple):
    """What a network in training gives through all its exits, shallow to deep, its own output last.

    Attributes:
        class_maps: Logits F_i, floating (N, K, h_i, w_i), each at its exit's own resolution.
        image_logits: Logits z_i of "this class occurs in the image", floating (N, K).
        features: Stage features projected to one width, floating (N, width, h_i, w_i); empty by default.
        own_map: The own output before the network's final upsampling, floating (N, K, h, w), where there is one.
            Self-regulation compares the own output at this resolution; its segmentation term is taken on `logits`.
        network_loss: Scalar loss that the network computed itself, where the forward pass was given its labels
            (`mask_targets`). It takes the place of the segmentation term of the own output.

    Source: the exits of the paper's method figure.
    """

    class_maps: list[Tensor]
    image_logits: list[Tensor]
    features: list[Tensor] = []  # noqa: RUF012 - a NamedTuple's default, never written to
    own_map: Tensor | None = None
    network_loss: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """The network's own output, floating (N, K, h, w), for additional losses or metrics."""
        return self.class_maps[-1]


def main_output(result: Any) -> Tensor:
    """Find the class map in whatever a segmentation network returns.

    A tensor is taken as it is; of a mapping the entry "out" (torchvision), of an object the attribute `logits`
    (transformers, `ExitOutputs`), of any other tuple or list the first element. Networks that classify masks
    (MaskFormer, Mask2Former: class logits of Q queries (N, Q, K + 1) and mask logits (N, Q, h, w)) have no class map;
    theirs is the logarithm of their semantic inference, s_k(u) = sum_q softmax(c_q)_k * sigmoid(m_q(u)), whose softmax
    over k is s normalised.

    Args:
        result: What the network returned.

    Returns:
        Logits, floating (N, K, h, w).

    Raises:
        ValueError: If nothing of this kind is found.
    """
    if isinstance(result, Tensor):
        if result.ndim != 4:
            raise ValueError(f"a class map must have shape (N, K, h, w), the network returned {tuple(result.shape)}")
        return result
    if isinstance(result, Mapping) and "out" in result:
        return main_output(result["out"])
    if hasattr(result, "masks_queries_logits"):
        classes = result.class_queries_logits.float().softmax(dim=-1)[..., :-1]
        masks = result.masks_queries_logits.float().sigmoid()
        scores = torch.einsum("nqk,nqhw->nkhw", classes, masks)
        return scores.clamp_min(torch.finfo(scores.dtype).tiny).log()
    logits = getattr(result, "logits", None)
    if isinstance(logits, Tensor):
        return main_output(logits)
    if isinstance(result, (tuple, list)) and result:
        return main_output(result[0])
    raise ValueError(
        f"cannot find the class map in a {type(result).__name__}: return a tensor (N, K, h, w), a mapping with 'out', "
        "an object with .logits, or a tuple with the class map first"
    )
