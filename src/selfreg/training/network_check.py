"""Build a network and run it once at every size it will meet, so that what cannot work is told before time is spent."""

import copy
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from selfreg.config import Config
from selfreg.data.loader import short_side_size
from selfreg.inference import Predictor
from selfreg.messages import one_line
from selfreg.networks import runs_own_code
from selfreg.opening import build_from_config
from selfreg.regulation import main_output

_SIZES_AT_MOST = 30


def build_checked(config: Config, num_classes: int, *, pretrained: bool = True) -> nn.Module:
    """Build the configured network; whatever its library raises becomes a ValueError of one line."""
    try:
        return build_from_config(config, num_classes, pretrained=pretrained)
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{_named(config)} cannot be built: {_reason(config, error)}") from error


def check_crops(config: Config, network: nn.Module, num_classes: int, *, channels: int, images: int) -> None:
    """Run a network on noise at the size of training. Weights, statistics and random generators stay.

    Args:
        config: `data.crop_size`, and the name and options of the network for messages.
        network: The plain network; it is left in train mode.
        num_classes: Number of classes K that its output must have.
        channels: Channels of the images.
        images: Images of a training batch in one process.

    Raises:
        ValueError: The network refuses such a batch, gives another number of classes, or gives probabilities.
    """
    network.train()
    crop = (channels, *config.data.crop_size)
    error = _Trial(network, num_classes).error_at(min(images, 2), crop)
    if error is not None:
        what = f"{images} training crop{'s' if images > 1 else ''} of {_shown(config.data.crop_size)}"
        advice = "choose another data.crop_size or other network.options"
        if images == 1 and _Trial(network, num_classes).error_at(2, crop) is None:
            advice = "use a training.batch_size of 2 or more for each process"
        raise ValueError(f"{_named(config)} cannot run on {what}: {_reason(config, error)}; {advice}") from error
    network.eval()
    _refuse_probabilities(config, network, crop)
    network.train()


def check_images(
    config: Config, network: nn.Module, num_classes: int, *, channels: int, shapes: Sequence[tuple[int, ...]]
) -> None:
    """Run a network on noise at the sizes of validation images, at most thirty of them.

    Args:
        config: `data.short_side`, and the name and options of the network for messages.
        network: The plain network; it is left in train mode.
        num_classes: Number of classes K that its output must have.
        channels: Channels of the images.
        shapes: (H, W) of the images.

    Raises:
        ValueError: The network refuses one of the sizes.
    """
    network.eval()
    trial = _Trial(network, num_classes)
    chosen = shapes[:: -(-len(shapes) // _SIZES_AT_MOST)]
    for height, width in dict.fromkeys([*chosen, *shapes[-1:]]):
        short_side = config.data.short_side
        size = (height, width) if short_side is None else short_side_size(height, width, short_side)
        error = trial.error_at(1, (channels, *size))
        if error is not None:
            raise ValueError(
                f"{_named(config)} cannot run on a validation image of {_shown(size)}: {_reason(config, error)}; "
                "use a network that takes any size, or images of one size that it takes"
            ) from error
    network.train()


class _Trial:
    """Runs a network on noise, first without values, which takes no time, and with values where that does not go."""

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        self.network = network
        self.num_classes = num_classes
        self.without_values = copy.deepcopy(network).to("meta")

    def error_at(self, images: int, shape: tuple[int, ...]) -> Exception | None:
        """What the network raises for so many images of shape (C, H, W), or None."""
        try:
            _run(self.without_values, torch.empty((images, *shape), device="meta"), self.num_classes)
        except Exception:
            try:
                with _unchanged(self.network):
                    _run(self.network, torch.randn((images, *shape), device=_device(self.network)), self.num_classes)
            except MemoryError:
                raise
            except Exception as error:
                return error
        return None


@torch.no_grad()
def _run(network: nn.Module, images: Tensor, num_classes: int) -> None:
    if network.training:
        logits = main_output(network(images))
    else:
        logits = Predictor.network_logits(network, images, images.shape[-2:])
    if logits.shape[:2] != (len(images), num_classes):
        raise ValueError(f"it gives {logits.shape[1]} channels for {num_classes} classes")


@torch.no_grad()
def _refuse_probabilities(config: Config, network: nn.Module, shape: tuple[int, ...]) -> None:
    with _unchanged(network):
        output = main_output(network(torch.randn((1, *shape), device=_device(network)))).float()
    if bool((output >= 0).all()) and bool(torch.allclose(output.sum(1), torch.ones(()).to(output), atol=1e-3)):
        raise ValueError(
            f"{_named(config)} gives probabilities, and the losses take logits; remove its activation "
            "(network.options.activation for segmentation_models_pytorch)"
        )


@contextmanager
def _unchanged(network: nn.Module) -> Iterator[None]:
    """Put statistics and random generators back afterwards."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    device = _device(network)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in before:
                    buffer.copy_(value)


def _device(network: nn.Module) -> torch.device:
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _named(config: Config) -> str:
    options = config.network.options
    shown = ", ".join(f"{name}: {value}" for name, value in options.items())
    return f"network {config.network.name}" + (f" with network.options {{{shown}}}" if options else "")


def _reason(config: Config, error: Exception) -> str:
    """The first line of an error, and where it was raised if that is code of somebody's own."""
    reason = one_line(error, first=True)
    if not runs_own_code(config.network.name):
        return reason
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {reason} ({Path(frame.filename).name}, line {frame.lineno})"


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
