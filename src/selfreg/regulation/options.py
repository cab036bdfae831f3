"""The options of the method: every name, default and range, once. Does not import torch."""

import math
from dataclasses import KW_ONLY, dataclass, fields
from typing import Literal, get_args, get_origin

ExitForm = Literal["separable", "dense", "authors"]
DEFAULT_EXITS: ExitForm = "dense"
EXIT_WIDTHS: dict[ExitForm, int] = {"separable": 32, "dense": 64, "authors": 256}
"""Default number of channels inside each form of exit."""

PROBE_SIZE = (128, 192)
"""(height, width) in pixels of the noise image on which a network is run once to see what its modules return."""

FINEST_STRIDE = 4
"""Stride of the finest class map that `separable` and `dense` exits give."""


@dataclass(frozen=True)
class MethodOptions:
    """Options of the objective that a configuration can set, checked when it is made.

    A new option is a field here and a use of it in the equation that it changes: `SelfRegulation`, the section `method`
    of a configuration, `--set` and the key check take theirs from this class.

    Args:
        variant: Form of both self-regulation losses, see `SelfRegulation`.
        exit_resolution: Where the losses of an exit are taken: on its own grid (`exit`), or at label resolution
            (`label`), to which class maps are upsampled bilinearly (for the variant `authors` with aligned corners).
        classification_weight: a, weight of the image-level part of the multi-exit loss.
        segmentation_weight: b, weight of the pixel-wise part of the multi-exit loss.
        sr_f_weight: l_F, weight of SR-F, from which deep exits learn of the shallowest one.
        sr_l_weight: l_L, weight of SR-L, from which shallow exits learn of the network's own output.
        local_presence_weight: l_P, weight of local presence.
        local_presence_window: Side of the windows of local presence, in pixels of the labels.
        local_presence_average: Mean of local presence: over the windows of each class and then over classes (`class`),
            or over all pairs of a class and a window (`pair`).
        reduction: `sum` or `mean` over exits.
        temperature: T, softmax temperature of the class maps that SR compares; 1 for the variant `authors`.
        warm_up: Fraction of training without SR and local presence, in [0, 1].
        warm_up_shape: `step` switches them on after the warm-up; `ramp` increases their weight linearly during it.

    Raises:
        ValueError: If an option is out of range.

    Source: a = 0.2, b = 0.8 and a warm-up of 0.25 are those of the authors' demonstration code, where l_F = l_L = 1;
        the smaller weights are this project's, by measurement.
    """

    variant: Literal["authors", "distill", "feature", "verified"] = "distill"
    _: KW_ONLY
    exit_resolution: Literal["exit", "label"] = "exit"
    classification_weight: float = 0.2
    segmentation_weight: float = 0.8
    sr_f_weight: float = 0.2
    sr_l_weight: float = 0.2
    local_presence_weight: float = 1.0
    local_presence_window: int = 32
    local_presence_average: Literal["class", "pair"] = "class"
    reduction: Literal["sum", "mean"] = "sum"
    temperature: float = 1.0
    warm_up: float = 0.25
    warm_up_shape: Literal["step", "ramp"] = "step"

    def __post_init__(self) -> None:
        for field in fields(MethodOptions):
            value = getattr(self, field.name)
            if get_origin(field.type) is Literal:
                choices = get_args(field.type)
                _require(value in choices, field.name, f"one of {', '.join(choices)}", value)
            elif field.name.endswith("_weight"):
                _require(0 <= value < math.inf, field.name, "finite and at least 0", value)
        window = self.local_presence_window
        _require(window >= 1, "local_presence_window", "a number of pixels, at least 1", window)
        _require(0 < self.temperature < math.inf, "temperature", "finite and above 0", self.temperature)
        if self.variant == "authors" and self.temperature != 1.0:
            raise ValueError(
                f"temperature {self.temperature} has no effect on the variant authors, which compares hard decisions: "
                "leave it at 1, or choose the variant distill or verified"
            )
        _require(0 <= self.warm_up <= 1, "warm_up", "a fraction of training in [0, 1]", self.warm_up)

    def regulation_weight(self, progress: float) -> float:
        """Weight w(t) of SR and local presence at training progress t in [0, 1]."""
        if self.warm_up_shape == "ramp" and self.warm_up > 0:
            return min(1.0, progress / self.warm_up)
        return 1.0 if progress >= self.warm_up else 0.0


def resolve_exit_width(exits: ExitForm, width: int | None) -> int:
    """The width of a form of exit, its default for None.

    Raises:
        ValueError: If the form is unknown or the width does not fit it.
    """
    _require(exits in EXIT_WIDTHS, "exits", f"one of {', '.join(EXIT_WIDTHS)}, or a callable", exits)
    width = EXIT_WIDTHS[exits] if width is None else width
    _require(width >= 1, "exit_width", "at least 1", width)
    # a stage at stride 1 has a quarter of the width before its strided convolution
    fits = exits == "authors" or width % FINEST_STRIDE == 0
    _require(fits, "exit_width", f"a multiple of {FINEST_STRIDE} for {exits} exits", width)
    return width


def _require(condition: bool, name: str, expected: str, value: object) -> None:
    if not condition:
        raise ValueError(f"{name} must be {expected}, not {value!r}")
