"""Weights of a trained network on disk, as safetensors."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from selfreg.files import whole_file
from selfreg.input_files import WEIGHTS_LIMIT, check_file
from selfreg.messages import one_line
from selfreg.networks.pretrained import faulty


def write_weights(path: Path, network: nn.Module, num_classes: int) -> None:
    """Write the weights of a network with its number of classes, whole or not at all."""
    # tensors that share memory (tied weights) must be separate for safetensors
    state = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in network.state_dict().items()}
    with whole_file(path) as temporary:
        # written here, because Python reports a full disk as an OSError and safetensors does not
        temporary.write_bytes(save(state, metadata={"num_classes": str(num_classes)}))


def read_weights(path: Path, network: nn.Module, num_classes: int) -> nn.Module:
    """Load weights into a network; every parameter and buffer must be in the file.

    Args:
        path: A safetensors file that `write_weights` wrote.
        network: The network to fill.
        num_classes: Number of classes of the run.

    Returns:
        `network`.

    Raises:
        ValueError: If the file is missing, damaged, holds values that are not finite, belongs to another number of
            classes, or does not fit the network.
    """
    if not path.exists():
        raise ValueError(f"{path}: no weights yet; train for at least one epoch")
    try:
        check_file(path, WEIGHTS_LIMIT)
        with safe_open(path, framework="pt") as file:
            stored = (file.metadata() or {}).get("num_classes")
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"{path}: cannot be read as safetensors ({one_line(error)}); train again or use another file"
        ) from None
    if stored is not None and stored != str(num_classes):
        raise ValueError(
            f"{path}: holds {stored[:20]} classes, but the run's data have {num_classes}; use weights and run.json of "
            "one run"
        )
    strange = faulty(network.state_dict(), state)
    if strange:
        raise ValueError(
            f"{path}: NaN, infinity or another kind of number in {strange[0]} and {len(strange) - 1} more; train "
            "again or use another file"
        )
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path}: does not fit the network of config.yaml: {one_line(error)}") from None
    return network
