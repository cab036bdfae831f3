"""Opening what a configuration names: splits of data, the network, input statistics, the device."""

from typing import Any

import torch
from torch import nn

from selfreg.config import Config, DataConfig
from selfreg.data import ImageFormat, Source, open_pseudo_labels
from selfreg.data.kinds import TAGGED_KINDS, open_source
from selfreg.networks import adapt_input, build_network, preprocessing


def open_split(config: Config, split: str, *, masks: bool = True) -> Source:
    """Open a split of the configured data.

    Args:
        config: The configuration.
        split: Name of the split.
        masks: Whether missing masks are an error.

    Raises:
        ValueError: If the data are invalid.
    """
    data = config.data
    lenient = {} if masks or data.kind == "scenes" else {"must_exist": False}
    return open_source(data.kind, data.root, split, **source_options(data), **lenient)


def image_format(data: DataConfig) -> ImageFormat:
    """Bands and range of the configured images."""
    return ImageFormat(data.bands, data.range, data.shown_bands)


def source_options(data: DataConfig) -> dict[str, Any]:
    """The options with which `open_source` opens the configured data."""
    given = image_format(data)
    return {**data.options, **({} if given == ImageFormat() else {"image_format": given})}


def open_training_split(config: Config) -> Source:
    """The training split; with `data.pseudo` its masks come from there (see `open_pseudo_labels`)."""
    data = config.data
    if data.pseudo is None:
        return open_split(config, data.train_split)
    return open_pseudo_labels(open_tagged_split(config), data.pseudo, confidence=data.confidence)


def open_tagged_split(config: Config) -> Source:
    """The training split with its image-level tags and without masks: `read` returns masks that are void.

    Raises:
        ValueError: If the data have no tags.
    """
    data = config.data
    if data.kind not in TAGGED_KINDS:
        raise ValueError(
            f"data.kind {data.kind} has no image-level tags to read without masks: use {', '.join(TAGGED_KINDS)}"
        )
    return open_source(data.kind, data.root, data.train_split, **{**source_options(data), "tags_only": True})


def input_statistics(config: Config) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the input: the configured ones, or those of the pretrained weights."""
    if config.data.mean is not None and config.data.std is not None:
        return config.data.mean, config.data.std
    mean, std = preprocessing(config.network.name, pretrained=config.network.pretrained, **config.network.options)
    return config.data.mean or mean, config.data.std or std


def build_from_config(config: Config, num_classes: int, *, pretrained: bool = True) -> nn.Module:
    """Build the plain network with initial weights drawn from the seed.

    Args:
        config: The configuration.
        num_classes: Number of classes K.
        pretrained: Whether pretrained weights are loaded, if the configuration names them.
    """
    torch.manual_seed(config.seed)
    weights = config.network.pretrained if pretrained else False
    network = build_network(
        config.network.name,
        num_classes,
        pretrained=weights,
        image_size=config.data.crop_size,
        **config.network.options,
    )
    return network if config.data.bands == 3 else adapt_input(network, config.data.bands)


def device_of(config: Config) -> torch.device:
    """The device of a process that computes alone: a GPU if there is one and `training.accelerator` allows it."""
    on_gpu = config.training.accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")
