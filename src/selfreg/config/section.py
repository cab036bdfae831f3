"""The base of every section of a configuration."""

from pydantic import BaseModel, ConfigDict

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
