"""Mean and standard deviation that a network's weights expect of images."""

from contextlib import nullcontext
from typing import Any, NamedTuple

import timm

from selfreg.networks.huggingface_any import image_statistics, is_checkpoint
from selfreg.networks.options import check_timm_name, without_hub
from selfreg.networks.pretrained import LITE0_PACKAGE


class Preprocessing(NamedTuple):
    """Mean and standard deviation per RGB channel of images in [0, 1]; the network gets (image - mean) / std."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TENSORFLOW = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def preprocessing(spec: str, *, pretrained: bool | str = False, **options: Any) -> Preprocessing:
    """Mean and standard deviation that the network's weights expect of images in [0, 1].

    timm's own record where the backbone is a timm model, that of a checkpoint of transformers, 0.5 for the package of
    EfficientNet-Lite0 and for weights from a file with `pad_type="same"` (TensorFlow's padding, hence TensorFlow's
    input range), else those of ImageNet.
    """
    if pretrained == LITE0_PACKAGE or (isinstance(pretrained, str) and options.get("pad_type") == "same"):
        return TENSORFLOW
    if spec.startswith("hf:") and is_checkpoint(spec.removeprefix("hf:")):
        with nullcontext() if pretrained is True else without_hub():
            found = image_statistics(spec.removeprefix("hf:"))
        return IMAGENET if found is None else Preprocessing(*found)
    name = timm_name(spec)
    if name and timm.is_model(name):
        check_timm_name(spec, name)
    config = timm.get_pretrained_cfg(name) if name and timm.is_model(name) else None
    if config is None:
        return IMAGENET
    return Preprocessing(tuple(config.mean), tuple(config.std))


def timm_name(spec: str) -> str | None:
    """The timm model inside a spec, or None where the backbone is not timm's."""
    prefix, colon, name = spec.partition(":")
    if prefix == "timm":
        return name
    if prefix == "smp":
        encoder = name.partition("/")[2]
        return encoder.removeprefix("tu-") if encoder.startswith("tu-") else None
    return None if colon else spec.partition("/")[2]
