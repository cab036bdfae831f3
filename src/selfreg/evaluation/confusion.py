"""The dataset-level confusion matrix and the scores that are read from it."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from selfreg.evaluation.maps import check_classes, confusion_matrix
from selfreg.evaluation.scores import confusion_scores

__all__ = ["ConfusionMatrix", "confusion_matrix", "confusion_scores"]


class ConfusionMatrix(Metric):
    """Accumulate one confusion matrix over a whole data set and read mIoU and the accuracies from it.

    State: `matrix`, `(num_classes, num_classes)` int64, rows are labels, columns predictions; processes add theirs.
    `ignore_index` marks void pixels, which are left out; it must lie outside 0..num_classes-1 (ValueError).

    Example:
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
        """Add a batch of class indices: two integer tensors or arrays of one shape, whatever it is.

        Raises ValueError when a label is neither 0..num_classes-1 nor `ignore_index`, or a prediction is not
        0..num_classes-1 (`ignore_index` is allowed where the label is void).
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
        """Scores of all that was added, as plain numbers: see `confusion_scores`."""
        scores = confusion_scores(self.matrix.cpu().numpy())
        return {name: value.tolist() for name, value in scores.items()}


def _count_on_device(predictions: Tensor, labels: Tensor, num_classes: int, ignore_index: int) -> Tensor:
    valid = labels != ignore_index
    label_fits = ~valid | ((labels >= 0) & (labels < num_classes))
    prediction_fits = ((predictions >= 0) & (predictions < num_classes)) | (~valid & (predictions == ignore_index))
    if not bool((label_fits & prediction_fits).all()):
        confusion_matrix(
            predictions.cpu().numpy(), labels.cpu().numpy(), num_classes, ignore_index
        )  # says what is wrong
    index = torch.where(valid, labels.long() * num_classes + predictions.long(), num_classes * num_classes)
    counts = torch.bincount(index.flatten(), minlength=num_classes * num_classes + 1)
    return counts[:-1].reshape(num_classes, num_classes)
