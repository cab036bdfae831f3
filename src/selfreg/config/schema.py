"""The sections of a configuration: every key with its type, range and default."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, model_validator

from selfreg.config.method import MethodConfig
from selfreg.config.section import LONGEST_SIDE, Section, check_crop_size
from selfreg.config.training import REGION_LOSSES, TrainingConfig
from selfreg.config.weak import LARGEST_SCALE, CamConfig, ClassifierConfig, PseudoConfig, RefinementStep


class DataConfig(Section):
    """Images and labels, and how crops are made for training.

    Sizes are (height, width) in pixels; `scale` is the range of the random scale. `bands` is the number of bands of the
    images, `range` the values on disk that become 0 and 1 (needed for more than 8 bits), `shown_bands` the bands that
    pages show as red, green and blue. `mean` and `std` have one number per band, for values in [0, 1]; for three bands
    they default to those of the network's pretrained weights. `pseudo` is an output folder of `selfreg pseudo`:
    training masks come from there, image-level labels from the tags of the data; with `confidence`, each pixel is
    weighted by the confidence of its pseudo mask. Crops are rotated by up to `rotation` degrees in both directions.
    `augmentation` is `package.module:factory`, custom code (see `selfreg.data.augmentation`).
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
    short_side: int | None = Field(default=None, ge=16, le=LONGEST_SIDE)
    flip: bool = True
    rotation: float = Field(default=0.0, ge=0, le=180)
    colour: float = Field(default=0.25, ge=0, le=1)
    augmentation: str | None = Field(default=None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    bands: int = Field(default=3, ge=1)
    range: tuple[float, float] | None = None
    shown_bands: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _ranges(self) -> "DataConfig":
        check_crop_size(self.crop_size)
        for name, values in {"mean": self.mean, "std": self.std}.items():
            if values is None and self.bands != 3:
                raise ValueError(
                    f"{name} is not set: with bands: {self.bands} give mean and std, {self.bands} numbers each, for "
                    "values in 0..1"
                )
            if values is not None and len(values) != self.bands:
                raise ValueError(f"data.{name} has {len(values)} numbers: give {self.bands}, one per band (data.bands)")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range {self.range} must be (lowest, highest) with lowest < highest")
        if self.shown_bands is not None and not all(0 <= band < self.bands for band in self.shown_bands):
            raise ValueError(f"shown_bands {self.shown_bands} must be three indices of 0..{self.bands - 1}")
        if (self.bands != 3 or self.range is not None or self.shown_bands is not None) and self.kind != "folder":
            raise ValueError(
                f"bands, range and shown_bands are for data.kind: folder; {self.kind} has 8-bit RGB images"
            )
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std {self.std} must be above 0: images are divided by it")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale {self.scale} must be (smallest, largest) with 0 < smallest <= largest")
        return self


class NetworkConfig(Section):
    """The network, by name (`smp:DeepLabV3Plus/resnet50`, `ocrnet/hrnet_w48`, ...), and its initial weights.

    The name alone can replace the whole section: `network: smp:Unet/resnet18`. `from_run` is the folder of a run of the
    same network, whose last weights are used instead of `pretrained`. The classes may differ; classes with the same
    name keep their weights.
    """

    name: str = "smp:DeepLabV3Plus/resnet50"
    pretrained: bool | str = False
    from_run: Path | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, content: Any) -> Any:
        return {"name": content} if isinstance(content, str) else content


class ValidationConfig(Section):
    """How images of a validation split are predicted, during training and in `selfreg evaluate`.

    The softmax is averaged over `scales` and, with `flip`, over mirror images. Images with a side longer than `tile`
    pixels are predicted in windows of that size, which limits the memory.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    tile: int | None = Field(default=None, ge=128)

    @model_validator(mode="after")
    def _ranges(self) -> "ValidationConfig":
        if not self.scales or min(self.scales) <= 0 or max(self.scales) > LARGEST_SCALE:
            raise ValueError(f"scales {self.scales} must be numbers above 0 and at most {LARGEST_SCALE}")
        return self


class Config(Section):
    """The configuration of a run; the last four sections are read by `selfreg pseudo`."""

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

    @model_validator(mode="after")
    def _sections_that_fit(self) -> "Config":
        regions = [name for name in self.training.loss_weights if name in REGION_LOSSES]
        if regions and self.data.pseudo is not None and self.data.confidence:
            raise ValueError(f"training.loss {regions[0]} cannot weight pixels: set data.confidence to false")
        if self.data.augmentation is not None and self.data.pseudo is not None and self.data.confidence:
            raise ValueError("data.augmentation does not transform confidences: set data.confidence to false")
        if (
            len(regions) == len(self.training.loss_weights)
            and self.training.class_weights != "none"
            and self.method.arm == "base"
        ):
            raise ValueError(f"training.class_weights do not act on {' and '.join(regions)}: add cross_entropy")
        return self


TRAINING_SECTIONS = ("seed", "data", "network", "method", "training", "validation")
"""The sections that `selfreg train` and `selfreg study` read."""

PSEUDO_KEYS = (
    "seed",
    *(f"data.{key}" for key in ("kind", "root", "train_split", "options", "mean", "std")),
    *("classifier", "cam", "refinement", "pseudo"),
    *(f"training.{key}" for key in ("workers", "threads", "accelerator")),
)
"""The keys that `selfreg pseudo` reads."""


def known_keys(section: type[Any] = Config, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of a configuration."""
    for name, kind in _keys_of(section).items():
        yield prefix + name
        if isinstance(kind, type) and _keys_of(kind):
            yield from known_keys(kind, f"{prefix}{name}.")


def _keys_of(section: type[Any]) -> dict[str, Any]:
    """The keys of a section and their types; empty for anything that is not a section."""
    if issubclass(section, BaseModel):
        return {name: field.annotation for name, field in section.model_fields.items()}
    return {field.name: field.type for field in fields(section)} if is_dataclass(section) else {}
