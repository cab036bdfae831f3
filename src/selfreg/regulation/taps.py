"""Where a network can be tapped: its stages, shallow to deep, as names of modules.

A tap's name is the module's name in `network.named_modules()`; `@i` picks the i-th element of a module that returns a
list or tuple ("encoder@2"), `@key` the entry of one that returns a mapping. Family knowledge (attribute names, never
imports) proposes modules; a dry run measures what they return; without family knowledge the dry run proposes, too.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import nn

from selfreg.regulation.outputs import main_output
from selfreg.regulation.probe import observe
from selfreg.regulation.tap import Tap

AUTO_TAPS = 4


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
    the dry run, which runs the network once in eval mode, without gradient, on noise; the network is left as it was.

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


def _measure_names(network: nn.Module, names: list[str], image_size: tuple[int, int]) -> list[Tap]:
    check_names(network, names)
    modules = dict.fromkeys(name.split("@")[0] for name in names)
    found = {tap.name: tap for tap in observe(network, list(modules), image_size)[0]}
    for name in names:
        if name not in found:
            elements = [other for other in found if other.startswith(name + "@")]
            hint = f"; name an element: {', '.join(elements)}" if elements else ""
            raise ValueError(f"tap {name!r} gave no feature map in the dry run{hint}")
    return [found[name] for name in names]


# --- choosing --------------------------------------------------------------------------------------------------------


def _choose(network: nn.Module, image_size: tuple[int, int]) -> list[Tap]:
    modules = dict(network.named_modules())
    seen, result = observe(network, [name for name in modules if name], image_size)
    for proposal in (*_proposals(modules), None):
        taps = _select(_before_decoder(seen, result) if proposal is None else _proposed(seen, proposal))
        if len(taps) > 1:
            return taps
    raise ValueError(
        f"no stages found in {type(network).__name__}: name its taps, for instance taps=('layer1', 'layer2')"
    )


def _proposals(modules: dict[str, nn.Module]) -> Iterator[list[str]]:
    """Propose modules whose outputs are a known family's stages, by attribute names alone: nothing is imported."""
    for prefix, module in modules.items():
        dot = f"{prefix}." if prefix else ""
        if f"{dot}encoder" in modules and f"{dot}segmentation_head" in modules:  # segmentation_models_pytorch
            yield [f"{dot}encoder"]
        if prefix and hasattr(module, "out_features") and hasattr(module, "stage_names"):  # a backbone of transformers
            yield [f"{prefix}@feature_maps"]
        if f"{dot}transition1" in modules and f"{dot}stage4" in modules:  # HRNet: the branch that each stage adds
            yield [f"{dot}{name}" for name in ("act1", "layer1", "stage2@1", "stage3@2", "stage4@3")]
        if hasattr(module, "feature_info"):  # timm
            if prefix:
                yield [prefix]
            yield _timm_modules(modules, dot, module.feature_info)
        if isinstance(module, nn.ModuleDict) and prefix.endswith("backbone"):  # torchvision
            yield [f"{prefix}.{name}" for name, _ in module.named_children()]
        if f"{dot}layer1" in modules and f"{dot}layer3" in modules:  # a ResNet
            names = ("relu", "act1", "layer1", "layer2", "layer3", "layer4")
            yield [f"{dot}{name}" for name in names if f"{dot}{name}" in modules]
    for prefix, module in modules.items():  # transformers, and whoever keeps stages in a list
        is_list = isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module) > 1
        if is_list and prefix.rsplit(".", 1)[-1] in ("stages", "layers", "layer", "blocks", "block"):
            yield [f"{prefix}.{name}{_last_inside(child)}" for name, child in module.named_children()]


def _last_inside(stage: nn.Module) -> str:
    """Of a stage that is a bare list of blocks, which is never run itself, the last block."""
    return f".{len(stage) - 1}" if isinstance(stage, nn.ModuleList) else ""


def _timm_modules(modules: dict[str, nn.Module], dot: str, info: Any) -> list[str]:
    """The modules that a timm network's feature_info names; a features-only network renames or wraps them."""
    entries = info if isinstance(info, list) else getattr(info, "info", [])
    names = dict.fromkeys(entry["module"] for entry in entries if "module" in entry)
    spelled = ((f"{dot}{name}", f"{dot}{name.replace('.', '_')}", f"{dot}model.{name}") for name in names)
    return [next(name for name in names if name in modules) for names in spelled if any(n in modules for n in names)]


def _proposed(seen: list[Tap], proposal: list[str]) -> list[Tap]:
    """What the proposed modules returned: all elements of a single one, of several the first element of each."""
    taps: list[Tap] = []
    for name in proposal:
        own = [tap for tap in seen if tap.name == name or tap.name.startswith(f"{name}@")]
        taps += own if len(proposal) == 1 else own[:1]
    return taps


def _before_decoder(seen: list[Tap], result: Any) -> list[Tap]:
    """Cut the order of execution where resolution comes back: a decoder or pyramid follows. Class maps are left out."""
    num_classes = main_output(result).shape[1]
    kept: list[Tap] = []
    for tap in seen:
        if tap.stride & (tap.stride - 1) or tap.channels == num_classes:
            continue
        if kept and tap.stride < kept[-1].stride:
            break
        kept.append(tap)
    return kept


def _select(taps: list[Tap]) -> list[Tap]:
    """Keep the end of each stage: the last tap of each stride, and at the last stride the last of each channel count.

    At most four, the shallowest first, as in the authors' demonstration (conv1, layer1, layer2, layer3; the output
    itself is the deepest stage). A network of one stride and width (a plain vision transformer) gives four evenly
    spaced.
    """
    taps = [tap for tap in taps if tap.stride >= 2]
    if len({(tap.stride, tap.channels) for tap in taps}) == 1:
        count = min(AUTO_TAPS, len(taps))
        return [taps[(index + 1) * len(taps) // count - 1] for index in range(count)]
    coarsest = max((tap.stride for tap in taps), default=0)
    stages: dict[tuple[int, int], Tap] = {}
    for tap in taps:
        key = (tap.stride, tap.channels if tap.stride == coarsest else 0)
        stages.pop(key, None)
        stages[key] = tap
    return list(stages.values())[:AUTO_TAPS]


def _is_names(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and bool(value) and all(isinstance(name, str) for name in value)
