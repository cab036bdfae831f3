"""A generated data set that needs no download: scenes with small objects, thin parts and similar large objects."""

from selfreg.data.scenes.scenes import Scenes

__all__ = ["Scenes"]
