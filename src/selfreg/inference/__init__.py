"""From trained networks to class maps, numbers and exported files."""

from selfreg.inference.predict import find_images, predict_images, save_index_png
from selfreg.inference.predictor import Predictor

__all__ = ["Predictor", "find_images", "predict_images", "save_index_png"]
