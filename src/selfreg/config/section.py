"""The base of every section of a configuration."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the configuration; unknown keys are rejected."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)
