"""Segmentation networks of the transformers library, built without a download."""

import importlib
from collections.abc import Mapping
from typing import Any, cast

from torch import nn

_SEGFORMER_SIZES: Mapping[str, tuple[list[int], list[int], int]] = {
    # hidden sizes, depths, width of the decoder (Xie et al., "SegFormer", NeurIPS 2021, table 6)
    "b0": ([32, 64, 160, 256], [2, 2, 2, 2], 256),
    "b1": ([64, 128, 320, 512], [2, 2, 2, 2], 256),
    "b2": ([64, 128, 320, 512], [3, 4, 6, 3], 768),
    "b3": ([64, 128, 320, 512], [3, 4, 18, 3], 768),
    "b4": ([64, 128, 320, 512], [3, 8, 27, 3], 768),
    "b5": ([64, 128, 320, 512], [3, 6, 40, 3], 768),
}
_CONVNEXT_SIZES: Mapping[str, tuple[list[int], list[int]]] = {
    "tiny": ([96, 192, 384, 768], [3, 3, 9, 3]),
    "small": ([96, 192, 384, 768], [3, 3, 27, 3]),
    "base": ([128, 256, 512, 1024], [3, 3, 27, 3]),
}
_DPT_SIZES: Mapping[str, dict[str, Any]] = {
    "small": {
        "hidden_size": 384,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "intermediate_size": 1536,
        "backbone_out_indices": [2, 5, 8, 11],
        "neck_hidden_sizes": [48, 96, 192, 384],
        "fusion_hidden_size": 64,
    },
    "base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "backbone_out_indices": [2, 5, 8, 11],
        "neck_hidden_sizes": [96, 192, 384, 768],
        "fusion_hidden_size": 128,
    },
    "large": {},
}

HUB_NAMES: Mapping[str, str] = {
    **{f"segformer-{size}": f"nvidia/mit-{size}" for size in _SEGFORMER_SIZES},
    **{f"upernet-convnext-{size}": f"openmmlab/upernet-convnext-{size}" for size in _CONVNEXT_SIZES},
    "dpt-large": "Intel/dpt-large-ade",
}
"""Where `pretrained=True` finds weights on the hub (SegFormer: encoder alone; the others: ADE20K, class layer anew)."""

NAMES: tuple[str, ...] = (
    *(f"segformer-{size}" for size in _SEGFORMER_SIZES),
    *(f"upernet-convnext-{size}" for size in _CONVNEXT_SIZES),
    *(f"dpt-{size}" for size in _DPT_SIZES),
)
"""Names that `build_network("hf:NAME", ...)` takes."""


def build_huggingface(name: str, num_classes: int, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    """A network of the transformers library; its output object has `logits` (N, num_classes, h, w).

    They are a quarter of the input's size for SegFormer and of the input's size for the others.

    `options` are fields of the model's configuration (`hidden_sizes`, `depths`, ...). Auxiliary heads are off.
    Raises ValueError when transformers is not installed, an option does not exist, or the hub has no weights.
    """
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise ValueError(f"hf:{name} needs the package transformers: pip install 'selfreg[hf]'") from error
    family, size = name.rsplit("-", 1)
    fields: dict[str, Any]
    config_class: Any
    model_class: Any
    if family == "segformer":
        hidden_sizes, depths, decoder = _SEGFORMER_SIZES[size]
        fields = {"hidden_sizes": hidden_sizes, "depths": depths, "decoder_hidden_size": decoder}
        config_class, model_class = transformers.SegformerConfig, transformers.SegformerForSemanticSegmentation
    elif family == "upernet-convnext":
        hidden_sizes, depths = _CONVNEXT_SIZES[size]
        backbone = transformers.ConvNextConfig(
            hidden_sizes=options.pop("hidden_sizes", hidden_sizes),
            depths=options.pop("depths", depths),
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
        fields = {"backbone_config": backbone, "use_auxiliary_head": False}
        config_class, model_class = transformers.UperNetConfig, transformers.UperNetForSemanticSegmentation
    else:
        fields = {**_DPT_SIZES[size], "use_auxiliary_head": False}
        config_class, model_class = transformers.DPTConfig, transformers.DPTForSemanticSegmentation
    if pretrained:
        if name not in HUB_NAMES:
            raise ValueError(f"hf:{name} has no published weights; pretrained weights exist for {', '.join(HUB_NAMES)}")
        options = {"num_labels": num_classes, "ignore_mismatched_sizes": True, "trust_remote_code": False, **options}
        return cast(nn.Module, model_class.from_pretrained(HUB_NAMES[name], **options))
    known = config_class().to_dict()
    for option in options:
        if option not in known:
            raise ValueError(f"hf:{name}: {config_class.__name__} has no field {option!r}")
    fields.update(options)
    return cast(nn.Module, model_class(config_class(num_labels=num_classes, **fields)))
