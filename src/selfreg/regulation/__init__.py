"""The method: taps, exits and losses by which a network regulates itself while it trains; needs torch alone."""

from selfreg.regulation.exits import ClassMapExit, Exit, ImageHead
from selfreg.regulation.losses import (
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
from selfreg.regulation.taps import Tap, Taps, find_taps
from selfreg.regulation.targets import CellLabels, class_counts, class_fractions, class_presence

__all__ = [
    "CellLabels",
    "ClassMapExit",
    "Exit",
    "ExitOutputs",
    "ImageHead",
    "LossTerms",
    "MultiExit",
    "SelfRegulation",
    "Tap",
    "Taps",
    "cell_segmentation_loss",
    "class_counts",
    "class_fractions",
    "class_presence",
    "classification_loss",
    "distillation_loss",
    "feature_loss",
    "find_taps",
    "hard_label_loss",
    "main_output",
    "presence_distillation_loss",
    "segmentation_loss",
    "verified_gate",
]
