"""The sections of a configuration: every key, its kind, its range and its default."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from selfreg.config.method import MethodConfig
from selfreg.config.section import Section
from selfreg.config.weak import CamConfig, ClassifierConfig, PseudoConfig, RefinementStep


class DataConfig(Section):
    """Which images and labels, and how they are cut for training.

    Sizes are (height, width) in pixels; `scale` is the range of the random zoom; `mean` and `std` are per channel for
    images in [0, 1] and default to those of the network's pretrained weights. `pseudo` is a folder that `selfreg
    pseudo` filled: the training masks come from there, the image-level labels from the tags of the data; `confidence`
    lets each pixel count as much as its pseudo mask was sure of it.
    """

    kind: str = "folder"
    root: Path | None = None
    train_split: str = "train"
    val_split: str = "val"
    options: dict[str, Any] = Field(default_factory=dict)
    pseudo: Path | None = None
    confidence: bool = True
    crop_size: tuple[int, int] = (512, 512)
    scale: tuple[float, float] = (0.5, 2.0)
    short_side: int | None = Field(default=None, ge=16)
    flip: bool = True
    colour: float = Field(default=0.25, ge=0, le=1)
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    @model_validator(mode="after")
    def _ranges(self) -> "DataConfig":
        if min(self.crop_size) < 16:
            raise ValueError(f"crop_size {self.crop_size} is too small; use at least 16 x 16")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std {self.std} must be above 0: images are divided by it")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale {self.scale} must be (smallest, largest) with 0 < smallest <= largest")
        return self


class NetworkConfig(Section):
    """Which network, by name (`smp:DeepLabV3Plus/resnet50`, `ocrnet/hrnet_w48`, ...), and its pretrained weights."""

    name: str = "smp:DeepLabV3Plus/resnet50"
    pretrained: bool | str = False
    options: dict[str, Any] = Field(default_factory=dict)


class TrainingConfig(Section):
    """How the weights are found: optimiser, schedule, seeds, precision."""

    epochs: int = Field(default=50, ge=1)
    batch_size: int = Field(default=8, ge=1)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-4, gt=0)
    head_learning_rate_factor: float = Field(default=10.0, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    poly_power: float = Field(default=0.9, ge=0)
    linear_warm_up_steps: int = Field(default=0, ge=0)
    gradient_clip: float | None = Field(default=None, gt=0)
    class_weights: Literal["none", "balanced"] = "none"
    skip_non_finite: int = Field(default=0, ge=0)
    precision: Literal["auto", "32", "bf16-mixed", "16-mixed"] = "auto"
    validate_every: int = Field(default=1, ge=1)
    workers: int = Field(default=2, ge=0)
    threads: int | None = Field(default=None, ge=1)
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | Literal["auto"] = 1
    num_nodes: int = Field(default=1, ge=1)
    strategy: str = "auto"
    sync_batch_norm: bool = True


class ValidationConfig(Section):
    """How the images of a validation split are predicted, while training and in `selfreg evaluate`.

    `scales` and `flip` average the softmax over zooms and mirror images. `tile` bounds memory: images with a longer
    side are predicted in windows of that side, in pixels.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    tile: int | None = Field(default=None, ge=128)

    @model_validator(mode="after")
    def _ranges(self) -> "ValidationConfig":
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales {self.scales} must be positive numbers")
        return self


class Config(Section):
    """One run, whole; the last four sections are those of `selfreg pseudo`."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    data: DataConfig = Field(default_factory=DataConfig)
    network: NetworkConfig = Field(default_factory=NetworkConfig)
    method: MethodConfig = Field(default_factory=MethodConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    validation: ValidationConfig = Field(default_factory=ValidationConfig)
    classifier: ClassifierConfig = Field(default_factory=ClassifierConfig)
    cam: CamConfig = Field(default_factory=CamConfig)
    refinement: list[RefinementStep] = Field(default=[RefinementStep(name="pamr")])
    pseudo: PseudoConfig = Field(default_factory=PseudoConfig)


def known_keys(section: type[Any] = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted key that a configuration may hold."""
    for name, kind in _keys_of(section).items():
        yield prefix + name
        if isinstance(kind, type) and _keys_of(kind):
            yield from known_keys(kind, f"{prefix}{name}.")


def _keys_of(section: type[Any]) -> dict[str, Any]:
    """The keys of a section and their types; nothing for what is not a section."""
    if issubclass(section, BaseModel):
        return {name: field.annotation for name, field in section.model_fields.items()}
    return {field.name: field.type for field in fields(section)} if is_dataclass(section) else {}
