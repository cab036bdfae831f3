"""Choosing the stages of a network: by the attribute names of known families, or by the strides of one run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from selfreg.regulation.outputs import main_output
from selfreg.regulation.probe import observe
from selfreg.regulation.spatial_order import out_of_order
from selfreg.regulation.tap import Tap

AUTO_TAPS = 4


def choose_stages(network: nn.Module, image_size: tuple[int, int]) -> list[Tap]:
    """Choose at most four stages of a network, shallow to deep; see `find_taps`.

    Raises:
        ValueError: If no two stages are found.
    """
    modules = dict(network.named_modules())
    seen, result = observe(network, [name for name in modules if name], image_size)
    num_classes = main_output(result).shape[1]
    candidates = [_proposed(seen, proposal) for proposal in _proposals(modules)]
    candidates += [_before_decoder(seen, num_classes, powers=True), _before_decoder(seen, num_classes, powers=False)]
    scattered: list[str] = []
    for taps in (_select(candidate) for candidate in candidates):
        found = out_of_order(network, taps, image_size) if len(taps) > 1 else []
        if len(taps) > 1 and not found:
            return taps
        scattered += found
    why = f" (the tokens of {scattered[0]!r} do not lie row by row)" if scattered else ""
    raise ValueError(
        f"no stages found in {type(network).__name__}{why}: name its taps, for instance taps=('layer1', 'layer2')"
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
    """What the proposed modules returned: all elements of a single one, of several the first element of each.

    Blocks with more tokens than the ones before them hold queries, too (EoMT), and are left out.
    """
    taps: list[Tap] = []
    for name in proposal:
        own = [tap for tap in seen if tap.name == name or tap.name.startswith(f"{name}@")]
        taps += own if len(proposal) == 1 else own[:1]
    return [tap for tap in taps if tap.layout != "NLC" or tap.stride >= taps[0].stride]


def _before_decoder(seen: list[Tap], num_classes: int, *, powers: bool) -> list[Tap]:
    """Cut the order of execution where resolution comes back: a decoder or pyramid follows. Class maps are left out.

    With `powers`, strides that are no power of two are left out, too: most of them come from pooling to a fixed grid.
    """
    kept: list[Tap] = []
    for tap in seen:
        if (powers and tap.stride & (tap.stride - 1)) or tap.channels == num_classes:
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
