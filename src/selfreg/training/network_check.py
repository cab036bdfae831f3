"""Build a network and run it once at every size of the run, so that errors are reported before training."""

import copy
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from selfreg.config import Config
from selfreg.inference import Predictor
from selfreg.messages import one_line
from selfreg.networks import runs_own_code
from selfreg.networks.hub import without_waiting
from selfreg.opening import build_from_config
from selfreg.regulation import main_output
from selfreg.training.freezing import frozen_modules

_SIZES_AT_MOST = 30
_FEW_PIXELS = 2 * 128 * 192
"""Pixels of a batch up to which even a ResNet-50 runs sooner with values than without, on one core."""


def build_checked(config: Config, num_classes: int, *, pretrained: bool = True) -> nn.Module:
    """Build the configured network; exceptions of its library are raised as ValueError with one line."""
    if not pretrained or config.network.pretrained is not True:
        return _build(config, num_classes, pretrained=pretrained)
    # that the network itself can be built is seen first
    _build(config, num_classes, pretrained=False)
    try:
        with without_waiting(config.network.name):
            return build_from_config(config, num_classes)
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"network.pretrained true: the weights of {config.network.name} cannot be loaded "
            f"({one_line(error, first=True)}); give network.pretrained the path of a .pth or .safetensors file of "
            "backbone weights, or false for random weights"
        ) from error


def _build(config: Config, num_classes: int, *, pretrained: bool) -> nn.Module:
    try:
        return build_from_config(config, num_classes, pretrained=pretrained)
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{_named(config)} cannot be built: {_reason(config, error)}") from error


def check_crops(config: Config, network: nn.Module, num_classes: int, *, channels: int, images: int) -> None:
    """Run a network on noise of the training size. Weights, statistics and random generators do not change.

    Args:
        config: `data.crop_size`, `training.freeze`, and the name and options of the network for messages.
        network: The plain network; it is left in train mode.
        num_classes: Number of classes K that its output must have.
        channels: Channels of the images.
        images: Images of a training batch in one process.

    Raises:
        ValueError: The network refuses such a batch, gives another number of classes, or gives probabilities.
    """
    network.train()
    for module in frozen_modules(network, config.training.freeze):
        module.eval()
    crop = (channels, *config.data.crop_size)
    batch = (min(images, 2), *crop)
    trial = _Trial(network, partial(_run_crops, num_classes=num_classes))
    error = trial.error_at(batch)
    if error is not None:
        what = f"{images} training crop{'s' if images > 1 else ''} of {_shown(config.data.crop_size)}"
        advice = "choose another data.crop_size or other network.options"
        if images == 1 and trial.error_at((2, *crop)) is None:
            advice = "use a training.batch_size of 2 or more for each process"
        raise ValueError(f"{_named(config)} cannot run on {what}: {_reason(config, error)}; {advice}") from error
    network.eval()
    _refuse_probabilities(config, network, batch)
    network.train()


def check_images(config: Config, network: nn.Module, *, channels: int, shapes: Sequence[tuple[int, ...]]) -> None:
    """Run a network on noise at the sizes of validation images, at most thirty of them.

    Args:
        config: `data.short_side`, `validation`, and the name and options of the network for messages.
        network: The plain network; it is left in train mode.
        channels: Channels of the images.
        shapes: (H, W) of the images.

    Raises:
        ValueError: The network refuses one of the sizes.
    """
    network.eval()
    trial = _Trial(network, partial(_run_image, config=config))
    chosen = shapes[:: -(-len(shapes) // _SIZES_AT_MOST)]
    for height, width in dict.fromkeys([*chosen, *shapes[-1:]]):
        error = trial.error_at((1, channels, height, width))
        if error is not None:
            raise ValueError(
                f"{_named(config)} cannot run on a validation image of {height} x {width}: {_reason(config, error)}; "
                "use a network that takes any size, or another data.short_side or validation.tile"
            ) from error
    network.train()


class _Trial:
    """Runs a copy of a network on noise: large images without values, or with values if that is not supported."""

    def __init__(self, network: nn.Module, run: Callable[[nn.Module, Tensor], None]) -> None:
        self.network = network
        self.run = run
        self.copy_on = cache(lambda device: copy.deepcopy(network).to(device))

    def error_at(self, shape: tuple[int, ...]) -> Exception | None:
        """The exception of the network for images of shape (N, C, H, W), or None."""
        # without values the time does not grow with the images, but takes longer than that of few pixels
        large = shape[0] * shape[2] * shape[3] > _FEW_PIXELS
        device = torch.device("meta") if large else _device(self.network)
        try:
            self._run(self.copy_on(device), shape, device)
        except Exception:
            try:
                self._run(self.network, shape, _device(self.network))
            except MemoryError:
                raise
            except Exception as error:
                return error
        return None

    def _run(self, network: nn.Module, shape: tuple[int, ...], device: torch.device) -> None:
        with _unchanged(network):
            self.run(network, torch.randn(shape, device=device))


@torch.no_grad()
def _run_crops(network: nn.Module, images: Tensor, num_classes: int) -> None:
    channels = main_output(network(images)).shape[1]
    if channels != num_classes:
        raise ValueError(f"it gives {channels} channels for {num_classes} classes")


def _run_image(network: nn.Module, image: Tensor, config: Config) -> None:
    settings, short_side = config.validation.model_dump(), config.data.short_side
    # noise needs no normalisation
    Predictor(network, (0.0,), (1.0,), short_side=short_side, device=None, **settings).class_maps(image)


@torch.no_grad()
def _refuse_probabilities(config: Config, network: nn.Module, shape: tuple[int, ...]) -> None:
    with _unchanged(network):
        output = main_output(network(torch.randn(shape, device=_device(network)))).float()
    if bool((output >= 0).all()) and bool(torch.allclose(output.sum(1), torch.ones(()).to(output), atol=1e-3)):
        raise ValueError(
            f"{_named(config)} gives probabilities, and the losses take logits; remove its activation "
            "(network.options.activation for segmentation_models_pytorch)"
        )


@contextmanager
def _unchanged(network: nn.Module) -> Iterator[None]:
    """Restore statistics and random generators at the end."""
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
    """The first line of an error; for custom code also where it was raised."""
    reason = one_line(error, first=True)
    if not runs_own_code(config.network.name):
        return reason
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {reason} ({Path(frame.filename).name}, line {frame.lineno})"


def _shown(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
