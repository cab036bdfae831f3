"""Where a network can be tapped: its stages, shallow to deep, as names of modules.

A tap's name is the module's name in `network.named_modules()`; `@i` picks the i-th element of a module that returns a
list or tuple ("encoder@2"), `@key` the entry of one that returns a mapping. Family knowledge (attribute names, never
imports) proposes modules; a dry run measures what they return; without family knowledge the dry run proposes, too.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

MAX_STRIDE = 32
MAX_PREFIX_TOKENS = 8
AUTO_TAPS = 4


@dataclass(frozen=True)
class Tap:
    """One place where a stage's output is taken.

    name: module name, with `@i` for an element of its output; stride: input pixels per output cell; channels: C;
    layout: "NCHW", "NHWC" or "NLC" (tokens); prefix_tokens: class and register tokens ahead of the grid (NLC only);
    is_class_map: the output is a class map already (an auxiliary head), so that its exit adds no classifier.
    """

    name: str
    stride: int
    channels: int
    layout: str
    prefix_tokens: int = 0
    is_class_map: bool = False


class Taps(tuple[Tap, ...]):
    """The chosen taps, shallow to deep; `str()` of it is a table of name, stride, channels and layout."""

    __slots__ = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The taps' names, shallow to deep."""
        return tuple(tap.name for tap in self)

    def __str__(self) -> str:
        rows = [("tap", "stride", "channels", "layout")]
        rows += [(tap.name, str(tap.stride), str(tap.channels), tap.layout) for tap in self]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return "\n".join(
            f"{name:<{widths[0]}}  {stride:>{widths[1]}}  {channels:>{widths[2]}}  {layout}"
            for name, stride, channels, layout in rows
        )


def find_taps(network: nn.Module, image_size: tuple[int, int] = (512, 512), names: Sequence[str] | None = None) -> Taps:
    """Find a network's stages, shallow to deep: four at most, one per (stride, channels).

    names: take exactly these taps and measure them; without names the network's own declaration is believed (an
    attribute `taps`, a tuple of names), else family knowledge and a dry run choose. image_size: (height, width) of
    the dry run, which runs the network once in eval mode, without gradient, on zeros; the network is left as it was.

    Raises ValueError for a name that does not exist (near names are offered), a name given twice, a module that returns
    nothing usable, and a network that refuses the dry run.
    """
    declared = getattr(network, "taps", None)
    if names is None and _is_names(declared):
        names = declared
    taps = _choose(network, image_size) if names is None else _measure_names(network, list(names), image_size)
    class_maps = getattr(network, "class_map_taps", ())
    return Taps(
        Tap(tap.name, tap.stride, tap.channels, tap.layout, tap.prefix_tokens, tap.name in class_maps) for tap in taps
    )


def check_names(network: nn.Module, names: Iterable[str]) -> None:
    """Refuse tap names whose module does not exist, offering near ones, and names given twice, with ValueError."""
    known = [name for name, _ in network.named_modules() if name]
    names = list(names)
    if not names:
        raise ValueError("no taps: name at least one module")
    for name in names:
        module_name = name.split("@")[0]
        if module_name not in known:
            last = module_name.rsplit(".", 1)[-1]
            near = difflib.get_close_matches(module_name, known, n=3, cutoff=0.5)
            near = near or [other for other in known if other.rsplit(".", 1)[-1] == last][:3]
            hint = f"; near names: {', '.join(near)}" if near else ""
            raise ValueError(f"tap {name!r}: the network has no module {module_name!r}{hint}")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"tap {twice[0]!r} is given twice")


def pick(output: Any, name: str) -> Any:
    """Follow the `@i` parts of a tap's name into a module's output; raises ValueError where they lead nowhere."""
    for key in name.split("@")[1:]:
        try:
            output = output[int(key)] if isinstance(output, (list, tuple)) else output[key]
        except (IndexError, KeyError, TypeError, ValueError):
            raise ValueError(f"tap {name!r}: the module's {type(output).__name__} has no element {key!r}") from None
    return output


# --- measuring -------------------------------------------------------------------------------------------------------


def _measure_names(network: nn.Module, names: list[str], image_size: tuple[int, int]) -> list[Tap]:
    check_names(network, names)
    modules = dict.fromkeys(name.split("@")[0] for name in names)
    found = {tap.name: tap for tap in _observe(network, list(modules), image_size)}
    for name in names:
        if name not in found:
            elements = [other for other in found if other.startswith(name + "@")]
            hint = f"; name an element: {', '.join(elements)}" if elements else ""
            raise ValueError(f"tap {name!r} gave no feature map in the dry run{hint}")
    return [found[name] for name in names]


def _observe(network: nn.Module, names: list[str], image_size: tuple[int, int]) -> list[Tap]:
    """Dry-run the network and describe every feature map that the named modules return, in order of execution.

    A square size is widened first: on a square a (N, 128, 128, 128) output could be NCHW as well as NHWC.
    """
    height, width = image_size
    sizes = [(height, width + 64)] if height == width else []
    sizes += [image_size, *_declared_sizes(network)]
    errors = []
    for size in sizes:
        try:
            shapes = _dry_run(network, names, size)
        except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
            errors.append(
                f"{size[0]} x {size[1]}: {str(error).strip().splitlines()[0] if str(error).strip() else error!r}"
            )
            continue
        taps = (_describe(name, shape, size) for name, shape in shapes)
        return [tap for tap in taps if tap is not None]
    raise ValueError(
        f"{type(network).__name__} refuses the dry run ({'; '.join(errors)}): give an image_size that it accepts"
    )


def _dry_run(network: nn.Module, names: list[str], image_size: tuple[int, int]) -> list[tuple[str, tuple[int, ...]]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def record(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            for path, tensor in _flatten(name, output):
                shapes.setdefault(path, tuple(tensor.shape))

        return hook

    modules = dict(network.named_modules())
    training = {module: module.training for module in network.modules()}
    handles = [modules[name].register_forward_hook(record(name)) for name in names]
    try:
        network.eval()
        with torch.no_grad():
            network(_blank_image(network, image_size))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    return list(shapes.items())


def _blank_image(network: nn.Module, image_size: tuple[int, int]) -> Tensor:
    convolution = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    channels = 3 if convolution is None else convolution.in_channels
    parameter = next(network.parameters(), torch.empty(0))
    dtype = parameter.dtype if parameter.is_floating_point() else torch.float32
    return torch.zeros(1, channels, *image_size, device=parameter.device, dtype=dtype)


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
    best: Tap | None = None
    for stride in range(2, MAX_STRIDE + 1):
        prefix = shape[1] - (image_size[0] // stride) * (image_size[1] // stride)
        if 0 <= prefix <= MAX_PREFIX_TOKENS and (best is None or prefix < best.prefix_tokens):
            best = Tap(name, stride, shape[2], "NLC", prefix)
    return best


# --- choosing --------------------------------------------------------------------------------------------------------


def _choose(network: nn.Module, image_size: tuple[int, int]) -> list[Tap]:
    names = family_modules(network)
    taps = [] if not names else _select(_observe(network, names, image_size))
    if not taps:
        everything = [name for name, _ in network.named_modules() if name]
        taps = _select(_before_decoder(_observe(network, everything, image_size)))
    if not taps:
        raise ValueError(
            f"no stages found in {type(network).__name__}: name taps, for instance taps=('layer1', 'layer2')"
        )
    return taps


def family_modules(network: nn.Module) -> list[str] | None:
    """Name the modules whose outputs are a known family's stages, or None: attributes alone, nothing imported."""
    modules = dict(network.named_modules())
    if "encoder" in modules and "segmentation_head" in modules:  # segmentation_models_pytorch
        return ["encoder"]
    for prefix, module in modules.items():
        if hasattr(module, "feature_info"):  # timm
            return _timm_modules(modules, prefix, module)
    for prefix, module in modules.items():
        dot = f"{prefix}." if prefix else ""
        if isinstance(module, nn.ModuleDict) and prefix == "backbone":  # torchvision
            return [f"{dot}{name}" for name, _ in module.named_children()]
        if f"{dot}layer1" in modules and f"{dot}layer3" in modules:  # a ResNet
            return [f"{dot}{name}" for name, _ in module.named_children() if not isinstance(module, nn.ModuleDict)]
    for prefix, module in modules.items():  # transformers, and whoever keeps stages in a list
        is_list = isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module) >= 3
        if is_list and prefix.rsplit(".", 1)[-1] in ("stages", "layers", "layer", "blocks", "block"):
            return [f"{prefix}.{name}" for name, _ in module.named_children()]
    return None


def _timm_modules(modules: dict[str, nn.Module], prefix: str, module: nn.Module) -> list[str]:
    """The backbone itself if it returns its features as a list, and the modules that its feature_info names."""
    dot = f"{prefix}." if prefix else ""
    info: Any = module.feature_info
    entries = info if isinstance(info, list) else [info[index] for index in range(len(info))]
    named = [f"{dot}{entry['module']}" for entry in entries if isinstance(entry, Mapping) and "module" in entry]
    known = [name for name in dict.fromkeys(named) if name in modules]
    return ([prefix] if prefix else []) + known


def _before_decoder(taps: list[Tap]) -> list[Tap]:
    """Cut an order of execution where resolution comes back: what follows is a decoder or a pyramid."""
    kept: list[Tap] = []
    for tap in taps:
        if kept and tap.stride < kept[-1].stride:
            break
        if tap.stride & (tap.stride - 1) == 0:
            kept.append(tap)
    return kept


def _select(taps: list[Tap]) -> list[Tap]:
    """Keep the end of each stage: the last tap of each stride, and at the last stride the last of each channel count.

    At most four, the shallowest first, as in the authors' demonstration (conv1, layer1, layer2, layer3; the output
    itself is the deepest stage). A network of one stride and width (a plain vision transformer) gives four evenly
    spaced.
    """
    elements = [tap for tap in taps if "@" in tap.name]
    listed = [tap for tap in elements if tap.name.split("@")[0] == elements[0].name.split("@")[0]]
    taps = [tap for tap in (listed or taps) if 2 <= tap.stride <= MAX_STRIDE]
    if not taps:
        return []
    if len({(tap.stride, tap.channels) for tap in taps}) == 1 and len(taps) > AUTO_TAPS:
        return [taps[(index + 1) * len(taps) // AUTO_TAPS - 1] for index in range(AUTO_TAPS)]
    coarsest = max(tap.stride for tap in taps)
    stages: dict[tuple[int, int], Tap] = {}
    for tap in taps:
        key = (tap.stride, tap.channels if tap.stride == coarsest else 0)
        stages.pop(key, None)
        stages[key] = tap
    return list(stages.values())[:AUTO_TAPS]


def _is_names(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and bool(value) and all(isinstance(name, str) for name in value)
