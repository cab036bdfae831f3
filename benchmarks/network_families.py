"""Which networks benchmarks/networks.py tries, and how a classifier of timm becomes a segmentation network."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import timm
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from selfreg.networks import build_network
from selfreg.networks.huggingface_any import model_types

Size = tuple[int, int]
Sizes = tuple[Size, ...]

NUM_CLASSES = 5
SIZE: Size = (128, 128)
"""Height and width of the images in pixels, for networks that take them."""

MODERN = (
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "convnext_tiny",
    "samvit_base_patch16_224",
    "vit_base_patch16_siglip_224",
    "eva02_tiny_patch14_224",
    "mambaout_femto",
    "fastvit_t8",
    "repvit_m0_9",
    "efficientvit_b0",
    "hiera_tiny_224",
    "sam2_hiera_tiny",
    "swinv2_tiny_window8_256",
)
"""Backbones that people start from now; DINOv3's ConvNeXt has the architecture of `convnext_tiny`."""

_SMALL = (
    "test_",
    "zepto",
    "atto",
    "femto",
    "pico",
    "nano",
    "xx_small",
    "xxs",
    "xxt",
    "tiny",
    "_ti",
    "mini",
    "xs",
    "_t",
    "small",
)
_LARGE = re.compile("large|huge|giant|gigantic|enormous|so400m|xl|_[lbmhg](_|$)|base|[1-9]b_")


_PLAIN = {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 2}
_EOMT = {**_PLAIN, "num_queries": 20, "num_blocks": 1, "num_upscale_blocks": 2, "train_num_points": 256}
SMALL_CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "beit": {**_PLAIN, "intermediate_size": 96, "out_indices": [0, 1, 2, 3]},
    "data2vec-vision": {**_PLAIN, "intermediate_size": 96, "out_indices": [0, 1, 2, 3]},
    "dpt": {
        **_PLAIN,
        "intermediate_size": 96,
        "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [8, 8, 16, 16],
        "fusion_hidden_size": 16,
    },
    "eomt": _EOMT,
    "eomt_dinov3": {**_EOMT, "intermediate_size": 96},
    "sapiens2": {
        **_PLAIN,
        "intermediate_size": 96,
        "num_key_value_attention_heads": 1,
        "num_first_full_attention_layers": 1,
        "num_last_full_attention_layers": 1,
        "image_size": list(SIZE),
        "head_config": {
            "upsample_out_channels": [16, 16],
            "upsample_kernel_sizes": [4, 4],
            "conv_out_channels": [16],
            "conv_kernel_sizes": [1],
        },
    },
}
"""Options of model types of transformers whose default configuration is large; the others have their default.

Sapiens 2 is built from a folder, since its default configuration in transformers describes no decoder.
"""


_NARROW = {"embed_dim": 96, "depth": 4, "num_heads": 2}
SMALL_BACKBONES: dict[str, dict[str, Any]] = {
    "beit_base_patch16_224": _NARROW,
    "deepseek_vit_412m": _NARROW,
    "gemma4_vit_167m": _NARROW,
    "mobilenetv5_300m": {"channel_multiplier": 0.25},
    "naflexvit_base_patch16_gap": _NARROW,
    "qwen3_vit_88m": _NARROW,
}
"""Options of models of timm that are large although they are the smallest of their module; the others have none."""

_UNPROMISING = {
    "byoanet": "eca_halonext26ts",
    "coat": "coat_tiny",
    "dla": "dla46x_c",
    "naflexvit": "naflexvit_base_patch16_gap",
    "tresnet": "tresnet_m",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "xcit": "xcit_nano_12_p16_224",
}
"""The smallest models of modules of timm whose names do not promise that."""


class Case(NamedTuple):
    """A network to try: its place in the table, how it is built for a size, and the image sizes to try it at."""

    group: str
    family: str
    spec: str
    build: Callable[[Size], nn.Module]
    sizes: Sizes = (SIZE,)

    @property
    def key(self) -> str:
        """Unique name."""
        return f"{self.group}/{self.family}/{self.spec}"


def cases(*, quick: bool) -> Iterator[Case]:
    """All networks, with `quick` one encoder of each family of segmentation_models_pytorch."""
    for module in timm.list_modules():
        name = _UNPROMISING.get(module) or smallest(timm.list_models(module=module))
        yield from timm_cases("timm", module, name)
    for name in MODERN:
        yield from timm_cases("modern", name, name)
    encoders = list(smp.encoders.get_encoder_names())
    for encoder in smallest_encoders(encoders) if quick else encoders:
        yield of_spec("smp encoder", encoder, f"smp:FPN/{encoder}")
    for architecture in sorted(cls.__name__ for cls in smp.base.SegmentationModel.__subclasses__()):
        encoder = "tu-vit_tiny_patch16_224" if architecture == "DPT" else "resnet18"
        options: dict[str, Any] = {"dynamic_img_size": True} if architecture == "DPT" else {}
        yield of_spec("smp decoder", architecture, f"smp:{architecture}/{encoder}", **options)
    for name in models.list_models(module=models.segmentation):
        yield of_spec("torchvision", name, f"torchvision:{name}")

    for kind in sorted(model_types()):
        fields = SMALL_CONFIGURATIONS.get(kind, {})
        if "head_config" in fields:
            yield of_configuration(kind, fields)
        else:
            yield of_spec("transformers", kind, f"hf:{kind}", **fields)


def of_spec(group: str, family: str, spec: str, sizes: Sizes = (SIZE,), **options: Any) -> Case:
    """A network by its line of text."""
    return Case(group, family, spec, lambda size: build_network(spec, NUM_CLASSES, image_size=size, **options), sizes)


def of_configuration(kind: str, fields: dict[str, Any]) -> Case:
    """A network of transformers out of a folder with a configuration, which may be nested."""

    def build(_size: Size) -> nn.Module:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "config.json").write_text(json.dumps({"model_type": kind, **fields}))
            return build_network(f"hf:{folder}", NUM_CLASSES)

    return Case("transformers", kind, f"hf:{kind}", build)


def timm_cases(group: str, family: str, name: str) -> Iterator[Case]:
    """A backbone as a classifier with a class map, which shows what taps are found, and as `timm:NAME`."""
    declared = timm.get_pretrained_cfg(name)
    size = SIZE if declared is None else (declared.input_size[1], declared.input_size[2])
    fixed = declared is not None and declared.fixed_input_size
    options = SMALL_BACKBONES.get(name, {})
    spec = f"timm:{name}"
    yield Case(
        group, family, name, lambda _: Segmenter(name, NUM_CLASSES, **options), (size,) if fixed else (SIZE, size)
    )
    yield of_spec(group, family, spec, (SIZE, size), **options)


def smallest(names: list[str]) -> str:
    """The model whose name promises the fewest parameters."""

    def promise(name: str) -> tuple[int, bool, int, str]:
        rank = next((index for index, part in enumerate(_SMALL) if part in name), len(_SMALL))
        return rank, bool(_LARGE.search(name)), sum(int(number) for number in re.findall(r"\d+", name)), name

    return min(names, key=promise)


def smallest_encoders(names: list[str]) -> list[str]:
    """One encoder of segmentation_models_pytorch per family: the first of those that share a stem."""
    families: dict[str, str] = {}
    for name in names:
        families.setdefault(
            re.split(r"-?[a-z]?\d", name.removeprefix("timm-").replace("tu-", ""))[0].rstrip("-_"), name
        )
    return list(families.values())


class Segmenter(nn.Module):
    """A timm classifier with a linear class map on its last features, as a user might write it."""

    def __init__(self, name: str, num_classes: int, **options: Any) -> None:
        super().__init__()
        self.backbone = timm.create_model(name, num_classes=0, **options)
        self.classifier = nn.LazyConv2d(num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) to logits (N, K, H, W)."""
        features = self.backbone.forward_features(images)
        while not isinstance(features, Tensor):
            features = features["patches"] if isinstance(features, dict) and "patches" in features else features[-1]
        if features.ndim == 3:
            features = _grid(features, images.shape[2] / images.shape[3])
        elif features.shape[-1] == self.backbone.num_features != features.shape[1]:
            features = features.permute(0, 3, 1, 2)
        logits: Tensor = self.classifier(features)
        return F.interpolate(logits, size=images.shape[2:], mode="bilinear")


def _grid(tokens: Tensor, aspect: float) -> Tensor:
    """Tokens (N, L, C) to (N, C, h, w); class tokens ahead of them are dropped."""
    height = int((tokens.shape[1] * aspect) ** 0.5)
    width = int(height / aspect)
    return tokens[:, -height * width :].transpose(1, 2).reshape(len(tokens), -1, height, width)
