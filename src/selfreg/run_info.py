"""What a run records of its data and its input, beside the weights."""

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12


class Summary(TypedDict, total=False):
    """Results of a training, in `summary.json`; runs of earlier versions lack some of them."""

    epochs: int
    steps: int
    steps_per_epoch: int
    seconds: Annotated[float, Field(ge=0)]
    resumed: bool
    best_miou: float | None
    best_epoch: int
    last_miou: float | None
    skipped_batches: int
    parameters: int
    device: str
    processor: str
    threads: int


@dataclass(frozen=True)
class RunInfo:
    """What is needed to use a trained network.

    Args:
        class_names: Names of the K classes, in the order of the network's output channels.
        palette: 256 RGB colours, 0 to 255, by class index.
        mean: Mean per input channel, for images in [0, 1].
        std: Standard deviation per input channel.
        versions: Versions of the packages that trained the network, by package name.

    Raises:
        ValueError: If the names, colours or statistics are not valid.
    """

    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    versions: dict[str, str]

    def __post_init__(self) -> None:
        from selfreg.data.labels import Labels  # loads torch

        Labels(self.class_names)  # raises for names that are not valid
        if len(self.palette) != 256 or not all(0 <= value <= 255 for colour in self.palette for value in colour):
            raise ValueError("palette: 256 colours [red, green, blue] of 0..255 are needed")
        if not all(map(math.isfinite, (*self.mean, *self.std))) or not self.std or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std} must be finite numbers, std above 0")
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean {self.mean} and std {self.std} must have one number for each band")

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.class_names)

    def palette_array(self) -> NDArray[np.uint8]:
        """The palette as (256, 3) uint8."""
        return np.asarray(self.palette, dtype=np.uint8)
