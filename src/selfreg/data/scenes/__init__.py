"""The generated data set: scenes that need no download and hold both failures of segmentation networks."""

from selfreg.data.scenes.scenes import Scenes

__all__ = ["Scenes"]
