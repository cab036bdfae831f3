"""What a network's outputs are computed from, read off the autograd graph of one run on noise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from selfreg.regulation.outputs import main_output
from selfreg.regulation.probe import flatten, noise, run_at_some_size


class Traced(NamedTuple):
    """One run of a network with gradients.

    Attributes:
        outputs: What the named modules returned in their first runs, by the name of a tap on it, in order of execution.
        runs: For each named module, whether each of its runs had gradients; all have where none has.
        result: What the network returned.
    """

    outputs: dict[str, Tensor]
    runs: dict[str, list[bool]]
    result: Any

    def depends(self, output: str, on: str) -> bool:
        """Whether one output was computed from another, by their names; False where the graph does not tell."""
        later, earlier = self.outputs.get(output), self.outputs.get(on)
        if later is None or earlier is None or earlier.grad_fn is None or later.grad_fn is earlier.grad_fn:
            return False
        return earlier.grad_fn in _nodes([later])


def trace(network: nn.Module, names: list[str], image_size: tuple[int, int]) -> Traced:
    """Run the network once in eval mode, with gradients where it allows them.

    Args:
        network: Any segmentation network; it is left as it was.
        names: Modules to look at.
        image_size: (height, width) of the noise image, in pixels, as for `observe`.

    Raises:
        ValueError: If the network refuses all sizes.
    """
    outputs: dict[str, Tensor] = {}
    runs: dict[str, list[bool]] = {}

    def record(name: str, output: Any) -> None:
        runs.setdefault(name, []).append(torch.is_grad_enabled())
        first = sum(runs[name]) == 1 and runs[name][-1]
        for path, tensor in flatten(name, output):
            if first or path not in outputs:
                outputs[path] = tensor

    def forget() -> None:
        outputs.clear()
        runs.clear()

    def images(network: nn.Module, shape: tuple[int, int, int]) -> Tensor:
        # a copy, since a leaf could not be changed in place
        return noise(network, (1, *shape)).requires_grad_().clone()

    try:
        _, result = run_at_some_size(network, names, image_size, record, forget, images, gradients=True)
    except ValueError:
        _, result = run_at_some_size(network, names, image_size, record, forget)
    return Traced(outputs, {name: of if any(of) else [True] * len(of) for name, of in runs.items()}, result)


def untrained_heads(network: nn.Module, num_classes: int, traced: Traced) -> list[str]:
    """Find heads that give class scores but have no part in the network's output, nor in a traced module's.

    Args:
        network: The network that was traced.
        num_classes: K: a head ends in a layer with K outputs.
        traced: Its run, with the tapped modules as names.

    Returns:
        The names of the largest modules of which nothing takes part.
    """
    outputs = [main_output(traced.result), *traced.outputs.values()]
    nodes = _nodes(outputs)
    trained = {id(node.variable) for node in nodes if hasattr(node, "variable")}
    # the graph does not show what is inside reentrant checkpointing
    if not trained or any("CheckpointFunction" in node.name() for node in nodes):
        return []
    modules = dict(network.named_modules())

    def takes_part(module: nn.Module) -> bool:
        return any(id(parameter) in trained for parameter in module.parameters())

    found: dict[str, None] = {}
    for name, module in modules.items():
        classes = getattr(module, "out_channels", getattr(module, "out_features", None))
        trains = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        if classes == num_classes and trains and not takes_part(module):
            while "." in name and not takes_part(modules[name.rpartition(".")[0]]):
                name = name.rpartition(".")[0]
            found[name] = None
    return list(found)


def _nodes(tensors: Iterable[Tensor]) -> set[Node]:
    """All nodes of the graph behind tensors."""
    waiting = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    found: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(following for following, _ in node.next_functions if following is not None)
    return found
