"""Any semantic-segmentation network of transformers: by its model type, from a local folder, or from the hub."""

import importlib
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from selfreg.input_files import CONFIGURATION_LIMIT, WEIGHTS_LIMIT, check_file, read_text, user_path
from selfreg.messages import one_line
from selfreg.networks.options import check_options, check_timm_name, without_hub

UNSUITED = {
    "detr": "transformers trains it with boxes, not with label maps",
    "videomt": "it takes videos",
}
"""Model types that transformers lists for segmentation and that do not train on images and label maps, and why."""

Channels = tuple[float, float, float]

_LOADING_FIELDS = (
    "_attn_implementation",
    "attn_implementation",
    "auto_map",
    "backbone_kwargs",
    "quantization_config",
    "use_pretrained_backbone",
)
"""Fields with which a configuration would load or run something else; they are left out."""

_FIXED_FIELDS = ("backbone", "is_training", "use_auxiliary_head", "use_timm_backbone")
"""Fields that no option changes."""

_SEMANTIC_TASK = (49406, 518, 10549, 533, 29119, 1550, 49407)
"""CLIP's tokens of "the task is semantic", which OneFormer takes; zeros follow."""


def model_types() -> dict[str, str]:
    """Class names of transformers by model type, for all that segment images; empty without transformers."""
    try:
        auto: Any = importlib.import_module("transformers.models.auto.modeling_auto")
    except ImportError:
        return {}
    universal = auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES
    names = {**universal, **auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES}
    return {kind: name for kind, name in names.items() if kind not in UNSUITED}


def is_checkpoint(name: str) -> bool:
    """Whether a name means a folder or OWNER/NAME of the hub rather than a model type."""
    return "/" in name or name.startswith((".", "~")) or Path(name).is_dir()


def build_any(
    name: str, num_classes: int, pretrained: bool, options: dict[str, Any], image_size: tuple[int, int] | None
) -> nn.Module:
    """Build a network of transformers that is not among `selfreg.networks.huggingface.NAMES`.

    Args:
        name: A model type, a folder with `config.json`, or OWNER/NAME of the hub.
        num_classes: Number of classes K; a class layer of another number is made anew.
        pretrained: Load the weights of the folder or of the hub, safetensors alone. Without it nothing but the
            configuration is read, from the hub only if it has been downloaded before.
        options: Fields of the configuration with plain values.
        image_size: (height, width) of the training crops: a network of a model type is built for it.

    Returns:
        The network; its output has `logits` (N, K, h, w), or class and mask logits of queries.

    Raises:
        ValueError: If there is no such network, an option is unknown, or weights are missing.
    """
    spec = f"hf:{name}"
    fields = _read_configuration(spec, name) if is_checkpoint(name) else {"model_type": name}
    kind = fields.get("model_type")
    if kind in UNSUITED:
        raise ValueError(f"{spec}: a {kind} of transformers cannot be trained here: {UNSUITED[kind]}")
    if kind not in model_types():
        raise ValueError(f"{spec}: model type {kind!r} segments no images; known: {', '.join(sorted(model_types()))}")
    if pretrained and not is_checkpoint(name):
        raise ValueError(f"{spec} is a model type, which has no weights; name a folder or OWNER/NAME of the hub")
    transformers: Any = importlib.import_module("transformers")
    config_class = transformers.CONFIG_MAPPING[kind]
    given = _without_loading(spec, fields)
    base = config_class.from_dict(given)
    check_options(spec, options, _option_names(transformers, base), "field")
    if not is_checkpoint(name) and image_size is not None and hasattr(base, "image_size"):
        height, width = image_size
        options = {"image_size": height if height == width else [height, width], **options}
    changed = {
        "num_labels": num_classes,
        **({"use_auxiliary_head": False} if hasattr(base, "use_auxiliary_head") else {}),
    }
    # what was given alone: fields derived from others, such as the stages to give, follow the options
    known = {key: value for key, value in given.items() if key not in ("id2label", "label2id")}
    config = config_class.from_dict({**known, **changed, **options})
    if kind == "oneformer":
        config.is_training = False  # without the contrastive loss, which compares queries with texts
    model_class = getattr(transformers, model_types()[kind])
    network = (
        _with_weights(spec, name, model_class, config) if pretrained else _without_weights(spec, model_class, config)
    )
    if kind == "oneformer":
        network.register_forward_pre_hook(_SemanticTask(config.task_seq_len), with_kwargs=True)
    return network


def image_statistics(name: str) -> tuple[Channels, Channels] | None:
    """Mean and standard deviation that `preprocessor_config.json` of a folder or of the hub names, or None.

    Raises:
        ValueError: If the network takes images with blue first.
    """
    text = _find_text(name, "preprocessor_config.json")
    fields = {} if text is None else _as_mapping(f"hf:{name}", "preprocessor_config.json", text)
    if fields.get("do_flip_channel_order"):
        raise ValueError(f"hf:{name} takes images with blue first, which is not supported; choose another checkpoint")
    mean, std = fields.get("image_mean"), fields.get("image_std")
    if not (isinstance(mean, list) and isinstance(std, list) and len(mean) == len(std) == 3):
        return None
    return (float(mean[0]), float(mean[1]), float(mean[2])), (float(std[0]), float(std[1]), float(std[2]))


class _SemanticTask:
    """A pre-hook that tells OneFormer that the task is semantic segmentation, where the caller does not."""

    def __init__(self, length: int) -> None:
        self.tokens = (*_SEMANTIC_TASK, *[0] * length)[:length]

    def __call__(self, _network: nn.Module, args: Any, kwargs: Any) -> Any:
        images = args[0] if args else kwargs["pixel_values"]
        if len(args) > 1 or "task_inputs" in kwargs:
            return args, kwargs
        tokens = torch.tensor(self.tokens, device=images.device).expand(len(images), -1)
        return args, {**kwargs, "task_inputs": tokens}


def _without_weights(spec: str, model_class: Any, config: Any) -> nn.Module:
    try:
        return cast(nn.Module, model_class(config))
    except TypeError as error:
        # the default of some model types describes no decoder (sapiens2)
        raise ValueError(
            f"{spec}: transformers builds no {model_class.__name__} from this configuration "
            f"({one_line(error, first=True)}); give a folder with a complete config.json"
        ) from error


def _with_weights(spec: str, name: str, model_class: Any, config: Any) -> nn.Module:
    folder = _folder(name)
    if folder is not None:
        for path in sorted(folder.glob("*.safetensors")):
            check_file(path, WEIGHTS_LIMIT)
    # float32, since transformers would keep the type of the file
    given = {"dtype": torch.float32, "use_safetensors": True, "ignore_mismatched_sizes": True}
    try:
        with nullcontext() if folder is None else without_hub():
            network, found = model_class.from_pretrained(
                name if folder is None else folder,
                config=config,
                trust_remote_code=False,
                local_files_only=folder is not None,
                output_loading_info=True,
                **given,
            )
    except OSError as error:
        raise ValueError(f"{spec}: no weights can be loaded: {one_line(error, first=True)}") from error
    absent = {*found["missing_keys"], *(entry[0] for entry in found["mismatched_keys"])}
    if absent >= network.state_dict().keys():
        raise ValueError(f"{spec}: its file has no weight of a {model_class.__name__}; give another checkpoint")
    return cast(nn.Module, network)


def _read_configuration(spec: str, name: str) -> dict[str, Any]:
    text = _find_text(name, "config.json")
    if text is None:
        where = "the folder holds no config.json" if _folder(name) else "it is not a folder here"
        hub = "" if _folder(name) else ", and nothing of that name was downloaded from the hub (pretrained: true does)"
        raise ValueError(f"{spec}: {where}{hub}; give a folder that save_pretrained wrote")
    return _as_mapping(spec, "config.json", text)


def _find_text(name: str, file_name: str) -> str | None:
    folder = _folder(name)
    if folder is not None:
        path = folder / file_name
        return read_text(path, CONFIGURATION_LIMIT) if path.exists() else None
    if name.count("/") != 1 or name.startswith((".", "~", "/")):
        return None
    hub: Any = importlib.import_module("transformers.utils.hub")
    try:
        found = hub.cached_file(name, file_name, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError):
        return None
    return None if found is None else read_text(Path(found), CONFIGURATION_LIMIT)


def _folder(name: str) -> Path | None:
    path = user_path(name)
    return path if path.is_dir() else None


def _as_mapping(spec: str, file_name: str, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{spec}: {file_name} is no JSON ({one_line(error, first=True)})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{spec}: {file_name} holds no mapping")
    return content


def _without_loading(spec: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A configuration without the fields that load something, in all of its parts."""
    kept = {}
    for key, value in fields.items():
        if key == "backbone" and isinstance(value, str):
            check_timm_name(spec, value)
        if key not in _LOADING_FIELDS:
            kept[key] = _without_loading(spec, value) if isinstance(value, dict) else value
    return kept


def _option_names(transformers: Any, config: Any) -> Iterator[str]:
    """Fields of a configuration that options may set: its own ones that are neither nested nor fixed."""
    common = transformers.PretrainedConfig().to_dict()
    for key, value in config.to_dict().items():
        nested = isinstance(value, dict) or key.endswith("_config")
        if key not in common and key not in (*_LOADING_FIELDS, *_FIXED_FIELDS) and not nested:
            yield key
