"""An exponential moving average of the weights, which is validated and saved instead of the weights."""

import lightning as L
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn

from selfreg.training.task import SegmentationTask


class AveragedWeights(EMAWeightAveraging):
    """Lightning's moving average, updated after every step, with access to the averaged plain network."""

    def __init__(self, decay: float) -> None:
        super().__init__(decay=decay, update_every_n_steps=1)

    def network(self) -> nn.Module:
        """The plain network with the averaged weights."""
        if self._average_model is None:
            raise RuntimeError("there is no average before training has begun")
        task = self._average_model.module
        if not isinstance(task, SegmentationTask):
            raise TypeError(f"AveragedWeights belongs to a SegmentationTask, not to {type(task).__name__}")
        return task.network


def trained_network(trainer: L.Trainer, task: SegmentationTask) -> nn.Module:
    """The plain network to be saved, with averaged weights if `training.ema` is set."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, AveragedWeights):
            return callback.network()
    return task.network
