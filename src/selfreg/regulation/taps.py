"""Where a network can be tapped: its stages, shallow to deep, as names of modules.

A tap's name is the module's name in `network.named_modules()`; `@i` selects the i-th element of a module that returns a
list or tuple ("encoder@2"), `@key` the entry of one that returns a mapping. The attribute names of known families
propose modules (nothing is imported), and one run on noise measures what they return; for other networks that run
proposes them, too.
"""

from __future__ import annotations

import difflib
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

from torch import nn

from selfreg.regulation.choosing import choose_stages
from selfreg.regulation.graph import Traced, trace, untrained_heads
from selfreg.regulation.options import PROBE_SIZE
from selfreg.regulation.outputs import main_output
from selfreg.regulation.probe import observe
from selfreg.regulation.spatial_order import out_of_order
from selfreg.regulation.tap import Tap

# attributes that hold an auxiliary head in torchvision and in transformers
_AUXILIARY_HEADS = ("aux_classifier", "auxiliary_head")


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


def find_taps(
    network: nn.Module, image_size: tuple[int, int] = PROBE_SIZE, names: Sequence[str | Tap] | None = None
) -> Taps:
    """Find a network's stages, shallow to deep: those that it declares, or at most four, and its auxiliary heads.

    The network is run once in eval mode, without gradient, on noise, and left as it was. Without `names`, its own
    declaration is used (an attribute `taps`, a tuple of names); without one, the end of each stage is chosen by the
    attribute names of known families and by the strides that the run measures.

    Args:
        network: Any segmentation network.
        image_size: (height, width) of the noise image, in pixels.
        names: Take exactly these modules, or those of these taps, in this order; `"encoder@2"` is element 2 of what the
            module returns.

    Returns:
        The taps; `str()` of them is a table.

    Raises:
        ValueError: If a name does not exist (similar names are suggested) or is given twice, a module returns no
            feature map, or the network refuses the noise image.
        TypeError: If a name is neither a name nor a `Tap`.

    Examples:
        >>> import selfreg
        >>> network = selfreg.build_network("timm:resnet10t", num_classes=3)
        >>> print(selfreg.find_taps(network, image_size=(64, 96)))
        tap       stride  channels  layout
        stages.0       2        64  NCHW
        stages.1       4        64  NCHW
        stages.2       8       128  NCHW
        stages.3      16       256  NCHW
        stages.4      32       512  NCHW
    """
    declared = getattr(network, "taps", None)
    if names is None and _is_names(declared):
        names = declared
    if names is not None:
        class_maps = _class_map_names(network)
        measured = _measure_names(network, _names_of(names), image_size)
        return Taps(replace(tap, is_class_map=tap.name in class_maps) for tap in measured)
    heads = auxiliary_taps(network, image_size)
    found = [tap for tap in choose_stages(network, image_size) if tap.name not in heads.names]
    if heads:
        traced = trace(network, [module_of(tap.name) for tap in (*found, *heads)], image_size)
    for head in heads:
        later = [index for index, tap in enumerate(found) if traced.depends(tap.name, on=head.name)]
        found.insert(min(later, default=len(found)), head)
    return Taps(found)


def auxiliary_taps(network: nn.Module, image_size: tuple[int, int] = PROBE_SIZE) -> Taps:
    """Find auxiliary heads: modules that compute a class map in addition to the network's output.

    A network declares them in `class_map_taps`; those of torchvision and transformers are known by their attribute
    names. Without a loss of its own such a head would not be trained.

    Args:
        network: Any segmentation network.
        image_size: (height, width) of the noise image, in pixels.

    Returns:
        Their taps, with `is_class_map`; empty for most networks.
    """
    names = _class_map_names(network)
    if not names:
        return Taps()
    check_names(network, names)
    seen, result = observe(network, names, image_size)
    num_classes = main_output(result).shape[1]
    return Taps(replace(tap, is_class_map=True) for tap in seen if tap.name in names and tap.channels == num_classes)


def warn_of_untapped_heads(network: nn.Module, num_classes: int, traced: Traced) -> None:
    """Warn of auxiliary heads that are not among the taps (see `untrained_heads`): nothing trains them."""
    if hasattr(network, "class_map_taps"):
        return
    for name in untrained_heads(network, num_classes, traced):
        warnings.warn(
            f"the auxiliary head {name!r} has no part in the network's output in evaluation, and is not among the "
            "taps, so that no loss trains it, unless it has a part in training: add it to the taps, or build the "
            "network without it",
            stacklevel=4,
        )


def check_names(network: nn.Module, names: Iterable[str]) -> None:
    """Refuse tap names whose module does not exist, and names given twice.

    Raises:
        ValueError: For the first such name; similar ones are suggested.
    """
    known = [name for name, _ in network.named_modules() if name]
    names = list(names)
    if not names:
        raise ValueError("no taps: name at least one module")
    for name in names:
        module_name = module_of(name)
        if module_name not in known:
            last = module_name.rsplit(".", 1)[-1]
            near = difflib.get_close_matches(module_name, known, n=3, cutoff=0.5)
            near = near or [other for other in known if other.rsplit(".", 1)[-1] == last][:3]
            hint = f"; near names: {', '.join(near)}" if near else ""
            raise ValueError(f"tap {name!r}: the network has no module {module_name!r}{hint}")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"tap {twice[0]!r} is given twice")


def check_order(taps: Taps, traced: Traced) -> None:
    """Refuse taps that are listed deep before shallow, which would exchange teachers and students.

    A tap is deeper than another if it is computed from it. Of two that are not computed from each other, as those of
    parallel branches, the deeper one runs later and has the larger stride.

    Raises:
        ValueError: For the first tap that is shallower than one before it.
    """
    order = [module_of(name) for name in traced.outputs]

    def reversed_branches(tap: Tap, following: Tap) -> bool:
        if traced.depends(following.name, on=tap.name):
            return False
        first, second = order.index(module_of(tap.name)), order.index(module_of(following.name))
        return following.stride < tap.stride if first == second else second < first and following.stride <= tap.stride

    reversed_pairs = [pair for pair in combinations(taps, 2) if traced.depends(pair[0].name, on=pair[1].name)]
    for tap, following in (*reversed_pairs, *(pair for pair in pairwise(taps) if reversed_branches(*pair))):
        raise ValueError(
            f"tap {following.name!r} lies before {tap.name!r} in the network: list the taps shallow to deep"
        )


def module_of(name: str) -> str:
    """The name of a tap's module: the part before `@`."""
    return name.split("@")[0]


def select_element(output: Any, name: str) -> Any:
    """Follow the `@i` parts of a tap's name into a module's output.

    Raises:
        ValueError: If they lead nowhere.
    """
    for key in name.split("@")[1:]:
        try:
            output = output[int(key)] if isinstance(output, (list, tuple)) else output[key]
        except (IndexError, KeyError, TypeError, ValueError):
            raise ValueError(f"tap {name!r}: the module's {type(output).__name__} has no element {key!r}") from None
    return output


def _names_of(listed: Sequence[str | Tap]) -> list[str]:
    """Names of what a caller lists: names, one name, or taps."""
    listed = [listed] if isinstance(listed, str) else listed
    for tap in listed:
        if not isinstance(tap, (str, Tap)):
            raise TypeError(f"a tap is the name of a module or a Tap of find_taps, not a {type(tap).__name__}")
    return [tap.name if isinstance(tap, Tap) else tap for tap in listed]


def _measure_names(network: nn.Module, names: list[str], image_size: tuple[int, int]) -> list[Tap]:
    check_names(network, names)
    modules = dict.fromkeys(module_of(name) for name in names)
    found = {tap.name: tap for tap in observe(network, list(modules), image_size)[0]}
    for name in names:
        if name not in found:
            elements = [other for other in found if other.startswith(name + "@")]
            hint = f"; name an element: {', '.join(elements)}" if elements else ""
            raise ValueError(f"tap {name!r} gave no feature map in the dry run{hint}")
    taps = [found[name] for name in names]
    for name in out_of_order(network, taps, image_size):
        raise ValueError(
            f"tap {name!r} gives tokens that do not lie row by row (a change of one half of the image did not show in "
            "that half of them), so that no exit can compare them with labels: name another tap"
        )
    return taps


def _class_map_names(network: nn.Module) -> list[str]:
    """Modules that may compute additional class maps: declared, or known by their attribute names."""
    declared: Sequence[str] | None = getattr(network, "class_map_taps", None)
    if declared is not None:
        return list(declared)
    return [name for name in _AUXILIARY_HEADS if isinstance(getattr(network, name, None), nn.Module)]


def _is_names(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and bool(value) and all(isinstance(name, str) for name in value)
