"""The Lightning task: one step of training, one step of validation."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from selfreg.config import Config
from selfreg.evaluation import ConfusionMatrix
from selfreg.inference import Predictor
from selfreg.messages import raised_in, say
from selfreg.regulation import (
    MultiExit,
    SelfRegulation,
    auxiliary_taps,
    mask_targets,
    segmentation_loss,
    watch_regulation,
)
from selfreg.regulation.losses import mean_over_processes
from selfreg.training.compiling import begin_compiled_batch, compiled
from selfreg.training.freezing import freeze, frozen_modules
from selfreg.training.losses import own_loss_of, plain_loss, refuse_loss_options
from selfreg.training.optimiser import follow_schedule, make_optimizer, poly_schedule
from selfreg.training.unread_loss import UnreadLoss, broken_loss
from selfreg.training.watching import ExitPredictors, ExitScores, exit_logs


class SegmentationTask(L.LightningModule):
    """Trains a network plainly (arm `base`) or with self-regulation, and measures mIoU on the validation split.

    `network` gives logits (N, K, h, w) for images (N, 3, H, W); masks are (N, H, W) int64 with 255 for void.
    """

    def __init__(self, config: Config, network: nn.Module, num_classes: int, *, total_steps: int) -> None:
        super().__init__()
        self.config = config
        self.total_steps = total_steps
        self.regulated = config.method.arm != "base"
        self.objective = SelfRegulation(**config.method.objective_options())
        # the exits draw their weights after the network, so that every arm starts from the same network
        torch.manual_seed(config.seed + 1)
        if self.regulated:
            method = config.method
            self.model: nn.Module = MultiExit(
                network,
                num_classes,
                taps=method.taps,
                exits=method.exits,
                exit_width=method.exit_width,
                features=method.variant == "feature",
            )
        else:
            auxiliary = auxiliary_taps(network)
            self.model = MultiExit(network, num_classes, taps=auxiliary) if auxiliary else network
        # convolutions are a third faster on CPU and with AMP when channels lie innermost
        self.model = self.model.to(memory_format=torch.channels_last)
        self.own_loss = own_loss_of(config.training)
        refuse_loss_options(config, network)
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", None, persistent=False)
        self.set_class_weights(None)
        self.confusion = ConfusionMatrix(num_classes)
        num_exits = len(self.model.taps) if isinstance(self.model, MultiExit) and self.regulated else 0
        self.exit_scores = ExitScores(num_exits, num_classes)
        self.image_name: Callable[[int], str] = str
        """Returns the name of the image with an index."""
        self.skipped_batches = 0
        # the exits are watched in the steps that are written to the logs, and in no others
        self._watching = False
        self._exit_logs: dict[str, Tensor] = {}
        self._left_out: list[tuple[Tensor, Tensor]] | None = None
        self._unread: UnreadLoss | None = None
        # all three are compiled when training starts, where `training.compile` says so
        self._call_model: Callable[..., Any] = self._model_outputs
        self._compute_terms: Callable[..., Any] = self.objective
        self._compute_plain_loss: Callable[..., Tensor] = plain_loss
        freeze(self.network, config.training.freeze)
        # Lightning keeps the modes that it finds, and does not call train()
        self.train()

    def train(self, mode: bool = True) -> "SegmentationTask":
        """Switch between training and evaluation; frozen parts stay in evaluation mode."""
        super().train(mode)
        # looked up anew, since batch norms may have been exchanged for those of several processes
        for module in frozen_modules(self.network, self.config.training.freeze):
            module.eval()
        return self

    @property
    def network(self) -> nn.Module:
        """The plain network, without exits."""
        return self.model.network if isinstance(self.model, MultiExit) else self.model

    def set_class_weights(self, class_weights: Tensor | None) -> None:
        """Weight the segmentation terms by class, (K,) float32; the same in every arm."""
        self.class_weights = class_weights
        plain = self.own_loss is segmentation_loss
        own_loss = None if plain else partial(self.own_loss, class_weights=class_weights)
        self.objective = replace(self.objective, class_weights=class_weights, own_loss=own_loss)
        self._compute_terms = self.objective

    def setup(self, stage: str) -> None:  # noqa: ARG002
        """Broadcast the class weights of the first process, which has counted the classes."""
        if self.config.training.class_weights == "balanced":
            self.set_class_weights(self.trainer.strategy.broadcast(self.class_weights))

    def on_train_start(self) -> None:
        """Compile, and take the learning rate from the schedule.

        A checkpoint holds the learning rate of the schedule of its own run.
        """
        self.set_class_weights(self.class_weights)  # the buffer is on the device by now
        self._compile()
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, LambdaLR):
            follow_schedule(scheduler)

    def _compile(self) -> None:
        """Compile what `training.compile` names: functions and no modules, so that the keys of the state dict stay."""
        if self.config.training.compile == "none":
            return
        self._compute_terms = compiled(self.objective, self.device)
        self._compute_plain_loss = compiled(plain_loss, self.device)
        if self.config.training.compile == "all":
            # validation calls the network itself: its images have many sizes, each of which would be compiled
            self._call_model = compiled(self._model_outputs, self.device, replay=self.config.training.accumulate == 1)

    def on_train_batch_start(self, batch: dict[str, Tensor], batch_index: int) -> None:  # noqa: ARG002
        """Draw dropout from seed, batch and process alone, so that a resumed run draws what the whole one drew."""
        accumulate = self.config.training.accumulate
        batches = self.global_step * accumulate + batch_index % accumulate
        if self.config.training.compile != "none":
            begin_compiled_batch(self.device)
        torch.manual_seed(self.config.seed * 1_000_003 + batches + self.global_rank * 999_999_937)

    def loss_of(self, batch: dict[str, Tensor], progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The total loss of one batch at a progress in [0, 1], and the raw terms that it is made of.

        "tags" of the batch take the place of the classes found in the masks, "confidence" weights every pixel.
        """
        images, masks = batch["image"].to(memory_format=torch.channels_last), batch["mask"]
        tags, confidence = batch.get("tags"), batch.get("confidence")
        if not self.regulated:
            total = self._compute_plain_loss(
                self._outputs(images, masks),
                masks,
                own_loss=self.own_loss,
                class_weights=self.class_weights,
                confidence=confidence,
            )
            return total, {"segmentation": total}
        outputs = self._outputs(images, masks)
        # what is compiled is compiled anew for another number: it gets two, and during a ramp nothing compiled is used
        weight = self.objective.regulation_weight(progress)
        compute, progress = (self._compute_terms, weight) if weight in (0.0, 1.0) else (self.objective, progress)
        terms = compute(outputs, masks, progress, image_labels=tags, confidence=confidence)
        self._exit_logs = {}
        if self._watching:
            regulation = watch_regulation(self.objective, outputs, masks, confidence=confidence)
            self._exit_logs = exit_logs(terms, regulation)
        return terms.total, terms.raw()

    def _model_outputs(self, images: Tensor, **targets: list[Tensor]) -> Any:
        return self.model(images, **targets)

    def _outputs(self, images: Tensor, masks: Tensor) -> Any:
        try:
            return self._call_model(images, **mask_targets(self.network, masks))
        except ValueError as error:
            if not raised_in(error, "_verify_batch_size"):
                raise
            raise ValueError(
                f"{len(images)} image of {images.shape[-2]} x {images.shape[-1]} leaves batch norm one value per "
                "channel; use a training.batch_size of 2 or more for each process"
            ) from None

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:  # noqa: ARG002
        """The total loss of one batch; every term is logged, raw.

        A loss that is not finite stops the run with a ValueError, or leaves the batch out while fewer than
        `training.skip_non_finite` have been. Where none may be left out the loss is read a step late, so that a GPU
        has its next step queued meanwhile; leaving a batch out takes the answer before the step.
        """
        self.stop_if_broken()
        may_skip = self.config.training.skip_non_finite > 0
        # the forward pass has put such a batch into the statistics of batch norm already
        buffers = [(buffer, buffer.clone()) for buffer in self.model.buffers()] if may_skip else []
        self._watching = (self.global_step + 1) % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        total, raw = self.loss_of(batch, progress=self.global_step / max(self.total_steps, 1))
        broken = self._broken_anywhere(total)
        if not may_skip:
            self._unread = UnreadLoss.of(broken, batch["index"], raw, self.global_step)
        elif broken:
            self._skip_or_stop(batch["index"], raw, self.global_step)
            # with accumulation the whole step is left out, from its first such batch on
            self._left_out = self._left_out or buffers
            return total
        if "pixels" in batch:
            total = total * self._share_of_step(batch)
        self.log("loss", total.detach(), prog_bar=True, sync_dist=True)
        for name, value in raw.items():
            self.log(f"terms/{name}", value.detach(), prog_bar=self.regulated, sync_dist=True)
        self.log_dict(self._exit_logs, sync_dist=True)
        return total

    def _share_of_step(self, batch: dict[str, Tensor]) -> Tensor:
        """Weight of one of several accumulated batches: its valid pixels over their mean, weighted by class."""
        weights = self.class_weights
        pixels, mean_pixels = (
            mean_over_processes(batch[name].sum() if weights is None else (batch[name] * weights).sum())
            for name in ("pixels", "mean_pixels")
        )
        return pixels / mean_pixels.clamp_min(torch.finfo(pixels.dtype).tiny)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Undo a batch that is left out: without gradients no weight moves, and batch norm forgets what it saw."""
        # here, since with several processes Lightning refuses a step that gives None, its own way of leaving one out
        if self._left_out is not None:
            optimizer.zero_grad(set_to_none=True)
            for buffer, before in self._left_out:
                buffer.copy_(before)
            self._left_out = None

    def _broken_anywhere(self, total: Tensor) -> Tensor:
        """Whether the loss is not finite in some process: all of them skip a batch, or none does."""
        broken = (~torch.isfinite(total.detach())).float()
        if self.trainer.world_size > 1:
            broken = self.trainer.strategy.reduce(broken, reduce_op="sum")
        return broken

    def stop_if_broken(self) -> None:
        """Raise ValueError if the loss of the last step was not finite."""
        unread, self._unread = self._unread, None
        if unread is not None and unread.read():
            self._skip_or_stop(unread.indices, unread.terms, unread.step)

    def on_validation_start(self) -> None:
        """Do not evaluate weights that a non-finite loss has changed."""
        self.stop_if_broken()

    def on_train_end(self) -> None:
        """Check the last loss too."""
        self.stop_if_broken()

    def _skip_or_stop(self, indices: Tensor, raw: dict[str, Tensor], step: int) -> None:
        self.skipped_batches += 1
        images = ", ".join(self.image_name(index) for index in indices.tolist())
        allowed = self.config.training.skip_non_finite
        if self.skipped_batches <= allowed:
            count = f"{self.skipped_batches} of {allowed}"
            say(f"skipped a batch whose loss is not finite ({count}): {images}", stderr=True)
            return
        raise ValueError(broken_loss(raw, step=step, skipped=self.skipped_batches - 1, images=images))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the count of skipped batches; raise ValueError rather than keep weights that a broken loss changed."""
        self.stop_if_broken()
        checkpoint["skipped_batches"] = self.skipped_batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the count of skipped batches."""
        self.skipped_batches = checkpoint.get("skipped_batches", 0)

    def validation_step(self, batches: list[dict[str, Tensor]], batch_index: int) -> None:  # noqa: ARG002
        """Add images to the confusion matrix, predicted as `selfreg evaluate` does, at their own resolution."""
        settings, short_side = self.config.validation.model_dump(), self.config.data.short_side
        # the images are normalised already
        options = {"mean": (0.0,), "std": (1.0,), "short_side": short_side, "device": None, **settings}
        predictors = None
        if self.regulated and isinstance(self.model, MultiExit):
            predictors = ExitPredictors(self.model, **options)
        predictor = Predictor(self.network, **options) if predictors is None else predictors.own
        for batch in batches:
            self.confusion.update(predictor.class_maps(batch["image"]), batch["mask"])
            if predictors is not None:
                self.exit_scores.update(predictors, batch["image"], batch["mask"])

    def on_validation_epoch_end(self) -> None:
        """Log mIoU and pixel accuracy of the whole split."""
        result = self.confusion.compute()
        self.confusion.reset()
        self.log("val/miou", result["miou"], prog_bar=True)
        self.log("val/pixel_accuracy", result["pixel_accuracy"])
        self.log_dict(self.exit_scores.compute())

    def configure_optimizers(self) -> Any:
        """Optimiser and per-step schedule."""
        training = self.config.training
        optimizer = make_optimizer(self.model, training)
        schedule = poly_schedule(self.total_steps, training.poly_power, training.linear_warm_up_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, schedule), "interval": "step"},
        }
