"""The whole configuration of a run: what a YAML file may say, checked before any time is spent."""

from selfreg.config.loading import dump_config, load_config, parse_config
from selfreg.config.method import Arm, MethodConfig
from selfreg.config.schema import Config, DataConfig, NetworkConfig, TrainingConfig, known_keys

__all__ = [
    "Arm",
    "Config",
    "DataConfig",
    "MethodConfig",
    "NetworkConfig",
    "TrainingConfig",
    "dump_config",
    "known_keys",
    "load_config",
    "parse_config",
]
