"""The precision of a training, as `training.precision` names it."""

from typing import Literal

import torch

from selfreg.config import Config
from selfreg.opening import device_of

_AUTOCAST = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def precision_of(config: Config) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    """Lightning's name of the precision; `auto` is 32 bits on a CPU, and mixed precision on a GPU.

    Raises:
        ValueError: For float16 on a CPU.
    """
    name, on_cpu = config.training.precision, device_of(config).type == "cpu"
    if name == "16-mixed" and on_cpu:
        raise ValueError("training.precision 16-mixed needs a GPU; use bf16-mixed or 32 on a CPU")
    if name == "32" or (name == "auto" and on_cpu):
        return "32-true"
    if name == "auto":
        # GPUs without bfloat16 emulate it, slowly
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return name


def autocast_type(config: Config) -> torch.dtype | None:
    """What a training step is autocast to; None for 32 bits."""
    return _AUTOCAST[precision_of(config)]
