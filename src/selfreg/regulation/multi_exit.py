"""The wrapper: a network whose stages carry exits while it trains, and nothing at all afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from selfreg.regulation.exits import ClassMapExit, Exit
from selfreg.regulation.outputs import ExitOutputs, main_output
from selfreg.regulation.probe import find_own_map
from selfreg.regulation.tap import Tap
from selfreg.regulation.taps import Taps, check_names, find_taps, pick

FINEST_STRIDE = 4


class _Record:
    """What the hooks of one wrapper write into, while a training forward pass is under way and never else.

    An object rather than a closure, so that `copy.deepcopy` of the wrapper gives the copy's hooks their own record.
    """

    def __init__(self) -> None:
        self.active = False
        self.outputs: dict[str, Any] = {}


class _Hook:
    """A forward hook that keeps a module's first output of a forward pass.

    The first, because a network that runs at several scales runs at the full one first, and because recomputation under
    activation checkpointing must not overwrite.
    """

    def __init__(self, record: _Record, module_name: str) -> None:
        self.record = record
        self.module_name = module_name

    def __call__(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        if self.record.active and self.module_name not in self.record.outputs:
            self.record.outputs[self.module_name] = output


class MultiExit(nn.Module):
    """A segmentation network with exits on its stages: N - 1 taps, and the network's own output as exit N.

    In train mode `forward` returns `ExitOutputs`; in eval mode exactly what the network returns, and no exit runs.
    Arguments of `forward` go to the network as they are. `release()` gives the network back.

    network: any nn.Module that `main_output` understands. num_classes: K. taps: "auto" (see `find_taps`), names of
    modules, shallow to deep, or `Taps`. width: channels inside an exit. features: give `ExitOutputs.features` too
    (the variant `feature` needs them). image_size: (height, width) of the dry run that measures the taps.

    The state dict holds `network.*` and `exits.*`; `exits.i` belongs to tap i, the last to the network's own output.
    Wrap in MultiExit first, then compile, then DistributedDataParallel. No class map is finer than a quarter of the
    image.

    Raises ValueError for tap names that do not exist, a network of another number of classes and one that already
    carries exits.
    Source: the paper's multi-exit architecture (method figure); the form of the exits is this project's.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        taps: Literal["auto"] | Sequence[str] | Taps = "auto",
        *,
        width: int = 32,
        features: bool = False,
        image_size: tuple[int, int] = (128, 192),
    ) -> None:
        super().__init__()
        if isinstance(network, MultiExit) or any(_hooks_of(module) for module in network.modules()):
            raise ValueError("the network already carries exits: call release() on its MultiExit first")
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, not {num_classes}")
        if width < 4 or width % 4:
            raise ValueError(f"width must be a multiple of 4, not {width}")
        self.taps = _resolve(network, taps, image_size)
        self._plain_taps = tuple(self.taps)  # torch.compile of torch 2.6 cannot iterate over a subclass of tuple
        self.num_classes = num_classes
        self.features = features
        self.network = network
        self.exits = nn.ModuleList(_build_exit(tap, num_classes, width, features) for tap in self.taps)
        self.exits.append(ClassMapExit(num_classes, width if features else None))
        parameter = next(network.parameters(), None)
        if parameter is not None:
            self.exits.to(device=parameter.device, dtype=parameter.dtype)
        self.own_map = find_own_map(network, num_classes, image_size)
        self.released = False
        self._record = _Record()
        self._handles = self._install()

    def _install(self) -> list[RemovableHandle]:
        modules = dict(self.network.named_modules())
        names = dict.fromkeys(tap.name.split("@")[0] for tap in self.taps)
        if self.own_map is not None:
            names[self.own_map] = None
        return [modules[name].register_forward_hook(_Hook(self._record, name)) for name in names]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network: `ExitOutputs` in train mode, in eval mode what the network returns.

        Raises RuntimeError if the forward pass did not reach a tap, or it gave no feature map.
        """
        if not self.training:
            return self.network(*args, **kwargs)
        if self.released:
            raise RuntimeError("this MultiExit was released: use its network, or wrap that again")
        record = self._record
        record.outputs.clear()
        record.active = True
        try:
            result = self.network(*args, **kwargs)
            stages = [_stage(tap, record.outputs, args, kwargs) for tap in self._plain_taps]
            own_map = None if self.own_map is None else record.outputs[self.own_map]
        finally:
            record.active = False
            record.outputs.clear()
        output = main_output(result)
        stages.append(output if own_map is None else own_map)
        given = [exit_(stage) for exit_, stage in zip(self.exits, stages, strict=True)]
        return ExitOutputs(
            class_maps=[class_map for class_map, _, _ in given[:-1]] + [output],
            image_logits=[image_logits for _, image_logits, _ in given],
            features=[features for _, _, features in given] if self.features else [],
            own_map=own_map,
        )

    def release(self) -> nn.Module:
        """Give the network back, the same object, without hooks; this wrapper does not train any more."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.released = True
        return self.network


def _hooks_of(module: nn.Module) -> list[_Hook]:
    return [hook for hook in module._forward_hooks.values() if isinstance(hook, _Hook)]


def _resolve(network: nn.Module, taps: str | Sequence[str] | Taps, image_size: tuple[int, int]) -> Taps:
    if isinstance(taps, Taps):
        check_names(network, taps.names)
        return taps
    if isinstance(taps, str):
        return find_taps(network, image_size, names=None if taps == "auto" else (taps,))
    return find_taps(network, image_size, names=taps)


def _build_exit(tap: Tap, num_classes: int, width: int, features: bool) -> nn.Module:
    if tap.is_class_map and tap.channels != num_classes:
        raise ValueError(f"class map tap {tap.name!r} has {tap.channels} channels, not the {num_classes} classes")
    if tap.is_class_map:
        return ClassMapExit(num_classes, width if features else None)
    return Exit(tap.channels, num_classes, width, step=max(1, FINEST_STRIDE // tap.stride))


def _stage(tap: Tap, outputs: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Give a tap's feature map as (N, C, h, w)."""
    module_name = tap.name.split("@")[0]
    if module_name not in outputs:
        raise RuntimeError(f"the forward pass did not run the tap {tap.name!r}")
    output = pick(outputs[module_name], tap.name)
    if not isinstance(output, Tensor):
        raise RuntimeError(f"tap {tap.name!r} gave a {type(output).__name__}, not a tensor")
    if tap.layout == "NHWC":
        return output.permute(0, 3, 1, 2)
    if tap.layout == "NLC":
        return _tokens_to_grid(output, tap, _image_size(args, kwargs))
    return output


def _image_size(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int]:
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor) and value.ndim == 4:
            return value.shape[2], value.shape[3]
    raise RuntimeError("taps of tokens need the image (N, C, H, W) among the arguments of forward")


def _tokens_to_grid(tokens: Tensor, tap: Tap, image_size: tuple[int, int]) -> Tensor:
    batch, length, channels = tokens.shape
    length -= tap.prefix_tokens
    for height, width in (
        (image_size[0] // tap.stride, image_size[1] // tap.stride),
        (-(-image_size[0] // tap.stride), -(-image_size[1] // tap.stride)),
    ):
        if height * width == length:
            grid = tokens[:, tap.prefix_tokens :].transpose(1, 2)
            return grid.reshape(batch, channels, height, width)
    raise RuntimeError(f"tap {tap.name!r}: {length} tokens do not form a grid of stride {tap.stride} on {image_size}")
