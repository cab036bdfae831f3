"""Lightning's trainer, set up from a configuration."""

import logging
import warnings

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping, LearningRateMonitor, RichProgressBar

from selfreg.config import Config
from selfreg.messages import one_line
from selfreg.run import Run
from selfreg.training.averaging import AveragedWeights
from selfreg.training.checkpoints import Checkpoints
from selfreg.training.logs import make_loggers
from selfreg.training.precision import precision_of
from selfreg.training.processes import check_strategy, settle_rank
from selfreg.training.progress import Announce, EpochLines


class StopEarly(EarlyStopping):
    """Lightning's early stopping on the mIoU; an extended run starts to count again."""

    def __init__(self, patience: int) -> None:
        # right after validation, so that the checkpoint of the epoch holds the count
        super().__init__("val/miou", mode="max", patience=patience, check_finite=False, check_on_train_epoch_end=False)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Reset a count that has reached the patience."""
        if self.wait_count >= self.patience:
            self.wait_count = 0


def quiet_lightning() -> None:
    """Silence Lightning's remarks on hardware and its own products; warnings about the training are kept."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    for message in (
        ".*LeafSpec.*",
        ".*does not have many workers.*",
        ".*Precision .* is not supported.*",
        ".*litlogger.*",
        # validation is summed over the processes before it is logged
        ".*sync_dist=True.*",
        ".*`training_step` returned `None`.*",
        # frozen parts are in evaluation mode
        ".*in eval mode at the start of training.*",
    ):
        warnings.filterwarnings("ignore", message)


def make_trainer(config: Config, run: Run, announce: Announce, *, progress_bar: bool) -> L.Trainer:
    """Make the trainer with its callbacks and loggers; its number of epochs is set once the data are known.

    Raises:
        ValueError: Devices, a precision or a strategy that this machine or this package does not have, or a logger
            whose package is missing.
    """
    training = config.training
    loggers, precision = make_loggers(config, run), precision_of(config)
    try:
        trainer = L.Trainer(
            accelerator=training.accelerator,
            devices=training.devices,
            num_nodes=training.num_nodes,
            strategy=training.strategy,
            precision=precision,
            max_epochs=training.epochs,
            accumulate_grad_batches=training.accumulate,
            gradient_clip_val=training.gradient_clip,
            check_val_every_n_epoch=training.validate_every,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            logger=loggers,
            callbacks=_callbacks(config, run, announce, progress_bar),
            enable_checkpointing=False,
            enable_progress_bar=progress_bar,
            enable_model_summary=False,
            # Lightning looks for states of its own in there, by default in the folder where one happens to be
            default_root_dir=run.folder,
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ValueError(f"training.accelerator, devices, num_nodes, strategy: {one_line(error)}") from None
    check_strategy(trainer, training.strategy)
    settle_rank(trainer)
    return trainer


def _callbacks(config: Config, run: Run, announce: Announce, progress_bar: bool) -> list[Callback]:
    training = config.training
    callbacks: list[Callback] = [Checkpoints(run), LearningRateMonitor("epoch"), EpochLines(announce)]
    if training.ema is not None:
        callbacks.append(AveragedWeights(training.ema))
    if training.early_stopping is not None:
        callbacks.append(StopEarly(training.early_stopping))
    if progress_bar:
        callbacks.append(RichProgressBar())
    return callbacks
