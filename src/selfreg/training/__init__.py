"""One training run, from a configuration to a folder with weights."""

from selfreg.training.fit import train

__all__ = ["train"]
