"""The whole configuration of a run: what a YAML file may say, checked before any time is spent."""

from selfreg.config.loading import dump_config, load_config, parse_config
from selfreg.config.schema import (
    Arm,
    Config,
    DataConfig,
    MethodConfig,
    NetworkConfig,
    TrainingConfig,
    Variant,
    known_keys,
)

__all__ = [
    "Arm",
    "Config",
    "DataConfig",
    "MethodConfig",
    "NetworkConfig",
    "TrainingConfig",
    "Variant",
    "dump_config",
    "known_keys",
    "load_config",
    "parse_config",
]
