"""Augmentations in addition to `TrainingTransform`: rotation, and custom augmentations."""

import importlib
import random
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from math import ceil, cos, radians, sin
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfreg.data.labels import IGNORE_INDEX
from selfreg.data.source import Pair
from selfreg.messages import one_line


def draw_angle(rotation: float, seed: int) -> float:
    """Draw an angle in degrees, uniform in [-rotation, rotation]; it depends only on the seed."""
    return float(np.random.default_rng((seed, 1)).uniform(-rotation, rotation))


def size_before_rotation(size: tuple[int, int], angle: float) -> tuple[int, int]:
    """Size (height, width) of the crop that still covers `size` after it is rotated by `angle` degrees."""
    across, along = abs(sin(radians(angle))), abs(cos(radians(angle)))
    height, width = size
    needed = ceil(height * along + width * across), ceil(height * across + width * along)
    return max(height, needed[0]), max(width, needed[1])


def rotate_crop(
    image: Tensor, mask: Tensor, confidence: Tensor | None, angle: float, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Rotate a crop about its centre and cut the middle of the given size.

    Args:
        image: Normalised, float32 (C, h, w); interpolated bilinearly, 0 (the mean colour) outside.
        mask: int64 (h, w); nearest neighbour, 255 outside.
        confidence: float32 (h, w) or None; nearest neighbour, 0 outside.
        angle: Degrees, counter-clockwise.
        size: (height, width) of the result, at most that of the crop.
    """
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as transforms

    def turned(maps: Tensor, interpolation: InterpolationMode, fill: float) -> Tensor:
        rotated: Tensor = transforms.rotate(maps, angle, interpolation=interpolation, fill=fill)
        cut: Tensor = transforms.center_crop(rotated, list(size))
        return cut.contiguous()

    nearest = InterpolationMode.NEAREST
    return (
        turned(image, InterpolationMode.BILINEAR, 0.0),
        turned(mask[None], nearest, IGNORE_INDEX)[0],
        None if confidence is None else turned(confidence[None], nearest, 0.0)[0],
    )


@dataclass(frozen=True)
class Augmentation:
    """A custom augmentation, applied to image and mask together before the crop.

    `factory()` returns a callable, which is called as `augment(image=image, mask=mask)` with an image (H, W, C) and a
    mask (H, W) uint8 (255: void). It returns a mapping with `image` and `mask` of equal size, like a `Compose` of
    albumentations. The random generators of Python, numpy and torch are seeded before each call, so a resumed run draws
    the same values as an uninterrupted one.

    Attributes:
        spec: `package.module:factory`.

    Raises:
        ValueError: If the code cannot be imported, raises an error, or does not return a valid image and mask.
    """

    spec: str

    def __post_init__(self) -> None:
        _augment(self.spec)

    def __call__(self, pair: Pair, seed: int, num_classes: int) -> Pair:
        """Augment one pair."""
        augment = _augment(self.spec)
        with torch.random.fork_rng(devices=[]):
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002 - what most code of this kind draws from
            torch.manual_seed(seed)
            with suppress(AttributeError):
                augment.set_random_seed(seed % 2**32)  # albumentations has its own generator
            try:
                result = augment(image=pair.image, mask=pair.mask)
            except Exception as error:
                raise ValueError(f"data.augmentation {self.spec}: the augmentation failed: {_where(error)}") from error
        return self._checked(result, pair, num_classes)

    def _checked(self, result: Any, pair: Pair, num_classes: int) -> Pair:
        try:
            image, mask = np.asarray(result["image"]), np.asarray(result["mask"])
        except (TypeError, KeyError, IndexError):
            raise ValueError(f"data.augmentation {self.spec}: must return a mapping with `image` and `mask`") from None
        if image.dtype != pair.image.dtype or image.ndim != 3 or image.shape[2] != pair.image.shape[2]:
            raise ValueError(
                f"data.augmentation {self.spec}: the image must stay {pair.image.dtype} (H, W, {pair.image.shape[2]}), "
                f"it became {image.dtype} {image.shape}; leave normalisation to selfreg"
            )
        if mask.dtype != np.uint8 or mask.shape != image.shape[:2]:
            raise ValueError(
                f"data.augmentation {self.spec}: the mask must stay uint8 of the size of the image, "
                f"it became {mask.dtype} {mask.shape} for an image of {image.shape[:2]}"
            )
        strange = mask[(mask >= num_classes) & (mask != IGNORE_INDEX)]
        if strange.size:
            raise ValueError(
                f"data.augmentation {self.spec}: made label {strange[0]} of classes 0..{num_classes - 1}; interpolate "
                f"masks by nearest neighbour and fill them with {IGNORE_INDEX}"
            )
        return Pair(np.ascontiguousarray(image), np.ascontiguousarray(mask))


@cache
def _augment(spec: str) -> Any:
    module_name, _, factory_name = spec.partition(":")
    try:
        factory: Callable[[], Any] = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"data.augmentation {spec}: {error}; write package.module:factory") from None
    except Exception as error:
        raise ValueError(f"data.augmentation {spec}: importing {module_name} failed: {_where(error)}") from error
    try:
        augment = factory()
    except Exception as error:
        raise ValueError(f"data.augmentation {spec}: {factory_name}() failed: {_where(error)}") from error
    if not callable(augment):
        raise ValueError(f"data.augmentation {spec}: factory() gave a {type(augment).__name__}, which cannot be called")
    return augment


def _where(error: Exception) -> str:
    """Kind and message of an error in somebody's own code, and the line that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {one_line(error, first=True)} ({Path(frame.filename).name}, line {frame.lineno})"
