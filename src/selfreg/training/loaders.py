"""The two loaders of a run: augmented crops to train on, whole images to validate on."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset, default_collate

from selfreg.config import Config
from selfreg.data import IGNORE_INDEX, EvaluationSet, SeededSampler, Source, TrainingSet
from selfreg.data.augmentation import Augmentation
from selfreg.opening import device_of
from selfreg.run_info import RunInfo


class AccumulatingLoader(DataLoader[dict[str, Any]]):
    """Loads the joint batch of a step at once and gives it in `accumulate` parts of equal size.

    Each part carries `pixels`, its valid pixels of each class, (K,) float32, weighted by their confidence where there
    is one, and `mean_pixels`, the mean of that over the parts of the joint batch. A loss that is a mean over valid
    pixels, multiplied by the quotient of the two, has the gradient of the joint batch.
    """

    def __init__(self, crops: TrainingSet, *, accumulate: int, **options: Any) -> None:
        super().__init__(crops, **options)
        self.accumulate = accumulate
        self.num_classes = crops.source.labels.num_classes

    def __len__(self) -> int:
        """Parts of an epoch."""
        return super().__len__() * self.accumulate

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        for joint in super().__iter__():
            if self.accumulate == 1:
                yield joint
                continue
            chunks = {key: value.chunk(self.accumulate) for key, value in joint.items()}
            parts = [{key: chunks[key][index] for key in chunks} for index in range(self.accumulate)]
            pixels = torch.stack([self._pixels(part) for part in parts])
            for part, own in zip(parts, pixels, strict=True):
                yield {**part, "pixels": own, "mean_pixels": pixels.mean(0)}

    def _pixels(self, part: dict[str, Any]) -> Tensor:
        valid = part["mask"] != IGNORE_INDEX
        confidence = part["confidence"][valid] if "confidence" in part else None
        return torch.bincount(part["mask"][valid], confidence, minlength=self.num_classes).float()


def training_loader(
    config: Config, source: Source, info: RunInfo, *, rank: int = 0, world_size: int = 1
) -> AccumulatingLoader:
    """Augmented crops whose order and augmentation depend on the seed and the epoch alone, not on the workers.

    `training.batch_size` counts the images of one batch over all processes; `training.accumulate` such batches are
    one step, and hold the crops that a batch of that many images would hold. Pseudo masks bring the image-level tags,
    and their confidence where it is to weight pixels.

    Raises:
        ValueError: The split does not fill one step.
    """
    data, training = config.data, config.training
    crops = TrainingSet(
        source,
        data.crop_size,
        scale=data.scale,
        flip=data.flip,
        rotation=data.rotation,
        colour=data.colour,
        mean=info.mean,
        std=info.std,
        short_side=data.short_side,
        with_tags=data.pseudo is not None,
        augmentation=None if data.augmentation is None else Augmentation(data.augmentation),
    )
    check_batch_size(training.batch_size, world_size)
    images = training.batch_size * training.accumulate
    if len(source) < images:
        times = f" times training.accumulate {training.accumulate}" if training.accumulate > 1 else ""
        raise ValueError(
            f"{data.train_split}: {len(source)} images do not fill one step of {images} (training.batch_size "
            f"{training.batch_size}{times}); choose a smaller batch{' or fewer of them' if times else ''}"
        )
    sampler = SeededSampler(len(source), config.seed, batch_size=images, rank=rank, world_size=world_size)
    return AccumulatingLoader(
        crops,
        accumulate=training.accumulate,
        batch_size=images // world_size,
        sampler=sampler,
        **_feeding(config),
    )


def validation_loader(
    config: Config, source: Source, info: RunInfo, *, rank: int = 0, world_size: int = 1
) -> DataLoader[dict[str, Any]]:
    """Whole images, in lists of batches of one size each, since padding would change the numbers.

    On a CPU an image is a batch. On a GPU, which a single small image leaves idle, a batch holds at most the images and
    the pixels of a batch of training, so that it fits into memory where training does.

    Each image falls to one process; none is repeated. Raises ValueError where there are fewer images than processes.
    """
    if len(source) < world_size:
        raise ValueError(f"{len(source)} images to validate on do not give each of {world_size} processes one")
    # in their own size: `data.short_side` is applied where they are predicted
    images = EvaluationSet(source, info.mean, info.std)
    share = Subset(images, range(rank, len(images), world_size))
    together = max(1, config.training.batch_size // world_size) if device_of(config).type == "cuda" else 1
    collate = partial(batches_of_one_size, most_pixels=together * math.prod(config.data.crop_size))
    return DataLoader(share, batch_size=together, collate_fn=collate, **_feeding(config))


def batches_of_one_size(samples: Sequence[dict[str, Any]], most_pixels: int) -> list[dict[str, Any]]:
    """Collate consecutive samples of one size, in batches of one image or of at most `most_pixels` pixels."""
    batches: list[list[dict[str, Any]]] = []
    for sample in samples:
        size = sample["image"].shape[-2:]
        last = batches[-1] if batches else []
        if last and last[0]["image"].shape[-2:] == size and (len(last) + 1) * size.numel() <= most_pixels:
            last.append(sample)
        else:
            batches.append([sample])
    return [default_collate(batch) for batch in batches]


def _feeding(config: Config) -> dict[str, Any]:
    """Workers that outlive an epoch, and pinned memory, from which Lightning copies to a GPU without waiting."""
    workers = config.training.workers
    return {"num_workers": workers, "persistent_workers": workers > 0, "pin_memory": device_of(config).type == "cuda"}


def check_batch_size(batch_size: int, world_size: int) -> None:
    """Raise ValueError where a batch cannot be shared out among the processes."""
    if batch_size % world_size:
        raise ValueError(
            f"training.batch_size {batch_size} over {world_size} processes: choose a multiple of their number"
        )
