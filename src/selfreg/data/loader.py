"""Data sets and sampler for a `DataLoader`; the sampler makes every draw repeatable."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from selfreg.data.augmentation import Augmentation, draw_angle, rotate_crop, size_before_rotation
from selfreg.data.labels import IGNORE_INDEX
from selfreg.data.pixels import IMAGENET_MEAN, IMAGENET_STD, normalise, resize_bilinear
from selfreg.data.source import HasConfidence, HasTags, Pair, Source
from selfreg.data.transforms import DEFAULT_COLOUR, DEFAULT_SCALE, TrainingTransform


@dataclass(frozen=True, slots=True)
class Draw:
    """A request of a sampler: the index of an image and the seed of its augmentation."""

    index: int
    seed: int


class TrainingSet(Dataset[dict[str, Any]]):
    """Augmented crops of a source, indexed by `Draw`.

    An item is {"image": float32 (C, h, w), "mask": int64 (h, w) with void 255, "index": int}, with "tags" float32 (K,)
    if `with_tags` is set, and "confidence" float32 (h, w) in [0, 1] if the source has it.

    Args:
        source: Image-mask pairs.
        crop_size: (height, width) in pixels.
        scale: See `TrainingTransform`, as for `flip`, `colour`, `mean`, `std` and `short_side`.
        with_tags: Add the image-level tags of the source.
        rotation: Largest angle of the random rotation in degrees, in both directions.
        augmentation: Applied to each image and its mask before everything else.

    Raises:
        ValueError: If an option is out of range, or the source has no tags but `with_tags` is set.
    """

    def __init__(
        self,
        source: Source,
        crop_size: tuple[int, int],
        *,
        scale: tuple[float, float] = DEFAULT_SCALE,
        flip: bool = True,
        colour: float = DEFAULT_COLOUR,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        short_side: int | None = None,
        with_tags: bool = False,
        rotation: float = 0.0,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.source = source
        self.transform = TrainingTransform(crop_size, scale, flip, colour, mean, std, short_side)
        self.with_tags = with_tags
        self.rotation = rotation
        self.augmentation = augmentation
        self._has_confidence = isinstance(source, HasConfidence)  # checked once, since it is slow
        if with_tags:
            if not isinstance(source, HasTags):
                raise ValueError(f"{type(source).__name__} has no image-level tags: choose a source that has them")
            source.tags(0)  # a source that could have tags says here that it has none

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        if not isinstance(draw, Draw):
            raise ValueError(
                f"TrainingSet got index {draw!r}, but needs a Draw (index and seed): use "
                "DataLoader(..., sampler=SeededSampler(len(source), seed, batch_size=...)) instead of shuffle=True"
            )
        index = draw.index
        source: Any = self.source
        confidence = source.confidence(index) if self._has_confidence else None
        image, mask, sure = self._crop(source.read(index), draw.seed, confidence)
        item: dict[str, Any] = {"image": image, "mask": mask, "index": index}
        if self.with_tags:
            item["tags"] = torch.from_numpy(source.tags(index))
        if sure is not None:
            item["confidence"] = sure
        return item

    def _crop(
        self, pair: Pair, seed: int, confidence: NDArray[np.float32] | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        if self.augmentation is not None:
            pair = self.augmentation(pair, seed, self.source.labels.num_classes)
        if not self.rotation:
            return self.transform(pair, seed, confidence)
        angle, size = draw_angle(self.rotation, seed), self.transform.crop_size
        larger = replace(self.transform, crop_size=size_before_rotation(size, angle))
        return rotate_crop(*larger(pair, seed, confidence), angle, size)


class EvaluationSet(Dataset[dict[str, Any]]):
    """Whole images of a source, normalised, in order.

    An item is {"image": float32 (C, h, w), "mask": int64 (H, W) with void 255, "index": int}. The mask always has the
    source's size; so has the image, unless `short_side` is given.

    Args:
        source: Image-mask pairs.
        mean: One number per band, for pixel values in [0, 1].
        std: Likewise.
        short_side: Resize the image (never the mask) so that its short side has this length in pixels. The caller
            resizes the logits to the mask.

    Raises:
        ValueError: If `short_side` is below 1.
    """

    def __init__(
        self,
        source: Source,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        *,
        short_side: int | None = None,
    ) -> None:
        if short_side is not None and short_side < 1:
            raise ValueError(f"short_side {short_side}: give a length in pixels, or leave it out")
        self.source = source
        self.mean = mean
        self.std = std
        self.short_side = short_side

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, mask = self.source.read(index)
        if self.short_side is not None:
            image = resize_bilinear(image, *short_side_size(mask.shape[0], mask.shape[1], self.short_side))
        return {
            "image": normalise(image, self.mean, self.std),
            "mask": torch.from_numpy(mask.astype(np.int64)),
            "index": index,
        }


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """(height, width) of an image after its short side is resized to `short_side` pixels; the aspect ratio is kept."""
    scale = short_side / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def collate_padded(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Batch items of an `EvaluationSet` whose sizes may differ; for `DataLoader(collate_fn=...)`.

    Smaller images are padded at the right and bottom. A network sees the padding, so results that must not depend on
    the batch need a batch size of 1.

    Returns:
        "image" (N, C, h, w), padded with the mean colour; "mask" (N, H, W), padded with 255; "image_size" and
        "mask_size", int64 (N, 2), the height and width of each item; "index".
    """
    return {
        "image": _padded([item["image"] for item in items], 0.0),
        "mask": _padded([item["mask"] for item in items], IGNORE_INDEX),
        "index": torch.tensor([item["index"] for item in items]),
        "image_size": torch.tensor([item["image"].shape[-2:] for item in items]),
        "mask_size": torch.tensor([item["mask"].shape for item in items]),
    }


def _padded(tensors: Sequence[Tensor], padding: float) -> Tensor:
    height = max(tensor.shape[-2] for tensor in tensors)
    width = max(tensor.shape[-1] for tensor in tensors)
    batch = tensors[0].new_full((len(tensors), *tensors[0].shape[:-2], height, width), padding)
    for place, tensor in zip(batch, tensors, strict=True):
        place[..., : tensor.shape[-2], : tensor.shape[-1]] = tensor
    return batch


class SeededSampler(Sampler[Draw]):
    """Shuffled draws whose order and seeds depend only on (seed, epoch, position in the epoch).

    The numbers of workers and of processes do not change what is drawn: processes share the same global batches. Use
    `DataLoader(TrainingSet(...), batch_size=batch_size // world_size, sampler=SeededSampler(...))`.

    Args:
        length: Number of items in the set.
        seed: Seed of the training.
        batch_size: Images per step, over all processes.
        rank: Index of this process, 0..world_size-1.
        world_size: Number of processes.
        drop_last: Drop the items that do not fill a last batch; otherwise fill it with items from the start of the
            epoch.

    Raises:
        ValueError: If there is nothing to draw, the batch cannot be divided equally, or the rank is out of range.
    """

    def __init__(
        self,
        length: int,
        seed: int,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = True,
    ) -> None:
        if batch_size < 1 or batch_size % world_size:
            raise ValueError(f"batch_size {batch_size} over {world_size} processes: choose a multiple of their number")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size} processes: give 0..{world_size - 1}")
        if length < 1 or (drop_last and length < batch_size):
            raise ValueError(f"{length} images do not fill one batch of {batch_size}: choose a smaller batch_size")
        self.length = length
        self.seed = seed
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.num_batches = length // batch_size if drop_last else -(-length // batch_size)
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; a start that was set for another epoch is discarded."""
        if epoch != self.epoch:
            self.start = 0
        self.epoch = epoch

    def set_start(self, step: int) -> None:
        """Skip the first `step` batches of the current epoch only, to resume within it."""
        if not 0 <= step <= self.num_batches:
            raise ValueError(f"start at step {step}: an epoch has {self.num_batches} steps")
        self.start = step

    def __len__(self) -> int:
        """Number of draws of this process that are left in the current epoch."""
        return (self.num_batches - self.start) * (self.batch_size // self.world_size)

    def __iter__(self) -> Iterator[Draw]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = np.resize(generator.permutation(self.length), self.num_batches * self.batch_size)
        seeds = generator.integers(2**63, size=len(order))
        share = self.batch_size // self.world_size
        for step in range(self.start, self.num_batches):
            first = step * self.batch_size + self.rank * share
            for position in range(first, first + share):
                yield Draw(int(order[position]), int(seeds[position]))
