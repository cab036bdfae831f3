"""Freezing of parts of a network."""

from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from selfreg.training.optimiser import backbone_of


def frozen_modules(network: nn.Module, what: Literal["none", "backbone", "batch_norm"]) -> list[nn.Module]:
    """Find the modules that `freeze` freezes, which must stay in evaluation mode.

    Args:
        network: The plain network, without exits.
        what: `backbone` or `batch_norm` (all batch norms of the network).

    Raises:
        ValueError: The network has no such part.
    """
    if what == "none":
        return []
    if what == "backbone":
        backbone = backbone_of(network)
        if backbone is None:
            raise ValueError(f"training.freeze backbone: {type(network).__name__} has no module encoder or backbone")
        return [backbone]
    norms: list[nn.Module] = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        raise ValueError(f"training.freeze batch_norm: {type(network).__name__} has no batch norms")
    return norms


def freeze(network: nn.Module, what: Literal["none", "backbone", "batch_norm"]) -> None:
    """Take the gradient from the parameters of a part of a network, in place.

    The caller must keep its `frozen_modules` in evaluation mode, so that the running statistics of batch norms do not
    change.

    Args:
        network: The plain network, without exits.
        what: As for `frozen_modules`.

    Raises:
        ValueError: The network has no such part.
    """
    for module in frozen_modules(network, what):
        module.requires_grad_(False)
