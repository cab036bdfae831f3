"""The base of every section of a configuration, and what a number may not be."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


def refuse_switches(annotation: Any, value: Any) -> Any:
    """Raise ValueError for true or false where a number is expected; Python would take them for 1 and 0.

    Args:
        annotation: Type of the key.
        value: What was given for it.

    Returns:
        `value`.
    """
    members = {annotation, *get_args(annotation)}
    if isinstance(value, bool) and bool not in members and members & {int, float}:
        raise ValueError("give a number")
    return value


LONGEST_SIDE = 2**14
"""Longest side of a crop, and of the short side that images are resized to, in pixels."""


def check_crop_size(size: tuple[int, int]) -> None:
    """Raise ValueError for a crop that is too small to be anything, or too large for any memory."""
    if min(size) < 16 or max(size) > LONGEST_SIDE:
        which = "small" if min(size) < 16 else "large"
        raise ValueError(f"crop_size {size} is too {which}; give at least 16 x 16 and at most {LONGEST_SIDE} a side")


class Section(BaseModel):
    """A section of the configuration; unknown keys are rejected."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_no_switches(cls, value: Any, info: ValidationInfo) -> Any:
        return refuse_switches(cls.model_fields[str(info.field_name)].annotation, value)
