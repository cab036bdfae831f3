"""Train a Mask2Former and an EoMT of toy size on generated scenes, with their own loss alone and with exits.

    python benchmarks/mask_networks.py                  # both networks, three seeds: a few minutes on one core
    python benchmarks/mask_networks.py --networks eomt --steps 400

Both arms of a seed begin with the same weights, see the same batches, and take the loss at the same random points of
the masks. `plain` is the loss of transformers alone; `full` adds the exits with all regulations. mIoU is that of the
last weights on the validation scenes; the mean difference has its standard error. The networks have tens of thousands
of parameters and train for a minute, so what counts is the difference.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import math
import statistics
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from selfreg.data import Scenes
from selfreg.evaluation import ConfusionMatrix
from selfreg.regulation import MultiExit, SelfRegulation, main_output, mask_targets, network_loss

transformers: Any = importlib.import_module("transformers")

SIDE = 64
BATCH = 4
NUM_CLASSES = 9


def mask2former() -> nn.Module:
    """A Mask2Former on a Swin of width 8."""
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = transformers.SwinConfig(
        image_size=SIDE, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_features=stages
    )
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone,
        num_labels=NUM_CLASSES,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=32,
        num_queries=16,
        train_num_points=256,
    )
    network: nn.Module = transformers.Mask2FormerForUniversalSegmentation(config)
    return network


def eomt() -> nn.Module:
    """An EoMT of width 32."""
    config = transformers.EomtConfig(
        num_labels=NUM_CLASSES,
        image_size=SIDE,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=5,
        num_attention_heads=2,
        num_register_tokens=0,
        num_blocks=1,
        num_upscale_blocks=1,
        num_queries=16,
        train_num_points=256,
    )
    network: nn.Module = transformers.EomtForUniversalSegmentation(config)
    return network


NETWORKS = {"mask2former": mask2former, "eomt": eomt}


def read(scenes: Scenes, indices: list[int]) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) float32 in [-1, 1] and masks (N, H, W) int64."""
    pairs = [scenes.read(index) for index in indices]
    images = torch.stack([torch.from_numpy(image).permute(2, 0, 1) / 127.5 - 1 for image, _ in pairs])
    return images, torch.stack([torch.from_numpy(mask).long() for _, mask in pairs])


def batches(images: Tensor, masks: Tensor, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random batches, half of the images mirrored; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(0, len(images), (BATCH,), generator=generator)
        mirror = torch.rand(BATCH, generator=generator) < 0.5
        flipped = [(image.flip(-1), mask.flip(-1)) for image, mask in zip(images[chosen], masks[chosen], strict=True)]
        kept = zip(images[chosen], masks[chosen], strict=True)
        pairs = [after if turn else before for before, after, turn in zip(kept, flipped, mirror, strict=True)]
        yield torch.stack([image for image, _ in pairs]), torch.stack([mask for _, mask in pairs])


def train(network: nn.Module, data: tuple[Tensor, Tensor], steps: int, seed: int, *, exits: bool) -> None:
    """Train in place with AdamW, plainly or with exits and all regulations."""
    torch.manual_seed(seed)
    model: nn.Module = MultiExit(network, NUM_CLASSES, image_size=(SIDE, SIDE)) if exits else network
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    objective = SelfRegulation()
    for step, (images, masks) in enumerate(batches(*data, steps, seed)):
        torch.manual_seed(steps * seed + step)  # both arms sample the same points of the masks
        result: Any = model(images, **mask_targets(network, masks))
        loss = objective(result, masks, progress=step / steps).total if exits else network_loss(result)
        assert loss is not None
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    if isinstance(model, MultiExit):
        model.release()


@torch.no_grad()
def miou(network: nn.Module, images: Tensor, masks: Tensor) -> float:
    """Mean IoU of a network over all classes that occur, in percent."""
    confusion = ConfusionMatrix(NUM_CLASSES)
    for image, mask in zip(torch.split(images, 8), torch.split(masks, 8), strict=True):
        logits = main_output(network.eval()(image))
        logits = nn.functional.interpolate(logits, size=mask.shape[1:], mode="bilinear")
        confusion.update(logits.argmax(1), mask)
    return 100 * float(confusion.compute()["miou"])


def main() -> None:
    """Parse the command line and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    training = read(Scenes("train", 64, size=(SIDE, SIDE)), list(range(64)))
    validation = read(Scenes("val", 48, size=(SIDE, SIDE)), list(range(48)))
    print("| network | seed | plain | full | difference |\n| --- | --- | --- | --- | --- |")
    for name in arguments.networks:
        differences = []
        for seed in range(arguments.seeds):
            torch.manual_seed(seed)
            initial = NETWORKS[name]()
            found = []
            for exits in (False, True):
                network = copy.deepcopy(initial)
                train(network, training, arguments.steps, seed, exits=exits)
                found.append(miou(network, *validation))
            differences.append(found[1] - found[0])
            print(f"| {name} | {seed} | {found[0]:.1f} | {found[1]:.1f} | {differences[-1]:+.1f} |", flush=True)
        error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else math.nan
        print(f"| {name} | mean | | | {statistics.mean(differences):+.1f} ± {error:.1f} |", flush=True)


if __name__ == "__main__":
    main()
