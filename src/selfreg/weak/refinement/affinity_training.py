"""Training of the affinity network from seeds: pairs of certain pixels of one class and of two classes."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD
from torch.utils.data import Dataset

from selfreg.messages import one_line
from selfreg.training.optimiser import poly_schedule
from selfreg.weak.refinement.affinity_network import STRIDE, AffinityNetwork
from selfreg.weak.refinement.paths import RADIUS, displacements, ends, path_maxima

UNCERTAIN = 255
"""Value of a pixel without a seed."""

Seeds = Dataset[tuple[Tensor, Tensor]]
"""Normalised images (3, H, W) with their seeds (H, W) uint8: 0 background, other classes, 255 uncertain."""


def affinity_loss(logits: Tensor, seeds: Tensor, radius: float = RADIUS) -> Tensor:
    """Boundary loss over pairs of certain seeds that are nearer than `radius`; a scalar, 0 if there are none.

    With a_ij = 1 - the maximum of B on the straight path from i to j, P+ the pairs of one class (fg, bg: foreground,
    background) and P- the pairs of two classes:

        L = - mean_{P+ fg} log a_ij / 2 - mean_{P+ bg} log a_ij / 2 - mean_{P-} log (1 - a_ij)

    Only the maximum of a path receives a gradient: between two classes there must be a boundary somewhere, but its
    place is not labelled (multiple-instance learning). Means are over all pairs of the batch. The maximum is
    taken of logits, so that no logarithm overflows.

    Args:
        logits: Logits of the boundaries B, (N, h, w).
        seeds: Integers (N, h, w): 0 background, 255 uncertain. Without a background count the classes from 1.
        radius: In pixels of the grid.

    Source: IRN (Ahn et al., CVPR 2019), the equation of the boundary loss.
    """
    return mean_loss(*pair_losses(logits, seeds, radius))


def pair_losses(logits: Tensor, seeds: Tensor, radius: float = RADIUS) -> tuple[list[Tensor], list[int]]:
    """Return the sums of the pair losses of `affinity_loss` and the numbers of pairs: fg, bg, and of two classes."""
    logits = logits.float()
    sums = [logits.sum() * 0 for _ in range(3)]
    counts = [0, 0, 0]
    for displacement in displacements(radius):
        maxima = path_maxima(logits, displacement)
        first, second = ends(seeds, displacement)
        certain = (first != UNCERTAIN) & (second != UNCERTAIN)
        same, different = certain & (first == second), certain & (first != second)
        without, within = functional.softplus(maxima), functional.softplus(-maxima)
        groups = ((same & (first != 0), without), (same & (first == 0), without), (different, within))
        for number, (pairs, losses) in enumerate(groups):
            sums[number] = sums[number] + (losses * pairs).sum()
            counts[number] += int(pairs.sum())
    return sums, counts


def mean_loss(sums: list[Tensor], counts: list[int]) -> Tensor:
    """Return L of `affinity_loss` from the result of `pair_losses`."""
    foreground, background, across = (total / max(count, 1) for total, count in zip(sums, counts, strict=True))
    return foreground / 2 + background / 2 + across


def train_affinity(
    images: Seeds,
    backbone: nn.Module,
    *,
    epochs: int = 3,
    learning_rate: float = 0.1,
    seed: int = 0,
    crop_size: tuple[int, int] = (512, 512),
    batch_size: int = 32,
    on_epoch: Callable[[int, dict[str, Any]], None] | None = None,
    state: dict[str, Any] | None = None,
) -> AffinityNetwork:
    """Train an `AffinityNetwork` on seeds, in random crops and mirror images; the backbone stays unchanged.

    Args:
        images: Pairs of a normalised image (3, H, W) and its seeds (H, W), 255 where uncertain.
        backbone: See `AffinityNetwork`; the network is trained on its device.
        epochs: Passes over the images.
        learning_rate: Initial learning rate; falls polynomially with power 0.9.
        seed: Seed of weights, crops and order.
        crop_size: (height, width); a smaller image is padded with the mean colour, uncertain.
        batch_size: Crops per step.
        on_epoch: Called after each epoch with the number of finished epochs and a state that may be saved: "epochs",
            "branch", "optimizer" and "losses" (the mean of each epoch).
        state: Such a state to continue from; the result equals an uninterrupted training, bit for bit on a CPU.

    Returns:
        The network in eval mode.

    Raises:
        ValueError: For an empty data set, an epoch without nearby certain seeds of different classes, a state with more
            epochs than asked for or of another backbone, and a loss that is not finite.

    Source: IRN's setting (Ahn et al., CVPR 2019): SGD with momentum 0.9, weight decay 1e-4, learning rate 0.1,
    poly 0.9. IRN's random scale is left out.
    """
    length = len(images)  # type: ignore[arg-type]
    if length == 0:
        raise ValueError("there are no images to train the affinity network on")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = AffinityNetwork(backbone)
    optimizer = SGD(network.branch.parameters(), lr=learning_rate, momentum=0.9, weight_decay=1e-4)
    done, losses = _resume(network, optimizer, state, epochs)
    steps = -(-length // batch_size)
    factor = poly_schedule(epochs * steps, 0.9, 0)
    for epoch in range(done, epochs):
        network.train()
        total, across = 0.0, 0
        for step, (crops, seeds) in enumerate(_batches(images, length, seed, epoch, crop_size, batch_size)):
            optimizer.param_groups[0]["lr"] = learning_rate * factor(epoch * steps + step)
            device = next(network.branch.parameters()).device
            logits = network(crops.to(device))
            on_grid = seeds_on_grid(seeds, (logits.shape[1], logits.shape[2])).to(device)
            sums, counts = pair_losses(logits, on_grid)
            loss = mean_loss(sums, counts)
            if not torch.isfinite(loss):
                raise ValueError(f"the affinity network's loss is not finite in epoch {epoch + 1}; lower learning_rate")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach())
            across += counts[2]
        if across == 0:
            raise ValueError(
                f"no certain seeds of different classes are nearer than {RADIUS * STRIDE:g} pixels, so that no "
                "boundary can be learned; refine the scores that seeds are made from, or let fewer pixels be uncertain"
            )
        losses = [*losses, total / steps]
        if on_epoch is not None:
            # copied, since the optimiser writes into its own state with every step
            parts = {"branch": network.branch.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}
            on_epoch(epoch + 1, deepcopy({"epochs": epoch + 1, **parts}))
    return network.eval()


def load_affinity(state: dict[str, Any], backbone: nn.Module) -> AffinityNetwork:
    """Build the network of a saved state on its backbone, in eval mode.

    Raises:
        ValueError: If the state does not fit the backbone.
    """
    network = AffinityNetwork(backbone)
    _load_branch(network, state)
    return network.eval()


def seeds_on_grid(seeds: Tensor, size: tuple[int, int]) -> Tensor:
    """Sample seeds (..., H, W) on a coarser grid of `size` = (h, w), corners on corners."""
    rows = torch.linspace(0, seeds.shape[-2] - 1, size[0]).round().long()
    columns = torch.linspace(0, seeds.shape[-1] - 1, size[1]).round().long()
    return seeds[..., rows[:, None], columns]


def _batches(
    images: Seeds, length: int, seed: int, epoch: int, crop_size: tuple[int, int], batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all images of an epoch in batches of crops; the order depends on the seed and the epoch only."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(length, generator=generator).tolist()
    for start in range(0, length, batch_size):
        pairs = [random_crop(*images[index], crop_size, generator) for index in order[start : start + batch_size]]
        yield torch.stack([crop for crop, _ in pairs]), torch.stack([seeds for _, seeds in pairs])


def random_crop(
    image: Tensor, seeds: Tensor, size: tuple[int, int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Crop an image (3, H, W) and its seeds (H, W) to `size`, mirrored half of the time and padded if necessary.

    Three random numbers are drawn, whatever the image.
    """
    down, right, mirror = torch.rand(3, generator=generator).tolist()
    missing = [max(size[0] - image.shape[1], 0), max(size[1] - image.shape[2], 0)]
    image = functional.pad(image, (0, missing[1], 0, missing[0]))
    seeds = functional.pad(torch.as_tensor(seeds), (0, missing[1], 0, missing[0]), value=UNCERTAIN)
    top = int(down * (image.shape[1] - size[0] + 1))
    left = int(right * (image.shape[2] - size[1] + 1))
    image = image[:, top : top + size[0], left : left + size[1]]
    seeds = seeds[top : top + size[0], left : left + size[1]]
    return (image.flip(-1), seeds.flip(-1)) if mirror < 0.5 else (image, seeds)


def _resume(
    network: AffinityNetwork, optimizer: SGD, state: dict[str, Any] | None, epochs: int
) -> tuple[int, list[float]]:
    """Restore a state; return the number of finished epochs and their losses."""
    if state is None:
        return 0, []
    if state["epochs"] > epochs:
        raise ValueError(f"the affinity network was trained for {state['epochs']} epochs already, more than {epochs}")
    _load_branch(network, state)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epochs"]), list(state["losses"])


def _load_branch(network: AffinityNetwork, state: dict[str, Any]) -> None:
    try:
        network.branch.load_state_dict(state["branch"])
    except (RuntimeError, KeyError) as error:
        raise ValueError(
            f"the affinity network's state does not belong to this backbone ({one_line(error, first=True)})"
        ) from None
