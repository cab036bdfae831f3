"""The wrapper: a network whose stages carry exits while it trains, and nothing at all afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from selfreg.regulation.exits import BuildExit, build_exits
from selfreg.regulation.graph import Traced, trace
from selfreg.regulation.mask_classification import network_loss
from selfreg.regulation.options import DEFAULT_EXITS, PROBE_SIZE, ExitForm
from selfreg.regulation.outputs import ExitOutputs, main_output
from selfreg.regulation.own_map import find_own_map, is_sole_source
from selfreg.regulation.recording import Record, carries_hooks, image_size_of, install_hooks, refuse_detached, stage_of
from selfreg.regulation.tap import Tap
from selfreg.regulation.taps import Taps, check_order, find_taps, module_of, warn_of_untapped_heads


class MultiExit(nn.Module):
    """A segmentation network with exits on its stages: N - 1 taps, and the network's own output as exit N.

    In train mode `forward` returns `ExitOutputs`; in eval mode exactly what the network returns, and no exit runs.
    Arguments of `forward` go to the network unchanged. `exit_outputs` gives all exits in either mode. `release` returns
    the network itself, without hooks.

    The state dict holds `network.*` and `exits.*`; `exits.i` belongs to tap i, the last one to the network's own
    output. Wrap in `MultiExit` first, then compile, then wrap in `DistributedDataParallel`.

    Args:
        network: Any module whose result `main_output` understands.
        num_classes: K, at least 2.
        taps: `"auto"` (see `find_taps`), names of modules, or what `find_taps` returns, or a part of it; shallow first.
        exits: Form of the exits. `"separable"`: a 1 x 1 and a depthwise 3 x 3 convolution, 32 wide, at stride 4 or
            coarser (this project's). `"dense"`: a 1 x 1 and two dense 3 x 3, 64 wide, at stride 4 or coarser (this
            project's). `"authors"`: two dense 3 x 3, 256 wide, on the stage's own grid. Or a callable that takes a
            `Tap` and K and gives a module from features (N, C, h, w) to logits (N, K, h', w').
        exit_width: Channels inside an exit, by default those above; a multiple of 4 for `separable` and `dense`.
        features: Give `ExitOutputs.features` too, which the variant `feature` needs.
        image_size: (height, width) in pixels of the noise image on which the network is run once, to measure the taps.

    Raises:
        ValueError: If a tap does not exist or has other channels than its `Tap` says, the taps are listed deep before
            shallow, the network has another number of classes or carries exits already, or the exits are unknown or do
            not fit their width.
        TypeError: If a tap is neither a name nor a `Tap`, or the callable `exits` gives no module.

    Examples:
        >>> import selfreg, torch
        >>> network = selfreg.build_network("timm:resnet10t", num_classes=3)
        >>> model = selfreg.MultiExit(network, num_classes=3, taps=["backbone.layer1", "backbone.layer3"])
        >>> outputs = model.train()(torch.randn(2, 3, 64, 96))
        >>> [tuple(class_map.shape) for class_map in outputs.class_maps]
        [(2, 3, 16, 24), (2, 3, 4, 6), (2, 3, 64, 96)]
        >>> model.release() is network
        True

    Source: the multi-exit architecture of the paper (its method figure); `authors` exits follow the authors'
    demonstration code, the other forms are this project's.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        taps: Literal["auto"] | Sequence[str | Tap] = "auto",
        *,
        exits: ExitForm | BuildExit = DEFAULT_EXITS,
        exit_width: int | None = None,
        features: bool = False,
        image_size: tuple[int, int] = PROBE_SIZE,
    ) -> None:
        super().__init__()
        if isinstance(network, MultiExit) or carries_hooks(network):
            raise ValueError("the network already carries exits: call release() on its MultiExit, before it is copied")
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, not {num_classes}")
        # first, so that the runs after it undo what a network keeps of the weights that it changes
        self._own_map = find_own_map(network, num_classes, image_size)
        self.own_map = None if self._own_map is None else self._own_map.name
        self.taps, traced = _resolve(network, num_classes, taps, image_size)
        self._runs = dict(traced.runs)
        self._plain_taps: tuple[Tap, ...] = tuple(self.taps)  # torch.compile cannot iterate over a subclass of tuple
        self.num_classes = num_classes
        self.features = features
        self.network = network
        self.exits = build_exits(self._plain_taps, num_classes, exits, exit_width, features)
        parameter = next((each for each in network.parameters() if each.is_floating_point()), None)
        if parameter is not None:
            self.exits.to(device=parameter.device, dtype=parameter.dtype)
        self.released = False
        self._record = Record()
        names = [module_of(tap.name) for tap in self.taps]
        self._handles = install_hooks(network, names + ([self.own_map] if self.own_map else []), self._record)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the network: `ExitOutputs` in train mode, in eval mode what the network returns.

        Raises:
            RuntimeError: As `exit_outputs`, in train mode.
        """
        return self.exit_outputs(*args, **kwargs) if self.training else self.network(*args, **kwargs)

    def exit_outputs(self, *args: Any, **kwargs: Any) -> ExitOutputs:
        """Run the network and all exits, in train or eval mode alike, to watch every exit in validation.

        Args:
            args: Positional arguments of the network.
            kwargs: Keyword arguments of the network.

        Returns:
            The outputs of all exits, shallow to deep, the network's own output last.

        Raises:
            RuntimeError: If the wrapper was released or replicated by `DataParallel`, the forward pass did not run a
                tap as often as the dry run, a tap gave no feature map, or it ran without gradients inside reentrant
                activation checkpointing.
        """
        if self.released:
            raise RuntimeError("this MultiExit was released: use its network, or wrap that again")
        if getattr(self, "_is_replica", False):
            raise RuntimeError("DataParallel runs the network in threads that would share what is recorded: use DDP")
        record = self._record
        record.start()
        try:
            result = self.network(*args, **kwargs)
            image_size = image_size_of(args, kwargs)
            stages = [stage_of(tap, record, image_size, self._runs[module_of(tap.name)]) for tap in self._plain_taps]
            if record.detached:
                refuse_detached(self.network, self._plain_taps, stages, record)
            output = main_output(result)
            own_map = self._own_map_of(record, output)
        finally:
            record.stop()
        stages.append(output if own_map is None else own_map)
        given = [exit_(stage) for exit_, stage in zip(self.exits, stages, strict=True)]
        return ExitOutputs(
            class_maps=[class_map for class_map, _, _ in given[:-1]] + [output],
            image_logits=[image_logits for _, image_logits, _ in given],
            features=[features for _, _, features in given] if self.features else [],
            own_map=own_map,
            network_loss=network_loss(result),
        )

    def _own_map_of(self, record: Record, output: Tensor) -> Tensor | None:
        """The output before its upsampling; None where the pass computes it in another way than the dry run."""
        if self._own_map is None:
            return None
        runs = record.runs(self._own_map.name)
        found = runs[self._own_map.run] if len(runs) == self._own_map.runs else None
        if not isinstance(found, Tensor) or found.ndim != 4 or found.shape[1] != self.num_classes:
            return None
        return found if is_sole_source(found, output) else None

    def release(self) -> nn.Module:
        """Return the network, the same object, without hooks; this wrapper does not train any more."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.released = True
        return self.network


def _resolve(
    network: nn.Module, num_classes: int, taps: str | Sequence[str | Tap], image_size: tuple[int, int]
) -> tuple[Taps, Traced]:
    chosen = find_taps(network, image_size, names=None if taps == "auto" else taps)
    traced = trace(network, list(dict.fromkeys(module_of(name) for name in chosen.names)), image_size)
    check_order(chosen, traced)
    warn_of_untapped_heads(network, num_classes, traced)
    if not isinstance(taps, Taps):
        return chosen, traced
    for given, measured in zip(taps, chosen, strict=True):
        of_given, of_measured = ((tap.channels, tap.stride, tap.layout) for tap in (given, measured))
        if of_given != of_measured:
            raise ValueError(
                f"tap {given.name!r} has channels, stride and layout {of_measured}, not {of_given}: let find_taps "
                "measure this network"
            )
    return taps, traced
