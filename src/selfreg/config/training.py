"""The section `training` of a configuration."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from selfreg.config.section import Section

LossName = Literal["cross_entropy", "ohem", "focal", "dice", "lovasz"]
LOSSES: tuple[LossName, ...] = get_args(LossName)
REGION_LOSSES: tuple[LossName, ...] = ("dice", "lovasz")
"""Losses of whole regions: single pixels cannot be weighted in them."""
Logger = Literal["csv", "tensorboard", "wandb", "mlflow"]


class TrainingConfig(Section):
    """Training of the weights: loss, optimizer, schedule, length, precision.

    `loss` is the loss of the network's own output: a name, or a mapping of names to weights for a weighted sum. Exits
    always use cross-entropy. `class_weights` are given in the order of the classes, or by name (1 for classes that are
    not named). `max_steps` replaces `epochs`. One step consists of `accumulate` batches. `early_stopping` is the number
    of consecutive validations without a better mIoU after which training ends. `ema` is the decay of an exponential
    moving average of the weights; the averaged weights are then validated and saved.
    """

    epochs: int = Field(default=50, ge=1, le=10**9)
    max_steps: int | None = Field(default=None, ge=1, le=10**9)
    batch_size: int = Field(default=8, ge=1)
    accumulate: int = Field(default=1, ge=1)
    early_stopping: int | None = Field(default=None, ge=1)
    loss: LossName | dict[LossName, float] = "cross_entropy"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] | list[float] | dict[str, float] = "none"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-4, gt=0)
    backbone_learning_rate_factor: float = Field(default=1.0, gt=0)
    head_learning_rate_factor: float = Field(default=10.0, gt=0)
    exit_learning_rate_factor: float | None = Field(default=None, gt=0)
    freeze: Literal["none", "backbone", "batch_norm"] = "none"
    ema: float | None = Field(default=None, gt=0, lt=1)
    weight_decay: float = Field(default=1e-2, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    poly_power: float = Field(default=0.9, ge=0)
    linear_warm_up_steps: int = Field(default=0, ge=0)
    gradient_clip: float | None = Field(default=None, gt=0)
    skip_non_finite: int = Field(default=0, ge=0)
    compile: Literal["none", "losses", "all"] = "none"
    # YAML reads `precision: 32` as a number
    precision: Annotated[
        Literal["auto", "32", "bf16-mixed", "16-mixed"],
        BeforeValidator(lambda value: "32" if value == 32 and not isinstance(value, bool) else value),
    ] = "auto"
    validate_every: int = Field(default=1, ge=1)
    loggers: list[Logger] = Field(default=["csv", "tensorboard"])
    # far more processes or threads than there are cores exhaust the machine
    workers: int = Field(default=2, ge=0, le=256)
    threads: int | None = Field(default=None, ge=1, le=1024)
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | Literal["auto"] = 1
    num_nodes: int = Field(default=1, ge=1)
    strategy: str = "auto"
    sync_batch_norm: bool = True

    @property
    def length(self) -> str:
        """Length of the training in words, such as `8 epochs` or `300 steps`."""
        number, unit = (self.epochs, "epoch") if self.max_steps is None else (self.max_steps, "step")
        return f"{number} {unit}{'s' * (number != 1)}"

    @property
    def loss_weights(self) -> dict[LossName, float]:
        """The terms of the loss of the network's own output, with their weights."""
        return self.loss if isinstance(self.loss, dict) else {self.loss: 1.0}

    @field_validator("loss", mode="before")
    @classmethod
    def _known_loss(cls, value: Any) -> Any:
        if not isinstance(value, (str, dict)):
            raise ValueError(f"give one of {', '.join(LOSSES)}, or a mapping of these to weights")
        terms = value if isinstance(value, dict) else {value: 1.0}
        for name, weight in terms.items():
            if name not in LOSSES:
                raise ValueError(f"unknown loss {name!r}; use {', '.join(LOSSES)}, or a mapping of these to weights")
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < float("inf"):
                raise ValueError(f"the weight of {name} must be a number above 0, not {weight!r}")
        if not terms:
            raise ValueError(f"give at least one of {', '.join(LOSSES)}")
        return value

    @field_validator("class_weights", mode="before")
    @classmethod
    def _usable_class_weights(cls, value: Any) -> Any:
        if isinstance(value, str) and value in ("none", "balanced"):
            return value
        if not isinstance(value, (list, dict)) or not value:
            raise ValueError("give none, balanced, a list of numbers, or a mapping of class names to numbers")
        numbers = list(value.values()) if isinstance(value, dict) else value
        if any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in numbers):
            raise ValueError("class weights must be numbers")
        if any(not 0 <= number < float("inf") for number in numbers) or (isinstance(value, list) and not any(value)):
            raise ValueError("class weights must be finite, not negative and not all 0")
        return value

    @model_validator(mode="after")
    def _options_that_act(self) -> "TrainingConfig":
        if self.label_smoothing and "cross_entropy" not in self.loss_weights:
            raise ValueError("label_smoothing needs cross_entropy, which is not part of loss")
        return self
