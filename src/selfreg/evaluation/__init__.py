"""How good a prediction is: confusion matrix, boundaries, and the two failures that mIoU hides."""

from typing import TYPE_CHECKING, Any

from selfreg.evaluation.maps import confusion_matrix
from selfreg.evaluation.scores import confusion_scores

if TYPE_CHECKING:
    from selfreg.evaluation.confusion import ConfusionMatrix

__all__ = ["ConfusionMatrix", "confusion_matrix", "confusion_scores"]


def __getattr__(name: str) -> Any:
    # torch is loaded with ConfusionMatrix alone: scoring files on disk, in many processes, does without it.
    if name == "ConfusionMatrix":
        from selfreg.evaluation.confusion import ConfusionMatrix

        return ConfusionMatrix
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
