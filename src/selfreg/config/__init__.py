"""The configuration of a run: the keys of the YAML file, validated before any time is spent."""

from selfreg.config.loading import check_overrides, dump_config, load_config, parse_config
from selfreg.config.method import Arm, MethodConfig
from selfreg.config.schema import (
    PSEUDO_KEYS,
    TRAINING_SECTIONS,
    Config,
    DataConfig,
    NetworkConfig,
    ValidationConfig,
    known_keys,
)
from selfreg.config.training import TrainingConfig

__all__ = [
    "PSEUDO_KEYS",
    "TRAINING_SECTIONS",
    "Arm",
    "Config",
    "DataConfig",
    "MethodConfig",
    "NetworkConfig",
    "TrainingConfig",
    "ValidationConfig",
    "check_overrides",
    "dump_config",
    "known_keys",
    "load_config",
    "parse_config",
]
