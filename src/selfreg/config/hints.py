"""The key that someone probably meant who wrote one that does not exist."""

import difflib
from collections.abc import Sequence

_OTHER_NAMES = {
    "accumulation": "training.accumulate",
    "accumulation_steps": "training.accumulate",
    "amp": "training.precision",
    "arch": "network.name",
    "architecture": "network.name",
    "augment": "data.augmentation",
    "augmentations": "data.augmentation",
    "aux_weight": "method.segmentation_weight",
    "backbone": "network.name",
    "batch": "training.batch_size",
    "brightness": "data.colour",
    "bs": "training.batch_size",
    "checkpoint": "network.from_run",
    "clip": "training.gradient_clip",
    "clip_grad": "training.gradient_clip",
    "clip_norm": "training.gradient_clip",
    "color_jitter": "data.colour",
    "contrast": "data.colour",
    "cosine_schedule": "training.poly_power",
    "criterion": "training.loss",
    "crop": "data.crop_size",
    "dataset": "data.kind",
    "decoder": "network.name",
    "decoder_channels": "network.options",
    "dice": "training.loss",
    "drop_rate": "network.options",
    "dropout": "network.options",
    "early_stop_patience": "training.early_stopping",
    "encoder": "network.name",
    "encoder_name": "network.name",
    "encoder_weights": "network.pretrained",
    "every": "training.validate_every",
    "exponential_moving_average": "training.ema",
    "fine_tune": "network.from_run",
    "finetune": "network.from_run",
    "focal": "training.loss",
    "fp16": "training.precision",
    "frozen": "training.freeze",
    "gamma": "training.poly_power",
    "gpu": "training.devices",
    "gpus": "training.devices",
    "grad_accum": "training.accumulate",
    "grad_accumulation": "training.accumulate",
    "grad_clip": "training.gradient_clip",
    "grad_clip_norm": "training.gradient_clip",
    "gradient_accumulation_steps": "training.accumulate",
    "gradient_clip_val": "training.gradient_clip",
    "half": "training.precision",
    "image_size": "data.crop_size",
    "img_size": "data.crop_size",
    "imgsz": "data.crop_size",
    "input_size": "data.crop_size",
    "iterations": "training.max_steps",
    "iters": "training.max_steps",
    "layers": "method.taps",
    "log": "training.loggers",
    "logger": "training.loggers",
    "loss_weight": "training.loss",
    "loss_weights": "training.loss",
    "lovasz": "training.loss",
    "lr": "training.learning_rate",
    "lr_decay": "training.poly_power",
    "lr_power": "training.poly_power",
    "lr_schedule": "training.poly_power",
    "lr_scheduler": "training.poly_power",
    "max_grad_norm": "training.gradient_clip",
    "max_iter": "training.max_steps",
    "max_iterations": "training.max_steps",
    "max_iters": "training.max_steps",
    "mixed_precision": "training.precision",
    "mlflow": "training.loggers",
    "model": "network.name",
    "model_ema": "training.ema",
    "moving_average": "training.ema",
    "multi_scale": "data.scale",
    "num_epoch": "training.epochs",
    "num_iterations": "training.max_steps",
    "ohem": "training.loss",
    "opt": "training.optimizer",
    "path": "data.root",
    "patience": "training.early_stopping",
    "pretrain": "network.pretrained",
    "resolution": "data.crop_size",
    "resume": "network.from_run",
    "rotate": "data.rotation",
    "saturation": "data.colour",
    "schedule": "training.poly_power",
    "scheduler": "training.poly_power",
    "size": "data.crop_size",
    "smoothing": "training.label_smoothing",
    "stages": "method.taps",
    "steps": "training.max_steps",
    "sync_bn": "training.sync_batch_norm",
    "temp": "method.temperature",
    "tensorboard": "training.loggers",
    "train": "data.train_split",
    "tta": "validation.scales",
    "val": "data.val_split",
    "val_interval": "training.validate_every",
    "wandb": "training.loggers",
    "warm_up": "training.linear_warm_up_steps",
    "warmup": "training.linear_warm_up_steps",
    "warmup_epochs": "training.linear_warm_up_steps",
    "warmup_steps": "training.linear_warm_up_steps",
    "wd": "training.weight_decay",
    "weights": "network.pretrained",
}
"""What other tools call the keys of a configuration: letters alone do not show what is near in meaning."""

_ABBREVIATIONS = {
    "acc": "accumulate",
    "aug": "augmentation",
    "bn": "batch_norm",
    "bs": "batch_size",
    "clipping": "clip",
    "eval": "validate",
    "grad": "gradient",
    "lr": "learning_rate",
    "norms": "norm",
    "val": "validate",
    "wd": "weight_decay",
}
"""Words that stand for others within a key."""

_SAME_LETTERS = 0.75


def nearest_key(key: str, keys: Sequence[str]) -> str | None:
    """The known key that was probably meant by an unknown one.

    In this order: another tool's name for a key of the section, a typing error or the same words within the section,
    another tool's name, and a typing error in another section. The name of the section does not count as a likeness.

    Args:
        key: The unknown key, such as `training.early_stop`.
        keys: All known keys, dotted.

    Returns:
        One of `keys`, such as `training.early_stopping`, or None where nothing is near.
    """
    section, _, leaf = key.lower().replace("-", "_").rpartition(".")
    spelled_out = "_".join(_ABBREVIATIONS.get(word, word) for word in leaf.split("_"))
    within = [name for name in keys if name.rpartition(".")[0] == section]
    other_name = _OTHER_NAMES.get(leaf)
    return (
        (other_name if other_name in within else None)
        or _of_letters(leaf, within)
        or other_name
        or (_of_words(spelled_out, within) if section else None)
        or _of_letters(leaf, keys)
    )


def _of_letters(leaf: str, keys: Sequence[str]) -> str | None:
    near = difflib.get_close_matches(leaf, [_leaf(name) for name in keys], n=1, cutoff=_SAME_LETTERS)
    return next(name for name in keys if _leaf(name) == near[0]) if near else None


def _of_words(leaf: str, keys: Sequence[str]) -> str | None:
    """The only key that holds all words of `leaf`, two or more, or a key all of whose words occur in `leaf`."""
    words = set(leaf.split("_"))
    shorter = [name for name in keys if set(_leaf(name).split("_")) <= words]
    longer = [name for name in keys if words <= set(_leaf(name).split("_"))] if len(words) > 1 else []
    if len(longer) == 1:
        return longer[0]
    return max(shorter, key=len) if shorter else None


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]
