"""Freezing of parts of a network."""

from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from selfreg.training.optimiser import backbone_of


def freeze(network: nn.Module, what: Literal["none", "backbone", "batch_norm"]) -> list[nn.Module]:
    """Freeze a part of a network, in place.

    Args:
        network: The plain network, without exits.
        what: `backbone` or `batch_norm` (all batch norms of the network).

    Returns:
        The frozen modules. Their parameters have no gradient; the caller must keep them in evaluation mode, so that
        the running statistics of batch norms do not change.

    Raises:
        ValueError: The network has no such part.
    """
    if what == "none":
        return []
    if what == "backbone":
        backbone = backbone_of(network)
        if backbone is None:
            raise ValueError(f"training.freeze backbone: {type(network).__name__} has no module encoder or backbone")
        frozen = [backbone]
    else:
        frozen = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        if not frozen:
            raise ValueError(f"training.freeze batch_norm: {type(network).__name__} has no batch norms")
    for module in frozen:
        module.requires_grad_(False)
    return frozen
