"""Checkpoints and weights, written after every epoch so that an interrupted run can be resumed."""

from typing import Any

import lightning as L

from selfreg.files import whole_file
from selfreg.run import Run
from selfreg.training.averaging import trained_network
from selfreg.training.task import SegmentationTask


class Checkpoints(L.Callback):
    """Write the trainer's state and the last and best weights of the plain network at the end of every epoch."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.best_miou = -1.0
        self.best_epoch = -1
        self.miou: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """State that a resumed run needs."""
        return {"best_miou": self.best_miou, "best_epoch": self.best_epoch, "miou": self.miou}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of the interrupted run."""
        self.best_miou, self.best_epoch = state_dict["best_miou"], state_dict["best_epoch"]
        self.miou = state_dict.get("miou")

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Validate the last epoch, whatever `validate_every` is."""
        self.miou = None
        if trainer.max_epochs is not None and trainer.current_epoch == trainer.max_epochs - 1:
            trainer.check_val_every_n_epoch = 1

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,  # noqa: ARG002
        batch: object,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """End the run after its last step, which `training.max_steps` may put within an epoch."""
        if isinstance(pl_module, SegmentationTask) and trainer.global_step >= pl_module.total_steps:
            trainer.should_stop = True

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Store the mIoU of this epoch."""
        self.miou = float(trainer.callback_metrics["val/miou"])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the files of the epoch; called after its validation."""
        task = pl_module
        if not isinstance(task, SegmentationTask):
            raise TypeError(f"Checkpoints belongs to a SegmentationTask, not to {type(task).__name__}")
        # an epoch without validation has not asked yet
        task.stop_if_broken()
        better = self.miou is not None and self.miou > self.best_miou
        if self.miou is not None and better:
            self.best_miou, self.best_epoch = self.miou, trainer.current_epoch
        if trainer.is_global_zero:
            network = trained_network(trainer, task)
            if better:
                self.run.save_weights("best", network)
            self.run.save_weights("last", network)
            with whole_file(self.run.checkpoint_path) as temporary:
                trainer.save_checkpoint(temporary, weights_only=False)
        else:
            # every process takes part in collecting the state; the first one writes
            trainer.save_checkpoint(self.run.checkpoint_path, weights_only=False)
