"""Evaluation of predictions: IoU, contours, and errors on small and large objects that mIoU hides."""

from typing import TYPE_CHECKING, Any

from selfreg.evaluation.boundary import BoundaryCounts, boundary_counts, boundary_iou, boundary_scores
from selfreg.evaluation.cases import FailureCase, failure_cases
from selfreg.evaluation.failures import OBJECT_SIZE_EDGES, FailureCounts, failure_counts, failure_scores
from selfreg.evaluation.images import ImageResult, evaluate_image
from selfreg.evaluation.maps import confusion_matrix
from selfreg.evaluation.measures import CLASS_MEASURES, HEADLINES, MEASURES, Measure, Verdict, verdict_of
from selfreg.evaluation.scores import PixelCounts, confusion_scores, pixel_scores
from selfreg.evaluation.summary import paired_class_differences, paired_differences, resampled_scores, summarise
from selfreg.evaluation.units import Thresholds

if TYPE_CHECKING:
    from selfreg.evaluation.confusion import ConfusionMatrix
    from selfreg.evaluation.failure_rates import FailureRates

__all__ = [
    "CLASS_MEASURES",
    "HEADLINES",
    "MEASURES",
    "OBJECT_SIZE_EDGES",
    "BoundaryCounts",
    "ConfusionMatrix",
    "FailureCase",
    "FailureCounts",
    "FailureRates",
    "ImageResult",
    "Measure",
    "PixelCounts",
    "Thresholds",
    "Verdict",
    "boundary_counts",
    "boundary_iou",
    "boundary_scores",
    "confusion_matrix",
    "confusion_scores",
    "evaluate_image",
    "failure_cases",
    "failure_counts",
    "failure_scores",
    "paired_class_differences",
    "paired_differences",
    "pixel_scores",
    "resampled_scores",
    "summarise",
    "verdict_of",
]


def __getattr__(name: str) -> Any:
    # The two metrics import torch; processes that score files on disk do not need it.
    if name == "ConfusionMatrix":
        from selfreg.evaluation.confusion import ConfusionMatrix

        return ConfusionMatrix
    if name == "FailureRates":
        from selfreg.evaluation.failure_rates import FailureRates

        return FailureRates
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
