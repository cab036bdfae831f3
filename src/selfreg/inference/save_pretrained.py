"""A trained network of transformers as a folder that `from_pretrained` of transformers reads."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from selfreg.files import whole_folder, write_json
from selfreg.run_info import RunInfo


def save_pretrained(network: nn.Module, folder: Path, info: RunInfo, *, eight_bit: bool) -> None:
    """Write configuration with class names, weights and preprocessing; the folder is kept only if it reads back equal.

    Args:
        network: A model of transformers.
        folder: The folder to make.
        info: Class names, and mean and standard deviation of the images.
        eight_bit: Whether the images are RGB with values 0 to 255, which `preprocessor_config.json` can say.

    Raises:
        ValueError: If the network is not one of transformers, the folder exists, or what was written differs.
    """
    if not hasattr(network, "save_pretrained"):
        raise ValueError(f"--format transformers needs a network hf:..., and this one is a {type(network).__name__}")
    model: Any = network
    model.config.id2label = dict(enumerate(info.class_names))
    model.config.label2id = {name: index for index, name in enumerate(info.class_names)}
    with whole_folder(folder) as temporary:
        model.save_pretrained(temporary)
        if eight_bit:
            write_json(temporary / "preprocessor_config.json", _preprocessing(info))
        written: dict[str, Any] = type(model).from_pretrained(temporary, local_files_only=True).state_dict()
        for name, tensor in model.state_dict().items():
            if name not in written or not torch.equal(written[name], tensor):
                raise ValueError(f"{folder}: not written: {name} differs after it was read again")


def _preprocessing(info: RunInfo) -> dict[str, Any]:
    return {
        "do_resize": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(info.mean),
        "image_std": list(info.std),
    }
