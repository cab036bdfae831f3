"""The section `method` of a configuration: losses, their variant, and the stages with exits."""

from dataclasses import fields
from typing import Any, Literal

from pydantic import ConfigDict, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from selfreg.config.section import refuse_switches
from selfreg.regulation.options import DEFAULT_EXITS, ExitForm, MethodOptions, resolve_exit_width

Arm = Literal["base", "mea", "mea+f", "mea+l", "mea+p", "sr", "full"]

REGULATION_TERMS = ("sr_f", "sr_l", "local_presence")
TERMS_OF_ARM: dict[Arm, tuple[str, ...]] = {
    "base": (),
    "mea": (),
    "mea+f": ("sr_f",),
    "mea+l": ("sr_l",),
    "mea+p": ("local_presence",),
    "sr": ("sr_f", "sr_l"),
    "full": REGULATION_TERMS,
}
"""Terms that each arm adds to the multi-exit loss; `base` has no exits."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class MethodConfig(MethodOptions):
    """Self-regulation: losses (`arm`), their form (`variant`) and their weights.

    The arms are `base` (the network's own cross-entropy), `mea` (multi-exit loss only), `mea+f` (with SR-F), `mea+l`
    (with SR-L), `mea+p` (with local presence), `sr` (with SR-F and SR-L: the full objective of the paper) and `full`
    (with all three). `taps`, `exits` and `exit_width` are those of `MultiExit`; all other keys are those of
    `MethodOptions`.
    """

    arm: Arm = "full"
    taps: Literal["auto"] | list[str] = "auto"
    exits: ExitForm = DEFAULT_EXITS
    exit_width: int | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_no_switches(cls, value: Any, info: ValidationInfo) -> Any:
        types = {field.name: field.type for field in fields(cls)}
        return refuse_switches(types[str(info.field_name)], value)

    def __post_init__(self) -> None:
        super().__post_init__()
        resolve_exit_width(self.exits, self.exit_width)

    def objective_options(self) -> dict[str, Any]:
        """Options of the objective: `MethodOptions`, with weight 0 for every term that is not part of the arm."""
        left_out = {f"{term}_weight" for term in REGULATION_TERMS if term not in TERMS_OF_ARM[self.arm]}
        names = [field.name for field in fields(MethodOptions)]
        return {name: 0.0 if name in left_out else getattr(self, name) for name in names}
