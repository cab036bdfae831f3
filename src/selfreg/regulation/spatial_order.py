"""Whether tokens lie in the order of rows: a change of one half of the image must change that half of the tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from selfreg.regulation.probe import flatten, noise, run_at_some_size
from selfreg.regulation.tap import Tap

VISIBLE = 1.2
"""Ratio of changes, by the mean absolute difference, from which on one half of the tokens has changed more."""


def out_of_order(network: nn.Module, taps: Sequence[Tap], image_size: tuple[int, int]) -> list[str]:
    """Find taps of tokens that do not lie row by row, as those of Hiera's blocks, which lie by mask units.

    Read as rows, such tokens would be compared with the labels of other places. The network is run once more, on one
    noise image and on two in which the upper and the left half are other noise. Taps of maps need no check.

    Args:
        network: Any segmentation network; it is left as it was.
        taps: Described taps of it.
        image_size: (height, width) of the noise images, in pixels, as for `observe`.

    Returns:
        Names of the taps whose tokens lie in another order.
    """
    of_tokens = {tap.name: tap for tap in taps if tap.layout == "NLC"}
    if not of_tokens:
        return []
    found: dict[str, Tensor] = {}

    def record(name: str, output: Any) -> None:
        for path, tensor in flatten(name, output):
            if path in of_tokens:
                found.setdefault(path, tensor)

    modules = list(dict.fromkeys(name.split("@")[0] for name in of_tokens))
    run_at_some_size(network, modules, image_size, record, found.clear, images=_changed_by_halves)
    return [name for name, tokens in found.items() if not _follow(_as_grid(tokens, of_tokens[name]))]


def _changed_by_halves(network: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    """Noise (3, C, H, W): an image, and the same with another upper and with another left half."""
    images, others = noise(network, (3, *shape), seed=0), noise(network, (3, *shape), seed=1)
    images = images[:1].repeat(3, 1, 1, 1)
    images[1, :, : shape[1] // 2] = others[1, :, : shape[1] // 2]
    images[2, :, :, : shape[2] // 2] = others[2, :, :, : shape[2] // 2]
    return images


def _as_grid(tokens: Tensor, tap: Tap) -> Tensor:
    """Tokens (N, L, C) as (N, h, w, C)."""
    return tokens[:, tap.prefix_tokens :].reshape(len(tokens), *(tap.grid or (1, -1)), tokens.shape[-1])


def _follow(grid: Tensor) -> bool:
    """Whether the changes of (3, h, w, C) lie in the upper and in the left half."""
    change = (grid[1:] - grid[:1]).double().abs().mean(dim=-1)
    return _lies_in_first_rows(change[0]) and _lies_in_first_rows(change[1].T)


def _lies_in_first_rows(change: Tensor) -> bool:
    """Whether the tokens that changed most are those of the first half of the rows.

    The contrast of the halves is compared with that of the half that changed most and the one that changed least, on a
    logarithmic scale. Where all tokens change alike (uniform attention), nothing can be told, and nothing is refused.
    """
    rows = len(change) // 2
    if rows == 0:
        return True
    ranked = change.flatten().sort(descending=True).values
    cells = len(ranked) // 2
    contrast = _ratio(change[:rows], change[-rows:])
    highest = _ratio(ranked[:cells], ranked[-cells:])
    return highest < VISIBLE or contrast >= math.sqrt(highest)


def _ratio(first: Tensor, second: Tensor) -> float:
    return float(first.mean() / second.mean().clamp_min(torch.finfo(second.dtype).tiny))
