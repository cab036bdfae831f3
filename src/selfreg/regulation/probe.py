"""One forward pass on a noise image: what every module returns, and how to read stride, channels and layout off it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfreg.messages import one_line
from selfreg.regulation.outputs import main_output
from selfreg.regulation.tap import Tap

MAX_STRIDE = 32
MAX_PREFIX_TOKENS = 8


def observe(network: nn.Module, names: list[str], image_size: tuple[int, int]) -> tuple[list[Tap], Any]:
    """Run the network once and describe every feature map that the named modules return.

    Args:
        network: Any segmentation network; it is left as it was.
        names: Modules to look at.
        image_size: (height, width) in pixels. A square one is widened first: on a square an output (N, 128, 128, 128)
            could be NCHW as well as NHWC. Sizes that the network itself declares come last.

    Returns:
        The descriptions in order of execution, and what the network returned.

    Raises:
        ValueError: If the network refuses all sizes.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def record(name: str, output: Any) -> None:
        for path, tensor in _flatten(name, output):
            shapes.setdefault(path, tuple(tensor.shape))

    size, result = _run_at_some_size(network, names, image_size, record, shapes.clear)
    taps = (_describe(name, shape, size) for name, shape in shapes.items())
    return [tap for tap in taps if tap is not None], result


def find_own_map(network: nn.Module, num_classes: int, image_size: tuple[int, int]) -> tuple[str, int] | None:
    """Find the module that gives the network's class map before its final upsampling.

    The last output (N, K, h, w) of any module that, upsampled bilinearly, is the network's output: found by one run in
    eval mode and checked by value. Self-regulation compares the own output there, which saves tensors at label
    resolution.

    Args:
        network: Any segmentation network; it is left as it was.
        num_classes: K.
        image_size: (height, width) of the noise image, in pixels.

    Returns:
        The module's name and the number of the run that gives the map (0 unless the module runs several times in one
        forward pass), or None where there is no such module.

    Raises:
        ValueError: If the network gives another number of classes.
    """
    maps: list[tuple[str, int, Tensor]] = []
    runs: Counter[str] = Counter()

    def record(name: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[1] == num_classes:
            maps.append((name, runs[name], output))
        runs[name] += 1

    def forget() -> None:
        maps.clear()
        runs.clear()

    names = [name for name, _ in network.named_modules() if name]
    _, result = _run_at_some_size(network, names, image_size, record, forget)
    full = main_output(result)
    if full.shape[1] != num_classes:
        raise ValueError(f"{type(network).__name__} gives {full.shape[1]} classes, not num_classes = {num_classes}")
    for name, run, class_map in reversed(maps):
        if class_map.shape[2] < full.shape[2] and class_map.shape[3] < full.shape[3] and _upsamples_to(class_map, full):
            return name, run
    return None


def _upsamples_to(class_map: Tensor, full: Tensor) -> bool:
    tolerance = max(1e-3, 2 * torch.finfo(full.dtype).eps)
    class_map, full = class_map.float(), full.float()
    for align_corners in (False, True):
        size = (full.shape[2], full.shape[3])
        upsampled = F.interpolate(class_map, size=size, mode="bilinear", align_corners=align_corners)
        if torch.allclose(upsampled, full, rtol=tolerance, atol=0.1 * tolerance * float(full.std())):
            return True
    return False


def _run_at_some_size(
    network: nn.Module,
    names: list[str],
    image_size: tuple[int, int],
    record: Callable[[str, Any], None],
    forget: Callable[[], None],
) -> tuple[tuple[int, int], Any]:
    height, width = image_size
    sizes = [(height, width + 64)] if height == width else []
    sizes += [image_size, *_declared_sizes(network)]
    errors = []
    for size in sizes:
        forget()
        try:
            return size, _dry_run(network, names, size, record)
        except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
            errors.append(f"{size[0]} x {size[1]}: {one_line(error, first=True)}")
    tried = "; ".join(errors)
    raise ValueError(f"{type(network).__name__} refuses the dry run ({tried}): give an image_size that it accepts")


def _dry_run(
    network: nn.Module, names: list[str], image_size: tuple[int, int], record: Callable[[str, Any], None]
) -> Any:
    """Run once in eval mode without gradient, reporting the named modules' outputs; leave the network as it was."""

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            record(name, output)

        return hook

    modules = dict(network.named_modules())
    training = {module: module.training for module in network.modules()}
    handles = [modules[name].register_forward_hook(hook_for(name)) for name in names]
    try:
        network.eval()
        with torch.no_grad():
            return network(_noise_image(network, image_size))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode


def _noise_image(network: nn.Module, image_size: tuple[int, int]) -> Tensor:
    convolution = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    channels = 3 if convolution is None else convolution.in_channels
    parameter = next(network.parameters(), torch.empty(0))
    dtype = parameter.dtype if parameter.is_floating_point() else torch.float32
    noise = torch.randn(1, channels, *image_size, generator=torch.Generator().manual_seed(0))
    return noise.to(device=parameter.device, dtype=dtype)


def _declared_sizes(network: nn.Module) -> list[tuple[int, int]]:
    """Image sizes that the network or its patch embedding declares (vision transformers of one size)."""
    sizes: list[tuple[int, int]] = []
    candidates = [getattr(getattr(network, "config", None), "image_size", None)]
    candidates += [getattr(module, "img_size", None) for module in network.modules()]
    for size in candidates:
        if isinstance(size, int):
            size = (size, size)
        if isinstance(size, (tuple, list)) and len(size) == 2 and tuple(size) not in sizes:
            sizes.append((int(size[0]), int(size[1])))
    return sizes


def _flatten(name: str, output: Any) -> Iterable[tuple[str, Tensor]]:
    if isinstance(output, Tensor):
        yield name, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from _flatten(f"{name}@{key}", value)
    elif isinstance(output, (list, tuple)):
        for index, value in enumerate(output):
            yield from _flatten(f"{name}@{index}", value)


def _describe(name: str, shape: tuple[int, ...], image_size: tuple[int, int]) -> Tap | None:
    """Read stride, channels and layout off an output's shape; None if it is no feature map of 2 to 32 strides."""
    if 0 in shape:
        return None
    if len(shape) == 4:
        for layout, grid, channels in (("NCHW", shape[2:], shape[1]), ("NHWC", shape[1:3], shape[3])):
            stride = _stride(grid, image_size)
            if stride is not None:
                return Tap(name, stride, channels, layout)
    if len(shape) == 3:
        return _describe_tokens(name, shape, image_size)
    return None


def _stride(grid: tuple[int, ...], image_size: tuple[int, int]) -> int | None:
    stride = max(1, round(image_size[0] / grid[0]))
    fits = all(abs(size / stride - cells) <= 1 for size, cells in zip(image_size, grid, strict=True))
    return stride if fits and stride <= MAX_STRIDE else None


def _describe_tokens(name: str, shape: tuple[int, ...], image_size: tuple[int, int]) -> Tap | None:
    """The stride at which the tokens fill the grid with the fewest to spare; one that divides the image comes first."""
    found = []
    for stride in range(2, MAX_STRIDE + 1):
        prefix = shape[1] - (image_size[0] // stride) * (image_size[1] // stride)
        divides = image_size[0] % stride == 0 and image_size[1] % stride == 0
        if 0 <= prefix <= MAX_PREFIX_TOKENS:
            found.append((prefix, not divides, stride))
    if not found:
        return None
    prefix, _, stride = min(found)
    return Tap(name, stride, shape[2], "NLC", prefix)
