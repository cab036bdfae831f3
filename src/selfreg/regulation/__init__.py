"""The method: taps, exits and losses by which a network regulates itself while it trains; needs torch alone."""

from selfreg.regulation.exits import ClassMapExit, Exit, ImageHead
from selfreg.regulation.local_presence import LabelWindows, as_windows, local_presence_loss
from selfreg.regulation.losses import (
    Teacher,
    as_teacher,
    cell_cross_entropy,
    cell_segmentation_loss,
    classification_loss,
    distillation_loss,
    feature_loss,
    hard_label_loss,
    presence_distillation_loss,
    segmentation_loss,
    verified_gate,
)
from selfreg.regulation.multi_exit import MultiExit
from selfreg.regulation.objective import LossTerms, SelfRegulation
from selfreg.regulation.outputs import ExitOutputs, main_output
from selfreg.regulation.tap import Tap
from selfreg.regulation.taps import Taps, find_taps
from selfreg.regulation.targets import CellLabels, class_counts, class_fractions, class_presence

__all__ = [
    "CellLabels",
    "ClassMapExit",
    "Exit",
    "ExitOutputs",
    "ImageHead",
    "LabelWindows",
    "LossTerms",
    "MultiExit",
    "SelfRegulation",
    "Tap",
    "Taps",
    "Teacher",
    "as_teacher",
    "as_windows",
    "cell_cross_entropy",
    "cell_segmentation_loss",
    "class_counts",
    "class_fractions",
    "class_presence",
    "classification_loss",
    "distillation_loss",
    "feature_loss",
    "find_taps",
    "hard_label_loss",
    "local_presence_loss",
    "main_output",
    "presence_distillation_loss",
    "segmentation_loss",
    "verified_gate",
]
