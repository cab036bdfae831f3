"""The sections of a configuration for `selfreg pseudo`: from image-level tags to pseudo masks."""

from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from selfreg.config.section import Section, check_crop_size

LARGEST_SCALE = 16


class ClassifierConfig(Section):
    """The multi-label classifier whose activation maps become masks.

    `backbone` is a timm name; `pretrained` and `options` are as in the section `network`. `taps` adds exits to the
    classifier (names of its stages, or `auto`), each trained with the tags, for use with `cam.depths`. Sizes are
    (height, width) in pixels; `scale` is the range of the random scale.
    """

    backbone: str = "resnet50"
    pretrained: bool | str = False
    options: dict[str, Any] = Field(default_factory=dict)
    output_stride: Literal[8, 16, 32] = 16
    taps: Literal["auto"] | list[str] = Field(default_factory=list)
    crop_size: tuple[int, int] = (512, 512)
    scale: tuple[float, float] = (0.5, 2.0)
    colour: float = Field(default=0.25, ge=0, le=1)
    epochs: int = Field(default=5, ge=1)
    batch_size: int = Field(default=16, ge=1)
    optimizer: Literal["adamw", "sgd"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    head_learning_rate_factor: float = Field(default=10.0, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)

    @model_validator(mode="after")
    def _ranges(self) -> "ClassifierConfig":
        check_crop_size(self.crop_size)
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale {self.scale} must be (smallest, largest) with 0 < smallest <= largest")
        return self


class CamConfig(Section):
    """How class activation maps are computed, and the score above which an object wins over the background.

    `depths` is the number of exits whose maps are summed, counted from the deepest; 1 is the classifier's own output.
    """

    scales: list[float] = Field(default=[0.5, 1.0, 1.5, 2.0], min_length=1)
    flip: bool = True
    depths: int = Field(default=1, ge=1)
    background_threshold: float = Field(default=0.15, gt=0, lt=1)

    @model_validator(mode="after")
    def _ranges(self) -> "CamConfig":
        if min(self.scales) <= 0 or max(self.scales) > LARGEST_SCALE:
            raise ValueError(f"scales {self.scales} must be positive, at most {LARGEST_SCALE}")
        return self


class AffinityOptions(Section):
    """Options of the refinement `affinity`: training of its network, and the random walk.

    Seeds are pixels with at least the confidence `certain`: with a background threshold of 0.15, activations above 0.35
    and below 0.064 (IRN: 0.30 and 0.05). `radius` is in pixels of the boundary map, whose resolution is a quarter of
    the image's.
    """

    certain: float = Field(default=0.4, ge=0, lt=1)
    epochs: int = Field(default=3, ge=1)
    learning_rate: float = Field(default=0.1, gt=0)
    crop_size: tuple[int, int] = (512, 512)
    batch_size: int = Field(default=32, ge=1)
    radius: float = Field(default=5.0, gt=1)
    power: float = Field(default=10.0, gt=0)
    log2_steps: int = Field(default=8, ge=0)

    def training(self) -> dict[str, Any]:
        """The options that the trained network depends on."""
        return self.model_dump(mode="json", exclude={"radius", "power", "log2_steps"})


class RefinementStep(Section):
    """One refinement of the scores with its options; in the file, a name alone means default options.

    The options of `pamr` and `crf` are those of `selfreg.weak.refinement.pamr` and `dense_crf`.
    """

    name: Literal["pamr", "affinity", "crf"]
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _affinity_options(self) -> "RefinementStep":
        if self.name == "affinity":
            try:
                AffinityOptions.model_validate(self.options)
            except ValidationError as error:
                first = error.errors()[0]
                key = ".".join(str(part) for part in first["loc"])
                raise ValueError(f"option {key!r}: {first['msg']}") from None
        return self


class PseudoConfig(Section):
    """Conversion of the refined scores to labels: pixels with a confidence below `certain` become void.

    The confidence is the score of the best class minus that of the second best, in [0, 1].
    """

    certain: float = Field(default=0.1, ge=0, lt=1)
