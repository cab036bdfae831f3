"""Recording what the tapped modules return in one forward pass, and bringing it to (N, C, h, w)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from selfreg.regulation.tap import Tap
from selfreg.regulation.taps import module_of, select_element


class Record:
    """The outputs of the tapped modules in one forward pass; empty outside of it.

    An object rather than a closure, so that `copy.deepcopy` of a wrapper gives the copy's hooks a record of their own.
    """

    def __init__(self) -> None:
        self.active = False
        self.needs_gradient = False
        self.outputs: dict[str, list[Any]] = {}
        """Outputs of each module, one per run."""
        self.detached: dict[str, list[Any]] = {}
        """Outputs of runs without gradients although the forward pass has them."""

    def start(self) -> None:
        """Begin to record; outputs of an earlier pass are dropped."""
        self.stop()
        self.needs_gradient = torch.is_grad_enabled()
        self.active = True

    def stop(self) -> None:
        """End recording and drop everything."""
        self.active = False
        self.outputs.clear()
        self.detached.clear()

    def runs(self, module_name: str) -> list[Any]:
        """What a module returned in each run of this pass; those without gradients only where there are no others."""
        return self.outputs.get(module_name) or self.detached.get(module_name, [])


class RecordingHook:
    """A forward hook that appends a module's outputs to a record.

    Recomputation under activation checkpointing happens in the backward pass, when the record is not active.
    """

    def __init__(self, record: Record, module_name: str) -> None:
        self.record = record
        self.module_name = module_name

    def __call__(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if not self.record.active:
            return
        detached = self.record.needs_gradient and not torch.is_grad_enabled()
        kept = self.record.detached if detached else self.record.outputs
        kept.setdefault(self.module_name, []).append(output)


def install_hooks(network: nn.Module, names: list[str], record: Record) -> list[RemovableHandle]:
    """Let the named modules of a network write into a record."""
    modules = dict(network.named_modules())
    return [modules[name].register_forward_hook(RecordingHook(record, name)) for name in dict.fromkeys(names)]


def carries_hooks(network: nn.Module) -> bool:
    """Whether a recording hook is installed anywhere in a network."""
    hooks = (hook for module in network.modules() for hook in module._forward_hooks.values())
    return any(isinstance(hook, RecordingHook) for hook in hooks)


def refuse_detached(network: nn.Module, taps: Sequence[Tap], stages: Sequence[Tensor], record: Record) -> None:
    """Raise RuntimeError for taps that were taken without gradients although the network trains there.

    It does if the tapped module, or what encloses a module without parameters, trains; or, of a frozen module, if what
    encloses it trains and a shallower tap has gradients. A module that is itself what is checkpointed has its gradients
    back when the forward pass ends.

    Args:
        network: The network.
        taps: Its taps.
        stages: What `stage_of` gave for each.
        record: Of the forward pass.
    """
    shallower_trains = False
    for tap, stage in zip(taps, stages, strict=True):
        name = module_of(tap.name)
        detached = name in record.detached and name not in record.outputs and not stage.requires_grad
        enclosing = name.rpartition(".")[0]
        inside_of_what_trains = shallower_trains and enclosing != "" and _trains(network, enclosing)
        if detached and (inside_of_what_trains or _trains(network, name)):
            raise RuntimeError(
                f"the tapped module {name!r} ran without gradients, so that its exit would not train the "
                "network: pass use_reentrant=False to activation checkpointing (for transformers: "
                "gradient_checkpointing_kwargs={'use_reentrant': False}), or tap a module outside of it"
            )
        shallower_trains = shallower_trains or stage.requires_grad


def _trains(network: nn.Module, name: str) -> bool:
    """Whether a module, or the next enclosing one that has parameters, has some that train."""
    parameters = list(network.get_submodule(name).parameters())
    while not parameters and name:
        name = name.rpartition(".")[0]
        parameters = list(network.get_submodule(name).parameters())
    return any(parameter.requires_grad for parameter in parameters)


def stage_of(tap: Tap, record: Record, image_size: tuple[int, int] | None, dry_runs: list[bool]) -> Tensor:
    """Give a tap's feature map as (N, C, h, w), from the first run of its module that has gradients in training.

    The first run, because a network that sees several scales sees the full one first.

    Args:
        tap: The tap.
        record: Of the forward pass.
        image_size: (height, width) of the images, needed by taps of tokens alone.
        dry_runs: Whether each run of the module in the dry run had gradients.

    Raises:
        RuntimeError: If the pass did not run the tap, ran it several times and not as often as the dry run, so that
            several runs could be that of the labelled images, or it gave no feature map.
    """
    runs = record.runs(module_of(tap.name))
    if not runs:
        raise RuntimeError(
            f"the forward pass did not run the tap {tap.name!r}: exchange modules (batch norms, fused layers, "
            "adapters) before the network is wrapped in MultiExit"
        )
    first, expected = (0, sum(dry_runs)) if record.needs_gradient else (dry_runs.index(True), len(dry_runs))
    candidates = [runs[first]] if len(runs) == expected else runs
    if len(candidates) > 1:
        candidates = [run for run in runs if _has_full_size(run, tap, image_size)]
    if len(candidates) != 1:
        raise RuntimeError(
            f"the forward pass ran the tap {tap.name!r} {len(runs)} times, the dry run on one image {expected}, so "
            "that it is not known which run saw the labelled images: give forward these alone, and run the network "
            "on others outside of it (`model.network(...)`)"
        )
    output = select_element(candidates[0], tap.name)
    if not isinstance(output, Tensor):
        raise RuntimeError(f"tap {tap.name!r} gave a {type(output).__name__}, not a tensor")
    if tap.layout == "NHWC":
        return output.permute(0, 3, 1, 2)
    if tap.layout == "NLC":
        return _tokens_to_grid(output, tap, image_size)
    return output


def _has_full_size(output: Any, tap: Tap, image_size: tuple[int, int] | None) -> bool:
    """Whether a feature map is that of the images themselves, and not of another scale of them."""
    output = select_element(output, tap.name)
    if image_size is None or not isinstance(output, Tensor) or output.ndim != 4:
        return True
    grid = output.shape[2:] if tap.layout == "NCHW" else output.shape[1:3]
    return all(abs(size / tap.stride - cells) <= 1 for size, cells in zip(image_size, grid, strict=True))


def image_size_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int] | None:
    """The (height, width) of the first (N, C, H, W) tensor among the arguments of a forward pass, if there is one."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.ndim == 4:
            return value.shape[2], value.shape[3]
    return None


def _tokens_to_grid(tokens: Tensor, tap: Tap, image_size: tuple[int, int] | None) -> Tensor:
    if image_size is None:
        raise RuntimeError("taps of tokens need the images (N, C, H, W) among the arguments of forward")
    batch, length, channels = tokens.shape
    length -= tap.prefix_tokens
    for height, width in (
        (image_size[0] // tap.stride, image_size[1] // tap.stride),
        (-(-image_size[0] // tap.stride), -(-image_size[1] // tap.stride)),
        *([tap.grid] if tap.grid else []),
    ):
        if height * width == length:
            grid = tokens[:, tap.prefix_tokens :].transpose(1, 2)
            return grid.reshape(batch, channels, height, width)
    raise RuntimeError(f"tap {tap.name!r}: {length} tokens do not form a grid of stride {tap.stride} on {image_size}")
