"""Options of timm that let a network take images of the size of training."""

import inspect
from collections.abc import Mapping
from typing import Any

import timm
import torch


def size_options(name: str, image_size: tuple[int, int] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the options with which a timm model of a fixed image size takes other sizes.

    `dynamic_img_size=True`, where the model has it, makes it take any size, together with `dynamic_img_pad=True` also
    sizes that its patches do not divide. Otherwise `img_size` builds it for `image_size`, the only size that it takes
    from then on. CrossViT resizes images itself, and fails if it is built for sides that its patches do not divide: a
    model that takes the images without `img_size` alone gets no option. Models that timm does not call fixed need none.

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
    if image_size is None or "img_size" not in known or tuple(image_size) == tuple(config.input_size[1:]):
        return {}
    option = {"img_size": tuple(image_size)}
    return {} if not _takes(name, image_size, **option) and _takes(name, image_size) else option


def _takes(name: str, image_size: tuple[int, int], **options: Any) -> bool:
    """Whether a timm model can be built with options and then takes images of a size; nothing is computed."""
    try:
        with torch.device("meta"), torch.no_grad():
            timm.create_model(name, **options).eval()(torch.empty(1, 3, *image_size))
    except Exception:  # models refuse sizes in many ways
        return False
    return True
