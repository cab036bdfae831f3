"""Self-regulation for semantic segmentation: taps, exits and losses that train a network and then leave it.

The names below are loaded at first use, so that `import selfreg` and `selfreg --help` stay quick.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfreg.inference.model import load as load
    from selfreg.networks import build_network as build_network
    from selfreg.notebook import compare as compare
    from selfreg.notebook import evaluate as evaluate
    from selfreg.notebook import train as train
    from selfreg.regulation import ExitOutputs as ExitOutputs
    from selfreg.regulation import LossTerms as LossTerms
    from selfreg.regulation import MultiExit as MultiExit
    from selfreg.regulation import SelfRegulation as SelfRegulation
    from selfreg.regulation import Tap as Tap
    from selfreg.regulation import find_taps as find_taps

__version__ = version("selfreg")

_HOME = {
    "ExitOutputs": "selfreg.regulation",
    "LossTerms": "selfreg.regulation",
    "MultiExit": "selfreg.regulation",
    "SelfRegulation": "selfreg.regulation",
    "Tap": "selfreg.regulation",
    "find_taps": "selfreg.regulation",
    "build_network": "selfreg.networks",
    "compare": "selfreg.notebook",
    "evaluate": "selfreg.notebook",
    "load": "selfreg.inference.model",
    "train": "selfreg.notebook",
}
__all__ = [
    "ExitOutputs",
    "LossTerms",
    "MultiExit",
    "SelfRegulation",
    "Tap",
    "build_network",
    "compare",
    "evaluate",
    "find_taps",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'selfreg' has no attribute {name!r}")
