"""How good a prediction is: confusion matrix, contours, and the two failures that mIoU hides."""

from typing import TYPE_CHECKING, Any

from selfreg.evaluation.boundary import BoundaryCounts, boundary_counts, boundary_iou, boundary_scores
from selfreg.evaluation.cases import FailureCase, failure_cases
from selfreg.evaluation.failures import SIZE_EDGES, FailureCounts, failure_counts, failure_scores
from selfreg.evaluation.images import HIGHER_IS_BETTER, ImageResult, evaluate_image, paired_differences, summarise
from selfreg.evaluation.instances import InstanceCounts, instance_counts, instance_scores
from selfreg.evaluation.maps import confusion_matrix
from selfreg.evaluation.scores import PixelCounts, confusion_scores, pixel_scores
from selfreg.evaluation.units import Thresholds

if TYPE_CHECKING:
    from selfreg.evaluation.confusion import ConfusionMatrix
    from selfreg.evaluation.failure_rates import FailureRates

__all__ = [
    "HIGHER_IS_BETTER",
    "SIZE_EDGES",
    "BoundaryCounts",
    "ConfusionMatrix",
    "FailureCase",
    "FailureCounts",
    "FailureRates",
    "ImageResult",
    "InstanceCounts",
    "PixelCounts",
    "Thresholds",
    "boundary_counts",
    "boundary_iou",
    "boundary_scores",
    "confusion_matrix",
    "confusion_scores",
    "evaluate_image",
    "failure_cases",
    "failure_counts",
    "failure_scores",
    "instance_counts",
    "instance_scores",
    "paired_differences",
    "pixel_scores",
    "summarise",
]


def __getattr__(name: str) -> Any:
    # The two metrics load torch; scoring files on disk, in many processes, does without it.
    if name == "ConfusionMatrix":
        from selfreg.evaluation.confusion import ConfusionMatrix

        return ConfusionMatrix
    if name == "FailureRates":
        from selfreg.evaluation.failure_rates import FailureRates

        return FailureRates
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
