"""One line per epoch, on a terminal and in a log file alike."""

import time
from collections.abc import Callable

import lightning as L
from torch import Tensor

from selfreg.messages import say
from selfreg.training.task import SegmentationTask

Announce = Callable[[str], None]
"""Function that outputs a line."""

announce_on_stdout: Announce = say


class EpochLines(L.Callback):
    """Output a line at the end of each epoch: number, mean loss and its terms, mIoU, time left."""

    def __init__(self, announce: Announce) -> None:
        self.announce = announce
        self._sums: dict[str, Tensor] = {}
        self._batches = 0
        self._clock = time.monotonic()
        self._first_step = 0
        self._miou: float | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Time is counted from here, steps from those that an interrupted run had made."""
        self._clock, self._first_step = time.monotonic(), trainer.global_step

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Begin new means."""
        self._sums, self._batches, self._miou = {}, 0, None

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,  # noqa: ARG002
        outputs: object,  # noqa: ARG002
        batch: object,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Add up the loss and its terms on the device, without synchronizing."""
        for name, value in trainer.callback_metrics.items():
            # those of single exits are logged in some steps only
            if name == "loss" or (name.startswith("terms/") and "_exit_" not in name):
                self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._batches += 1

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:  # noqa: ARG002
        """Store the mIoU of this epoch."""
        self._miou = float(trainer.callback_metrics["val/miou"])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Output the line of the epoch."""
        if not trainer.is_global_zero or not isinstance(pl_module, SegmentationTask):
            return
        means = {name: float(value) / max(self._batches, 1) for name, value in self._sums.items()}
        terms = {name.removeprefix("terms/"): mean for name, mean in means.items() if name != "loss" and mean}
        parts = [f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"]
        if "loss" in means:
            shown = ", ".join(f"{name} {mean:.3f}" for name, mean in terms.items())
            parts.append(f"loss {means['loss']:.3f}" + (f" ({shown})" if len(terms) > 1 else ""))
        if self._miou is not None:
            parts.append(f"mIoU {in_per_cent(self._miou)}")
        left = pl_module.total_steps - trainer.global_step
        if left > 0 and not trainer.should_stop:
            pace = (time.monotonic() - self._clock) / max(trainer.global_step - self._first_step, 1)
            parts.append(f"{in_words(left * pace)} left")
        self.announce("  ".join(parts))


def in_words(seconds: float) -> str:
    """Format a duration: `40 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def in_per_cent(value: float | None) -> str:
    """Format a fraction in per cent with one decimal; `not defined` for None and NaN."""
    return "not defined" if value is None or value != value else f"{100 * value:.1f} %"
