"""Options of timm that let a network take images of the size of training."""

import inspect
from collections.abc import Mapping
from typing import Any

import timm
import torch


def size_options(name: str, image_size: tuple[int, int] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the options with which a timm model of a fixed image size takes other sizes.

    `dynamic_img_size=True`, where the model has it, makes it take any size, together with `dynamic_img_pad=True` also
    sizes that its patches do not divide. Otherwise `img_size` builds it for
    `image_size`, the only size that it takes from then on. Models that timm does not call fixed need neither.

    Args:
        name: The timm model; it must exist.
        image_size: (height, width) of the images in training, in pixels, or None if it is not known.
        given: Options that are set already; they take precedence.

    Returns:
        The options to add.
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.fixed_input_size or {"img_size", "dynamic_img_size"} & given.keys():
        return {}
    with torch.device("meta"):
        model = timm.create_model(name)
    known = inspect.signature(type(model).__init__).parameters
    if "dynamic_img_size" in known:
        return {option: True for option in ("dynamic_img_size", "dynamic_img_pad") if option in known}
    if image_size is not None and "img_size" in known and tuple(image_size) != tuple(config.input_size[1:]):
        return {"img_size": tuple(image_size)}
    return {}
