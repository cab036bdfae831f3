"""From trained networks to class maps, numbers and exported files."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfreg.inference.model import Model as Model
    from selfreg.inference.model import load as load
    from selfreg.inference.photographs import find_images as find_images
    from selfreg.inference.predict import predict_images as predict_images
    from selfreg.inference.predict import save_index_png as save_index_png
    from selfreg.inference.predictor import Predictor as Predictor

# loaded at first use: listing photographs takes no torch
_HOME = {
    "Model": "selfreg.inference.model",
    "Predictor": "selfreg.inference.predictor",
    "find_images": "selfreg.inference.photographs",
    "load": "selfreg.inference.model",
    "predict_images": "selfreg.inference.predict",
    "save_index_png": "selfreg.inference.predict",
}
__all__ = ["Model", "Predictor", "find_images", "load", "predict_images", "save_index_png"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
