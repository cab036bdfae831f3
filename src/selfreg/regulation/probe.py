"""One forward pass on a noise image: what every module returns, and how to read stride, channels and layout off it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from selfreg.messages import one_line
from selfreg.regulation.tap import Tap

MAX_STRIDE = 64
MAX_TOKEN_STRIDE = 32
MAX_PREFIX_TOKENS = 8
MAX_LOST_CELLS = 8
"""At most so many rows and columns does a feature map lack where convolutions are not padded."""


def observe(network: nn.Module, names: list[str], image_size: tuple[int, int]) -> tuple[list[Tap], Any]:
    """Run the network once and describe every feature map that the named modules return.

    Args:
        network: Any segmentation network; it is left as it was.
        names: Modules to look at.
        image_size: (height, width) in pixels. A square one is widened first: on a square an output (N, 128, 128, 128)
            could be NCHW as well as NHWC. A size that the network declares as the only one comes before it, other
            sizes that it declares come after it.

    Returns:
        The descriptions in order of execution, and what the network returned.

    Raises:
        ValueError: If the network refuses all sizes.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def record(name: str, output: Any) -> None:
        for path, tensor in flatten(name, output):
            shapes.setdefault(path, tuple(tensor.shape))

    size, result = run_at_some_size(network, names, image_size, record, shapes.clear)
    patches = _patch_sizes(network)
    taps = (_describe(name, shape, size, patches) for name, shape in shapes.items())
    return [tap for tap in taps if tap is not None], result


def run_at_some_size(
    network: nn.Module,
    names: list[str],
    image_size: tuple[int, int],
    record: Callable[[str, Any], None],
    forget: Callable[[], None],
    images: Callable[[nn.Module, tuple[int, int, int]], Tensor] | None = None,
    *,
    gradients: bool = False,
) -> tuple[tuple[int, int], Any]:
    """Run the network once on noise, at the first of the sizes of `observe` that it takes.

    Args:
        network: Any segmentation network; it is left as it was.
        names: Modules whose outputs are reported to `record`.
        image_size: (height, width) in pixels.
        record: Called with a module's name and its output.
        forget: Called before each try.
        images: Makes the images from the network and (C, H, W); one image of noise by default.
        gradients: Whether the run builds an autograd graph.

    Returns:
        The (height, width) that the network took, and what it returned.

    Raises:
        ValueError: If the network refuses all sizes.
    """
    images = images or (lambda network, shape: noise(network, (1, *shape)))
    errors: list[str] = []
    for channels, size in product(_input_channels(network), _sizes(network, image_size)):
        forget()
        try:
            return size, _dry_run(network, names, images(network, (channels, *size)), record, gradients)
        except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
            errors.append(f"{size[0]} x {size[1]}: {one_line(error, first=True)}")
    declared = ", ".join(f"({height}, {width})" for height, width in _declared_sizes(network))
    advice = f"; the network declares image_size={declared}" if declared else ""
    tried = "; ".join(dict.fromkeys(errors))
    kind = type(network).__name__
    raise ValueError(f"{kind} refuses the dry run ({tried}): give an image_size that it accepts{advice}")


def _dry_run(
    network: nn.Module, names: list[str], images: Tensor, record: Callable[[str, Any], None], gradients: bool
) -> Any:
    """Run once in eval mode, reporting the named modules' outputs; leave the network as it was."""

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            record(name, output)

        return hook

    modules = dict(network.named_modules())
    training = {module: module.training for module in network.modules()}
    handles = [modules[name].register_forward_hook(hook_for(name)) for name in names]
    try:
        network.eval()
        with torch.set_grad_enabled(gradients):
            return network(images)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode


def noise(network: nn.Module, shape: tuple[int, int, int, int], seed: int = 0) -> Tensor:
    """Standard normal images (N, C, H, W) on the device and in the dtype of the network."""
    floating = (parameter for parameter in network.parameters() if parameter.is_floating_point())
    parameter = next(floating, torch.empty(0))
    dtype = parameter.dtype
    images = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return images.to(device=parameter.device, dtype=dtype)


def _input_channels(network: nn.Module) -> list[int]:
    """Channels to try: those of the first convolution, which need not be the first one that runs, and 3."""
    convolution = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    return [3] if convolution is None else list(dict.fromkeys([convolution.in_channels, 3]))


def _sizes(network: nn.Module, image_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Sizes of the noise image, in the order in which they are tried."""
    height, width = image_size
    given = [(height, width + 64), image_size] if height == width else [image_size]
    declared = _declared_sizes(network)
    sizes = [*declared, *given] if _has_fixed_size(network) else [*given, *declared]
    return list(dict.fromkeys(sizes))


def _has_fixed_size(network: nn.Module) -> bool:
    """Whether a timm model declares its size as the only one that it takes."""
    strict = [module.strict_img_size for module in network.modules() if hasattr(module, "strict_img_size")]
    if strict:
        return any(strict)
    return any(config.get("fixed_input_size") for config in _timm_configs(network))


def _timm_configs(network: nn.Module) -> list[Mapping[str, Any]]:
    """What timm's models know of themselves (`pretrained_cfg`)."""
    found = (getattr(module, "pretrained_cfg", None) for module in network.modules())
    return [config for config in found if isinstance(config, Mapping)]


def _declared_sizes(network: nn.Module) -> list[tuple[int, int]]:
    """Image sizes that the network, its patch embedding or its timm model declares."""
    candidates = [getattr(getattr(module, "config", None), "image_size", None) for module in network.modules()]
    candidates += [getattr(module, "img_size", None) for module in network.modules()]
    candidates += [tuple(config.get("input_size", ()))[1:] for config in _timm_configs(network)]
    sizes: list[tuple[int, int]] = []
    for size in candidates:
        if isinstance(size, int):
            size = (size, size)
        if isinstance(size, (tuple, list)) and len(size) == 2 and all(isinstance(side, int) for side in size):
            sizes.append((int(size[0]), int(size[1])))
    return list(dict.fromkeys(sizes))


def flatten(name: str, output: Any) -> Iterable[tuple[str, Tensor]]:
    """The tensors of a module's output, each with the name of a tap on it."""
    if isinstance(output, Tensor):
        yield name, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from flatten(f"{name}@{key}", value)
    elif isinstance(output, (list, tuple)):
        for index, value in enumerate(output):
            yield from flatten(f"{name}@{index}", value)


def _patch_sizes(network: nn.Module) -> set[int]:
    """Strides of convolutions that cut an image into patches: as large as their square kernels."""
    convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    return {int(conv.stride[0]) for conv in convolutions if conv.kernel_size == conv.stride == (conv.stride[0],) * 2}


def _describe(name: str, shape: tuple[int, ...], image_size: tuple[int, int], patches: set[int]) -> Tap | None:
    """Read stride, channels and layout off an output's shape; None if it is no feature map."""
    if 0 in shape:
        return None
    if len(shape) == 4:
        readings = [
            Tap(name, stride, channels, layout)
            for layout, grid, channels in (("NCHW", shape[2:], shape[1]), ("NHWC", shape[1:3], shape[3]))
            if (stride := _stride(grid, image_size)) is not None
        ]
        # (1, 4, 8, 16) of an image of 64 x 128 can be either: the stride of patches decides, then the usual layout
        return min(readings, key=lambda tap: tap.stride not in patches, default=None)
    if len(shape) == 3:
        return _describe_tokens(name, shape, image_size, patches)
    return None


def _stride(grid: tuple[int, ...], image_size: tuple[int, int]) -> int | None:
    stride = max(1, round(image_size[0] / grid[0]))
    fits = all(abs(size / stride - cells) <= 1 for size, cells in zip(image_size, grid, strict=True))
    if not fits or stride & (stride - 1):
        stride = _unpadded_stride(grid, image_size) or (stride if fits else MAX_STRIDE + 1)
    return stride if stride <= MAX_STRIDE else None


def _unpadded_stride(grid: tuple[int, ...], image_size: tuple[int, int]) -> int | None:
    """The stride of a map that lacks as many rows as columns, since convolutions before it are not padded."""
    if image_size[0] == image_size[1]:  # any square map lacks as many rows as columns
        return None
    for stride in (2, 4, 8, 16, 32):
        lost = [size / stride - cells for size, cells in zip(image_size, grid, strict=True)]
        most = min(MAX_LOST_CELLS, min(image_size) / stride / 2)
        if all(0 < cells <= most for cells in lost) and abs(lost[0] - lost[1]) <= 1:
            return stride
    return None


def _describe_tokens(name: str, shape: tuple[int, ...], image_size: tuple[int, int], patches: set[int]) -> Tap | None:
    """The stride at which tokens fill the grid: that of patches first, else the one with the fewest tokens to spare.

    Of two that spare as many, the one that divides the image comes first.
    """
    found = []
    for stride in range(2, MAX_TOKEN_STRIDE + 1):
        prefix = shape[1] - (image_size[0] // stride) * (image_size[1] // stride)
        divides = image_size[0] % stride == 0 and image_size[1] % stride == 0
        if 0 <= prefix <= MAX_PREFIX_TOKENS:
            found.append((stride not in patches, prefix, not divides, stride))
    if not found:
        return None
    _, prefix, _, stride = min(found)
    grid = image_size[0] // stride, image_size[1] // stride
    return Tap(name, stride, shape[2], "NLC", prefix, grid=grid)
