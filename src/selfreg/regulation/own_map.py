"""The network's class map before its final upsampling, where self-regulation compares the own output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfreg.regulation.outputs import main_output
from selfreg.regulation.probe import run_at_some_size


class OwnMap(NamedTuple):
    """The module that gives the class map before the final upsampling.

    Attributes:
        name: Name of the module.
        run: Number of the run that gives the map, from 0.
        runs: How often the module runs in one forward pass.
    """

    name: str
    run: int
    runs: int


def find_own_map(network: nn.Module, num_classes: int, image_size: tuple[int, int]) -> OwnMap | None:
    """Find the module that gives the network's class map before its final upsampling.

    The last output (N, K, h, w) of any module that, upsampled bilinearly, is the network's output: found by one run in
    eval mode and checked by value, with weights that are changed for this run, so that a layer that starts as zero or
    as the identity is seen. Self-regulation compares the own output there, which saves tensors at label resolution.

    Args:
        network: Any segmentation network; it is left as it was.
        num_classes: K.
        image_size: (height, width) of the noise image, in pixels.

    Returns:
        The module and its run, or None where there is no such module.

    Raises:
        ValueError: If the network gives another number of classes.
    """
    maps: list[tuple[str, int, Tensor]] = []
    runs: Counter[str] = Counter()

    def record(name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[1] == num_classes:
            maps.append((name, runs[name], output))
        runs[name] += 1

    def forget() -> None:
        maps.clear()
        runs.clear()

    names = [name for name, _ in network.named_modules() if name]
    with _other_weights(network):
        _, result = run_at_some_size(network, names, image_size, record, forget)
    full = main_output(result)
    if full.shape[1] != num_classes:
        raise ValueError(f"{type(network).__name__} gives {full.shape[1]} classes, not num_classes = {num_classes}")
    for name, run, class_map in reversed(maps):
        if class_map.shape[2] < full.shape[2] and class_map.shape[3] < full.shape[3] and _upsamples_to(class_map, full):
            return OwnMap(name, run, runs[name])
    return None


def is_sole_source(class_map: Tensor, output: Tensor) -> bool:
    """Whether the output was computed from the class map alone, by the autograd graph; True where there is none."""
    if torch.compiler.is_compiling():  # which cannot read the graph
        return True
    wanted, node = class_map.grad_fn, output.grad_fn
    if wanted is None:
        return True
    while node is not None and node is not wanted:
        sources = [source for source, _ in node.next_functions if source is not None]
        node = sources[0] if len(sources) == 1 else None
    return node is wanted


@contextmanager
def _other_weights(network: nn.Module) -> Iterator[None]:
    """Add a tenth of their size to all weights, with random signs, and take it back."""
    before = [(weight, weight.data) for weight in network.parameters() if weight.is_floating_point()]
    try:
        for seed, (weight, data) in enumerate(before):
            generator = torch.Generator(data.device).manual_seed(seed)
            size = data.float().pow(2).mean().sqrt()
            step = 0.1 * torch.where(size > 0, size, 1.0)
            signs = torch.randint(0, 2, data.shape, generator=generator, device=data.device) * 2 - 1
            weight.data = data + (step * signs).to(data)
        yield
    finally:
        for weight, data in before:
            weight.data = data


def _upsamples_to(class_map: Tensor, full: Tensor) -> bool:
    tolerance = max(1e-3, 2 * torch.finfo(full.dtype).eps)
    class_map, full = class_map.float(), full.float()
    for align_corners in (False, True):
        size = (full.shape[2], full.shape[3])
        upsampled = F.interpolate(class_map, size=size, mode="bilinear", align_corners=align_corners)
        if torch.allclose(upsampled, full, rtol=tolerance, atol=0.1 * tolerance * float(full.std())):
            return True
    return False
