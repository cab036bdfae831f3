"""The two loaders of a run: augmented crops to train on, whole images to validate on."""

from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from selfreg.config import Config
from selfreg.data import EvaluationSet, SeededSampler, Source, TrainingSet
from selfreg.run import RunInfo


def training_loader(
    config: Config, source: Source, info: RunInfo, *, rank: int = 0, world_size: int = 1
) -> DataLoader[dict[str, Any]]:
    """Augmented crops whose order and augmentation depend on the seed and the epoch alone, not on the workers.

    `training.batch_size` counts the images of one step over all processes. Raises ValueError where the split does not
    fill one batch. Pseudo masks bring the image-level tags, and their confidence where it is to weight pixels.
    """
    data, training = config.data, config.training
    crops = TrainingSet(
        source,
        data.crop_size,
        scale=data.scale,
        flip=data.flip,
        colour=data.colour,
        mean=info.mean,
        std=info.std,
        short_side=data.short_side,
        with_tags=data.pseudo is not None,
    )
    sampler = SeededSampler(len(source), config.seed, batch_size=training.batch_size, rank=rank, world_size=world_size)
    return DataLoader(
        crops,
        batch_size=training.batch_size // world_size,
        sampler=sampler,
        num_workers=training.workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=training.workers > 0,
    )


def validation_loader(
    config: Config, source: Source, info: RunInfo, *, rank: int = 0, world_size: int = 1
) -> DataLoader[dict[str, Any]]:
    """Whole images one by one, since their sizes may differ and padding would change the numbers.

    Each image falls to one process; none is repeated. Raises ValueError where there are fewer images than processes.
    """
    if len(source) < world_size:
        raise ValueError(f"{len(source)} images to validate on do not give each of {world_size} processes one")
    # in their own size: `data.short_side` is applied where they are predicted
    images = EvaluationSet(source, info.mean, info.std)
    share = Subset(images, range(rank, len(images), world_size))
    return DataLoader(share, batch_size=1, num_workers=config.training.workers)
