"""Initial weights of a network from another run."""

from collections.abc import Sequence

from torch import Tensor, nn

from selfreg.config import Config
from selfreg.input_files import user_path
from selfreg.run import Run
from selfreg.training.network_check import build_checked


def load_from_run(network: nn.Module, config: Config, class_names: Sequence[str]) -> str:
    """Load the last weights of the run `network.from_run` into a network of the same name, in place.

    Tensors whose shape depends on the number of classes (the last layer) are copied class by class: classes that both
    runs have keep their weights, the others keep the initial weights of `network`.

    Args:
        network: The new network, of `len(class_names)` classes.
        config: The configuration of the new run.
        class_names: Its classes, in order.

    Returns:
        One line that says what was loaded and which classes are new.

    Raises:
        ValueError: The folder contains no run, or a run of another network.
    """
    if config.network.from_run is None:
        raise ValueError("network.from_run names no run")
    run = Run.open(user_path(config.network.from_run))
    other, own = run.config().network, config.network
    if (other.name, other.options) != (own.name, own.options):
        raise ValueError(
            f"network.from_run {run.folder}: its network is {other.name} {other.options}, "
            f"not {own.name} {own.options}; give both runs the same network.name and network.options"
        )
    names = run.info().class_names
    trained = run.load_weights(build_checked(run.config(), len(names), pretrained=False), "last").state_dict()
    by_class = _tensors_of_classes(config, network, len(class_names))
    kept = [name for name in class_names if name in names]
    state = network.state_dict()
    for key, tensor in state.items():
        # copying would broadcast a tensor of another shape without a word
        if key not in by_class and trained[key].shape != tensor.shape:
            raise ValueError(
                f"network.from_run {run.folder}: its {key} has shape {tuple(trained[key].shape)}, not "
                f"{tuple(tensor.shape)}; give both runs the same data.bands (here {config.data.bands}, there "
                f"{run.config().data.bands})"
            )
    for key, tensor in state.items():
        if key not in by_class:
            tensor.copy_(trained[key])
            continue
        for name in kept:
            tensor[class_names.index(name)].copy_(trained[key][names.index(name)])
    new = [name for name in class_names if name not in names]
    told = f"{run.folder}: loaded {len(state) - len(by_class)} tensors, and {len(kept)} of {len(class_names)} classes"
    layers = ", ".join(sorted({key.rpartition(".")[0] for key in by_class}))
    return told + (f"; new in {layers}: {', '.join(new)}" if new else "")


def _tensors_of_classes(config: Config, network: nn.Module, num_classes: int) -> set[str]:
    """Names of the tensors with one row per class: those whose size depends on the number of classes."""
    larger = build_checked(config, num_classes + 1, pretrained=False).state_dict()
    state: dict[str, Tensor] = network.state_dict()
    grown = {key for key, tensor in state.items() if tensor.shape != larger[key].shape}
    for key in grown:
        rows, expected = larger[key].shape, (num_classes + 1, *state[key].shape[1:])
        if tuple(rows) != expected:
            raise ValueError(
                f"network.from_run: {key} of {config.network.name} has shape {tuple(state[key].shape)}, which is not "
                "one row for each class; start from pretrained weights instead"
            )
    return grown
