"""Confusion matrix of a data set as a metric, and the scores computed from it."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from selfreg.evaluation.maps import check_classes, confusion_matrix
from selfreg.evaluation.scores import confusion_scores

__all__ = ["ConfusionMatrix", "confusion_matrix", "confusion_scores"]


class ConfusionMatrix(Metric):
    """Accumulate one confusion matrix over a whole data set; compute mIoU and accuracies from it.

    The state `matrix` is (K, K) int64; rows are labels, columns are predictions. With several processes the matrices
    are summed.

    Args:
        num_classes: Number of classes K.
        ignore_index: Label value of void pixels, which are not counted.
        **kwargs: Options of `torchmetrics.Metric`.

    Raises:
        ValueError: If `ignore_index` is in 0..K-1.

    Examples:
        >>> import torch
        >>> from selfreg.evaluation import ConfusionMatrix
        >>> metric = ConfusionMatrix(num_classes=2)
        >>> metric.update(torch.tensor([[[0, 1, 1, 1]]]), torch.tensor([[[0, 0, 1, 255]]]))
        >>> round(float(metric.compute()["miou"]), 2)
        0.5
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    matrix: Tensor

    def __init__(self, num_classes: int, ignore_index: int = 255, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_classes(num_classes, ignore_index)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.add_state("matrix", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predictions: Tensor | NDArray[Any], labels: Tensor | NDArray[Any]) -> None:
        """Add a batch of predictions.

        Args:
            predictions: Class indices, integers of any shape; `ignore_index` is allowed where the label is void.
            labels: Ground truth of the same shape.

        Raises:
            ValueError: If a value is neither in 0..K-1 nor `ignore_index`.
        """
        predicted = torch.as_tensor(predictions, device=self.matrix.device)
        labelled = torch.as_tensor(labels, device=self.matrix.device)
        if predicted.is_floating_point() or predicted.shape != labelled.shape or labelled.device.type == "cpu":
            counts = confusion_matrix(
                predicted.cpu().numpy(), labelled.cpu().numpy(), self.num_classes, self.ignore_index
            )
            self.matrix += torch.from_numpy(counts).to(self.matrix.device)
        else:
            self.matrix += _count_on_device(predicted, labelled, self.num_classes, self.ignore_index)

    def compute(self) -> dict[str, Any]:
        """Return the scores of all batches as plain numbers; see `confusion_scores`."""
        scores = confusion_scores(self.matrix.cpu().numpy())
        return {name: value.tolist() for name, value in scores.items()}


def _count_on_device(predictions: Tensor, labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    valid = labels != ignore_index
    label_fits = ~valid | ((labels >= 0) & (labels < num_classes))
    prediction_fits = ((predictions >= 0) & (predictions < num_classes)) | (~valid & (predictions == ignore_index))
    if not bool((label_fits & prediction_fits).all()):
        confusion_matrix(
            predictions.cpu().numpy(), labels.cpu().numpy(), num_classes, ignore_index
        )  # raises the error with the offending values
    index = torch.where(valid, labels.long() * num_classes + predictions.long(), num_classes * num_classes)
    counts = torch.bincount(index.flatten(), minlength=num_classes * num_classes + 1)
    return counts[:-1].reshape(num_classes, num_classes)
