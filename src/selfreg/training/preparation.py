"""Everything that a run needs before its first step: checked data and network, loaders, class weights."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader

from selfreg.config import Config
from selfreg.data import Draw, Source, in_class_order
from selfreg.data.source import HasFiles
from selfreg.input_files import user_path
from selfreg.opening import input_statistics, open_split, open_training_split
from selfreg.run import Run
from selfreg.run_info import RunInfo
from selfreg.training.fine_tuning import load_from_run
from selfreg.training.loaders import AccumulatingLoader, training_loader, validation_loader
from selfreg.training.network_check import build_checked, check_crops, check_images
from selfreg.training.progress import Announce
from selfreg.training.survey import balanced_weights, given_class_weights, survey


@dataclass(frozen=True)
class Preparation:
    """Data, network and length of a run; `total_steps` counts optimizer steps, the last epoch may be incomplete."""

    train_source: Source
    info: RunInfo
    network: nn.Module
    loader: AccumulatingLoader
    validation: DataLoader[dict[str, Any]]
    class_weights: Tensor | None
    steps_per_epoch: int
    total_steps: int
    epochs: int


def prepare(
    config: Config,
    *,
    announce: Announce,
    allow_code: bool = False,
    started: Run | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Preparation:
    """Open and read the data, build the network, and run it once at the sizes of the run.

    Args:
        config: Configuration of the run.
        announce: Called with the line that says which weights of another run are used.
        allow_code: Allow `data.augmentation` to import its code.
        started: The run that is resumed, or None for a new one.
        rank: Index of this process; the first one reads all data.
        world_size: Number of processes.

    Raises:
        ValueError: Data, weights or network do not fit together.
    """
    if config.data.augmentation is not None and not allow_code:
        raise ValueError(
            f"data.augmentation {config.data.augmentation} is code that would be run; "
            "if you trust it, give --allow-code"
        )
    train_source, val_source = _open_splits(config)
    info = started.info() if started is not None else describe(config, train_source)
    if started is not None:
        # the data of a resumed run may name its classes in another order
        owner = f"{started.folder}: the run"
        train_source = in_class_order(train_source, info.class_names, owner)
        val_source = in_class_order(val_source, info.class_names, owner)
    class_weights = given_class_weights(config.training, info.class_names)
    loader = training_loader(config, train_source, info, rank=rank, world_size=world_size)
    if config.data.augmentation is not None:
        # the user's code is tried on one crop before anything is written
        _ = loader.dataset[Draw(0, config.seed)]
    validation = validation_loader(config, val_source, info, rank=rank, world_size=world_size)
    anew = started is None or started.state_to_resume() is None
    network = _first_network(config, info, announce, anew=anew)
    _check_crops(config, network, info, world_size)
    _check_images(config, network, info, [val_source.read(0).mask.shape])
    # the data are read last, since that takes longest
    if rank == 0:
        balanced = config.training.class_weights == "balanced"
        if balanced or isinstance(train_source, HasFiles):
            found = survey(train_source, "checking training data")
            class_weights = balanced_weights(found.pixels) if balanced else class_weights
        if isinstance(val_source, HasFiles):
            _check_images(config, network, info, survey(val_source, "checking validation data").shapes)
    steps_per_epoch = len(loader) // config.training.accumulate
    total_steps, epochs = _length(config, steps_per_epoch)
    warm_up = config.training.linear_warm_up_steps
    if rank == 0 and warm_up >= total_steps:
        warnings.warn(
            f"training.linear_warm_up_steps {warm_up}: the run has {total_steps} steps, so the learning rate never "
            "reaches its full value",
            stacklevel=2,
        )
    return Preparation(
        train_source, info, network, loader, validation, class_weights, steps_per_epoch, total_steps, epochs
    )


def describe(config: Config, source: Source) -> RunInfo:
    """Information that a run stores about its classes and input; with `from_run`, the input statistics of that run."""
    mean, std = input_statistics(config)
    if config.network.from_run is not None:
        other = Run.open(user_path(config.network.from_run)).info()
        mean, std = config.data.mean or other.mean, config.data.std or other.std
    packages = {
        name: version(name) for name in ("selfreg", "torch", "lightning", "timm", "segmentation-models-pytorch")
    }
    palette = tuple((int(red), int(green), int(blue)) for red, green, blue in source.labels.palette)
    return RunInfo(tuple(source.labels.class_names), palette, mean, std, packages)


def _open_splits(config: Config) -> tuple[Source, Source]:
    train_source = open_training_split(config)
    val_source = open_split(config, config.data.val_split)
    owner = f"{config.data.val_split}: the split {config.data.train_split}"
    return train_source, in_class_order(val_source, train_source.labels.class_names, owner)


def _first_network(config: Config, info: RunInfo, announce: Announce, *, anew: bool) -> nn.Module:
    """The network with its initial weights; a resumed one (not `anew`) loads its checkpoint later."""
    from_run = anew and config.network.from_run is not None
    network = build_checked(config, info.num_classes, pretrained=anew and not from_run)
    if from_run:
        announce(load_from_run(network, config, info.class_names))
    return network


def _check_crops(config: Config, network: nn.Module, info: RunInfo, world_size: int) -> None:
    images = config.training.batch_size // world_size
    check_crops(config, network, info.num_classes, channels=len(info.mean), images=images)


def _check_images(config: Config, network: nn.Module, info: RunInfo, shapes: Sequence[tuple[int, ...]]) -> None:
    check_images(config, network, channels=len(info.mean), shapes=shapes)


def _length(config: Config, steps_per_epoch: int) -> tuple[int, int]:
    """Number of steps and epochs of a run."""
    training = config.training
    if training.max_steps is None:
        return training.epochs * steps_per_epoch, training.epochs
    return training.max_steps, -(-training.max_steps // steps_per_epoch)
