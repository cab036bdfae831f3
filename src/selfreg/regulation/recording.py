"""Recording what the tapped modules return in one forward pass, and bringing it to (N, C, h, w)."""

from __future__ import annotations

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
        self.detached: list[str] = []
        """Modules that ran without gradients although the forward pass has them."""

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

    def run(self, module_name: str, index: int) -> Any:
        """What a module returned in its run number `index` of this pass.

        Raises:
            RuntimeError: If the module did not run that often.
        """
        runs = self.outputs.get(module_name, [])
        if len(runs) <= index:
            raise RuntimeError(
                f"the forward pass ran the module {module_name!r} {len(runs)} times; its exit needs run {index + 1}"
            )
        return runs[index]


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
        self.record.outputs.setdefault(self.module_name, []).append(output)
        if self.record.needs_gradient and not torch.is_grad_enabled():
            self.record.detached.append(self.module_name)


def install_hooks(network: nn.Module, names: list[str], record: Record) -> list[RemovableHandle]:
    """Let the named modules of a network write into a record."""
    modules = dict(network.named_modules())
    return [modules[name].register_forward_hook(RecordingHook(record, name)) for name in dict.fromkeys(names)]


def carries_hooks(network: nn.Module) -> bool:
    """Whether a recording hook is installed anywhere in a network."""
    hooks = (hook for module in network.modules() for hook in module._forward_hooks.values())
    return any(isinstance(hook, RecordingHook) for hook in hooks)


def refuse_detached(network: nn.Module, detached: list[str]) -> None:
    """Raise RuntimeError for modules that ran without gradients although they, or what encloses them, train."""
    for name in detached:
        parameters = list(network.get_submodule(name).parameters())
        while not parameters and name:
            name = name.rpartition(".")[0]
            parameters = list(network.get_submodule(name).parameters())
        if any(parameter.requires_grad for parameter in parameters):
            raise RuntimeError(
                f"the tapped module {detached[0]!r} ran without gradients, so that its exit would not train the "
                "network: pass use_reentrant=False to activation checkpointing (for transformers: "
                "gradient_checkpointing_kwargs={'use_reentrant': False}), or tap a module outside of it"
            )


def stage_of(tap: Tap, record: Record, image_size: tuple[int, int] | None) -> Tensor:
    """Give a tap's feature map as (N, C, h, w), from the first run of its module.

    The first run, because a network that sees several scales sees the full one first.

    Args:
        tap: The tap.
        record: Of the forward pass.
        image_size: (height, width) of the images, needed by taps of tokens alone.

    Raises:
        RuntimeError: If the pass did not run the tap, or it gave no feature map.
    """
    module_name = module_of(tap.name)
    if module_name not in record.outputs:
        raise RuntimeError(f"the forward pass did not run the tap {tap.name!r}")
    output = select_element(record.run(module_name, 0), tap.name)
    if not isinstance(output, Tensor):
        raise RuntimeError(f"tap {tap.name!r} gave a {type(output).__name__}, not a tensor")
    if tap.layout == "NHWC":
        return output.permute(0, 3, 1, 2)
    if tap.layout == "NLC":
        return _tokens_to_grid(output, tap, image_size)
    return output


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
