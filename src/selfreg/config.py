"""The whole configuration of a run: what a YAML file may say, checked before any time is spent."""

import difflib
import reprlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from selfreg.section import Section
from selfreg.weak_config import CamConfig, ClassifierConfig, PseudoConfig, RefinementStep

Arm = Literal["base", "mea", "mea+f", "mea+l", "mea+p", "full"]
Variant = Literal["authors", "distill", "feature", "verified"]


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


class MethodConfig(Section):
    """Self-regulation: which losses (`arm`), in which form (`variant`), with which weights.

    The arms are base (the network's own cross-entropy), mea (multi-exit loss alone), mea+f (with SR-F), mea+l (with
    SR-L), mea+p (with local presence) and full (all of them).
    """

    arm: Arm = "full"
    variant: Variant = "verified"
    taps: Literal["auto"] | list[str] = "auto"
    exit_resolution: Literal["exit", "label"] = "exit"
    classification_weight: float = Field(default=0.2, ge=0)
    segmentation_weight: float = Field(default=0.8, ge=0)
    sr_f_weight: float = Field(default=1.0, ge=0)
    sr_l_weight: float = Field(default=1.0, ge=0)
    local_presence_weight: float = Field(default=1.0, ge=0)
    local_presence_window: int = Field(default=32, ge=1)
    local_presence_average: Literal["class", "pair"] = "class"
    reduction: Literal["sum", "mean"] = "sum"
    temperature: float = Field(default=1.0, gt=0)
    warm_up: float = Field(default=0.25, ge=0, le=1)
    warm_up_shape: Literal["step", "ramp"] = "step"


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


class Config(Section):
    """One run, whole; the last four sections are those of `selfreg pseudo`."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    data: DataConfig = Field(default_factory=DataConfig)
    network: NetworkConfig = Field(default_factory=NetworkConfig)
    method: MethodConfig = Field(default_factory=MethodConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    classifier: ClassifierConfig = Field(default_factory=ClassifierConfig)
    cam: CamConfig = Field(default_factory=CamConfig)
    refinement: list[RefinementStep] = Field(default=[RefinementStep(name="pamr")])
    pseudo: PseudoConfig = Field(default_factory=PseudoConfig)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `a.b=value` overrides, and check the whole.

    Raises ValueError, in one line, for a file that is missing or not a mapping, an unknown key (the nearest known one
    is named) and a value of the wrong kind.
    """
    path = Path(path)
    try:
        content = _read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such configuration file") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a configuration is a mapping of sections, found {type(content).__name__}")
    for override in overrides:
        _apply_override(content, override)
    return parse_config(content, origin=str(path))


def parse_config(content: dict[str, Any], origin: str) -> Config:
    """Check a mapping against the schema; `origin` names it in error messages. Raises ValueError."""
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ValueError(f"{origin}: {_explain(error)}") from None


def dump_config(config: Config) -> str:
    """The configuration as YAML text, every key written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def known_keys(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted key that a configuration may hold."""
    for name, field in section.model_fields.items():
        yield prefix + name
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from known_keys(kind, f"{prefix}{name}.")


def _apply_override(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    shown = " ".join(override.split())
    if not separator or not all(parts):
        raise ValueError(f"--set {shown}: write it as section.key=value")
    try:
        value = _read_yaml(text)
    except ValueError:
        raise ValueError(f"--set {shown}: the value cannot be read as YAML") from None
    if isinstance(value, str):
        value = _number(value)
    place = content
    for part in parts[:-1]:
        inner = place.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ValueError(f"--set {shown}: {part!r} is not a section")
        place = inner
    place[parts[-1]] = value


class _Loader(yaml.SafeLoader):
    """Plain values only; a key twice is refused, and so are aliases, by which a few lines can stand for gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) are not read: write it out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        content = super().construct_mapping(node, deep)
        if len(content) < len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key occurs twice in this mapping", node.start_mark)
        return content


def _read_yaml(text: str) -> Any:
    """The content of YAML text. Raises ValueError for whatever cannot be read."""
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except Exception as error:  # a tag that does not fit its value ends in whatever its constructor stumbles over
        raise ValueError(str(error)) from None


def _number(text: str) -> str | float:
    # YAML 1.1 reads 1e-3 as text
    try:
        return float(text)
    except ValueError:
        return text


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    # a member of a union appears in the location; it is no key of the file
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = _nearest(key)
        return f"unknown key {_shown(key)}" + (f"; did you mean {near!r}?" if near else "; see docs/configuration.md")
    message = first["msg"].removeprefix("Value error, ")
    return f"{key}: {message} (found {_shown(first['input'])})" if key else message


def _shown(value: Any) -> str:
    """A value for a message of one line, however large it is."""
    return reprlib.repr(value) if not isinstance(value, str) or len(value) > 100 else repr(value)


def _nearest(key: str) -> str | None:
    keys = list(known_keys())
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
    if near:
        return near[0]
    leaf = key.rsplit(".", 1)[-1]
    near = difflib.get_close_matches(leaf, [name.rsplit(".", 1)[-1] for name in keys], n=1, cutoff=0.7)
    return next((name for name in keys if name.rsplit(".", 1)[-1] == near[0]), None) if near else None
