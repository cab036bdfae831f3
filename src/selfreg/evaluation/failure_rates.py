"""The failure rates as a metric for training and validation loops."""

from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from selfreg.evaluation.bootstrap import add_up, draw_resamples, percentile_interval
from selfreg.evaluation.failures import OBJECT_SIZE_EDGES, FailureCounts, failure_counts, failure_scores
from selfreg.evaluation.maps import check_classes
from selfreg.evaluation.units import DEFAULT_THRESHOLDS, Thresholds


class FailureRates(Metric):
    """Accumulate failure counts per image; compute the failure rates and their 95 % intervals.

    The state `images` holds one int64 table of counts per image. With several processes the tables are concatenated.

    Args:
        num_classes: Number of classes K.
        ignore_index: Label value of void pixels.
        background: Index of the class without objects, if there is one.
        thresholds: Definitions of small, large, missed and mislabelled.
        bootstrap: Number of resamples of the images for the intervals; 0 omits the intervals.
        seed: Seed of the resamples.
        **kwargs: Options of `torchmetrics.Metric`.

    Examples:
        >>> import torch
        >>> from selfreg.evaluation import FailureRates
        >>> label = torch.zeros(1, 64, 64, dtype=torch.int64)
        >>> label[:, 20:24, 20:24] = 1
        >>> metric = FailureRates(num_classes=2, background=0, bootstrap=0)
        >>> metric.update(torch.zeros_like(label), label)  # the only object is missed
        >>> metric.compute()["missed_unit_rate"]
        1.0
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    images: list[Tensor]

    def __init__(
        self,
        num_classes: int,
        *,
        ignore_index: int = 255,
        background: int | None = None,
        thresholds: Thresholds = DEFAULT_THRESHOLDS,
        bootstrap: int = 1000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_classes(num_classes, ignore_index)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.background = background
        self.thresholds = thresholds
        self.bootstrap = bootstrap
        self.seed = seed
        self.add_state("images", [], dist_reduce_fx="cat")

    def update(self, predictions: Tensor | NDArray[Any], labels: Tensor | NDArray[Any]) -> None:
        """Add one image (H, W) or a batch (N, H, W) of class indices.

        Raises:
            ValueError: If the shapes differ or a value is out of range.
        """
        predicted, labelled = (torch.as_tensor(maps).cpu().numpy() for maps in (predictions, labels))
        if predicted.shape != labelled.shape or predicted.ndim not in (2, 3):
            raise ValueError(
                f"predictions {predicted.shape} and labels {labelled.shape} must both be (H, W) or (N, H, W)"
            )
        height, width = labelled.shape[-2:]
        for one in zip(predicted.reshape(-1, height, width), labelled.reshape(-1, height, width), strict=True):
            counts = failure_counts(
                *one,
                self.num_classes,
                ignore_index=self.ignore_index,
                background=self.background,
                thresholds=self.thresholds,
            )
            self.images.append(_to_table(counts).to(self.device))

    def compute(self) -> dict[str, Any]:
        """Compute the scores of all images.

        Returns:
            Plain numbers and lists as in `failure_scores`, NaN where nothing was counted. `intervals` maps names to
            95 % intervals [low, high]; it is empty for fewer than two images.

        Raises:
            ValueError: If no image was added.
        """
        if len(self.images) == 0:
            raise ValueError("FailureRates has seen no image; call update first")
        images = _from_tables(dim_zero_cat(self.images).cpu().numpy())
        num_images = len(images.parts)
        scores = failure_scores(add_up(images, np.ones((1, num_images), dtype=np.int64)), self.background)
        result: dict[str, Any] = {name: values[0].tolist() for name, values in scores.items()}
        result["intervals"] = {}
        if self.bootstrap and num_images > 1:
            resamples = draw_resamples(num_images, self.bootstrap, self.seed)
            drawn = failure_scores(add_up(images, resamples), self.background)
            for name, values in drawn.items():
                if values.ndim == 1:
                    result["intervals"][name] = [float(end) for end in percentile_interval(values)]
        return result


def _to_table(counts: FailureCounts) -> Tensor:
    columns = [getattr(counts, field.name).reshape(len(counts.parts), -1) for field in fields(counts)]
    return torch.from_numpy(np.concatenate(columns, axis=1)[None])


def _from_tables(tables: NDArray[np.int64]) -> FailureCounts:
    """Turn tables (N, K, columns) into counts with fields (N, K, ...)."""
    taken, values = 0, {}
    for field in fields(FailureCounts):
        if field.name.endswith("_by_size"):
            values[field.name] = tables[:, :, taken : taken + len(OBJECT_SIZE_EDGES) + 1]
            taken += len(OBJECT_SIZE_EDGES) + 1
        else:
            values[field.name] = tables[:, :, taken]
            taken += 1
    return FailureCounts(**values)
