"""The method: taps, exits and losses by which a network regulates itself while it trains; needs torch alone.

The names below are loaded at first use, so that `selfreg.regulation.options` can be read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfreg.regulation.exits import ClassMapExit as ClassMapExit
    from selfreg.regulation.exits import CustomExit as CustomExit
    from selfreg.regulation.exits import DenseExit as DenseExit
    from selfreg.regulation.exits import ImageHead as ImageHead
    from selfreg.regulation.exits import SeparableExit as SeparableExit
    from selfreg.regulation.local_presence import LabelWindows as LabelWindows
    from selfreg.regulation.local_presence import as_windows as as_windows
    from selfreg.regulation.local_presence import local_presence_loss as local_presence_loss
    from selfreg.regulation.losses import Teacher as Teacher
    from selfreg.regulation.losses import as_teacher as as_teacher
    from selfreg.regulation.losses import cell_cross_entropy as cell_cross_entropy
    from selfreg.regulation.losses import cell_segmentation_loss as cell_segmentation_loss
    from selfreg.regulation.losses import classification_loss as classification_loss
    from selfreg.regulation.losses import distillation_loss as distillation_loss
    from selfreg.regulation.losses import feature_loss as feature_loss
    from selfreg.regulation.losses import hard_label_loss as hard_label_loss
    from selfreg.regulation.losses import presence_distillation_loss as presence_distillation_loss
    from selfreg.regulation.losses import segmentation_loss as segmentation_loss
    from selfreg.regulation.losses import verified_gate as verified_gate
    from selfreg.regulation.mask_classification import classifies_masks as classifies_masks
    from selfreg.regulation.mask_classification import mask_targets as mask_targets
    from selfreg.regulation.mask_classification import network_loss as network_loss
    from selfreg.regulation.multi_exit import MultiExit as MultiExit
    from selfreg.regulation.objective import LossTerms as LossTerms
    from selfreg.regulation.objective import SelfRegulation as SelfRegulation
    from selfreg.regulation.options import MethodOptions as MethodOptions
    from selfreg.regulation.outputs import ExitOutputs as ExitOutputs
    from selfreg.regulation.outputs import main_output as main_output
    from selfreg.regulation.tap import Tap as Tap
    from selfreg.regulation.taps import Taps as Taps
    from selfreg.regulation.taps import auxiliary_taps as auxiliary_taps
    from selfreg.regulation.taps import find_taps as find_taps
    from selfreg.regulation.targets import CellLabels as CellLabels
    from selfreg.regulation.targets import class_counts as class_counts
    from selfreg.regulation.targets import class_fractions as class_fractions
    from selfreg.regulation.targets import class_presence as class_presence
    from selfreg.regulation.watching import watch_regulation as watch_regulation

_NAMES = {
    "exits": ("ClassMapExit", "CustomExit", "DenseExit", "ImageHead", "SeparableExit"),
    "local_presence": ("LabelWindows", "as_windows", "local_presence_loss"),
    "losses": (
        "Teacher",
        "as_teacher",
        "cell_cross_entropy",
        "cell_segmentation_loss",
        "classification_loss",
        "distillation_loss",
        "feature_loss",
        "hard_label_loss",
        "presence_distillation_loss",
        "segmentation_loss",
        "verified_gate",
    ),
    "multi_exit": ("MultiExit",),
    "objective": ("LossTerms", "SelfRegulation"),
    "options": ("MethodOptions",),
    "mask_classification": ("classifies_masks", "mask_targets", "network_loss"),
    "outputs": ("ExitOutputs", "main_output"),
    "tap": ("Tap",),
    "taps": ("Taps", "auxiliary_taps", "find_taps"),
    "targets": ("CellLabels", "class_counts", "class_fractions", "class_presence"),
    "watching": ("watch_regulation",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"selfreg.regulation.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
