"""What the rules of `selfreg try` know: the data, the device, the network, and the measured times."""

from dataclasses import dataclass
from typing import Any

BATCH_SIZE = 8


@dataclass(frozen=True)
class Device:
    """What the network is trained on.

    Attributes:
        name: Name in texts.
        workers: Loading processes.
        batch_size: Images per step.
    """

    name: str
    workers: int = 0
    batch_size: int = BATCH_SIZE


@dataclass(frozen=True)
class DataFacts:
    """What the rules use of a data set.

    Attributes:
        kind: Kind of the data set.
        root: Its folder.
        train_split: Name of the training split.
        val_split: Name of the validation split.
        options: Options of the kind.
        num_train: Training images.
        num_val: Validation images.
        num_classes: Number of classes.
        height: Median height in pixels.
        width: Median width in pixels.
        small_share: Share of small objects, below 0.1 % of the image, among all objects above 0.01 %.
        largest_weight: Largest balanced class weight of a class that occurs.
        seed: Seed of the first pair.
    """

    kind: str
    root: str | None
    train_split: str
    val_split: str
    options: dict[str, Any]
    num_train: int
    num_val: int
    num_classes: int
    height: int
    width: int
    small_share: float
    largest_weight: float
    seed: int = 0


@dataclass(frozen=True)
class NetworkChoice:
    """A network that can be built here: its name, `network.pretrained`, and where its weights come from."""

    name: str
    pretrained: bool | str
    weights: str


@dataclass(frozen=True)
class Times:
    """Measured seconds at one input size.

    Attributes:
        short_side: Short side of the images in pixels.
        base_step: A step of `base`, loading included.
        full_step: A step of `full`, loading included.
        predict: Reading and predicting one validation image.
    """

    short_side: int
    base_step: float
    full_step: float
    predict: float


@dataclass(frozen=True)
class Cost:
    """Seconds of the parts of a training.

    Attributes:
        prepare: Reading the data and building the network, once per training.
        score: Reading and scoring one validation image.
        times: What depends on the input size, at one size or more, the smallest one first.
    """

    prepare: float
    score: float
    times: tuple[Times, ...]

    def is_measured(self, short_side: int) -> bool:
        """Whether this input size was measured, not estimated from others."""
        return any(each.short_side == short_side for each in self.times)

    def step(self, short_side: int, *, full: bool) -> float:
        """Estimated seconds of a step."""
        return self._at(short_side, [each.full_step if full else each.base_step for each in self.times])

    def predict(self, short_side: int) -> float:
        """Estimated seconds of predicting one image."""
        return self._at(short_side, [each.predict for each in self.times])

    def training(self, facts: DataFacts, short_side: int, steps: int, *, full: bool) -> float:
        """Estimated seconds of one training with its evaluation."""
        # the validation at the end of the training predicts all images once more
        evaluation = facts.num_val * (2 * self.predict(short_side) + self.score)
        return self.prepare + steps * self.step(short_side, full=full) + evaluation

    def pair(self, facts: DataFacts, short_side: int, steps: int) -> float:
        """Estimated seconds of a training of each arm."""
        return sum(self.training(facts, short_side, steps, full=full) for full in (False, True))

    def ending(self, facts: DataFacts, short_side: int) -> float:
        """Estimated seconds after the last training: the better network is evaluated, two runs are drawn."""
        return self.prepare + facts.num_val * (2 * self.predict(short_side) + 4 * self.score)

    def _at(self, short_side: int, seconds: list[float]) -> float:
        """A constant and a part in proportion to the pixels, through the two nearest sizes; it grows with the size."""
        pixels = [each.short_side**2 for each in self.times]
        if len(pixels) == 1:
            return seconds[0]
        smaller = sum(size < short_side**2 for size in pixels)
        above = min(max(smaller, 1), len(pixels) - 1)
        slope = max(0.0, seconds[above] - seconds[above - 1]) / (pixels[above] - pixels[above - 1])
        return seconds[above] + slope * (short_side**2 - pixels[above])
