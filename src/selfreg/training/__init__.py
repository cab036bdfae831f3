"""One training run, from a configuration to a folder with weights."""

from selfreg.training.fit import train
from selfreg.training.processes import is_first_process

__all__ = ["is_first_process", "train"]
