"""Any segmentation network by one line of text."""

import difflib
import importlib
import inspect
import traceback
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

from torch import nn

from selfreg.messages import one_line
from selfreg.networks.deeplab_v2 import DeepLabV2
from selfreg.networks.hrnet import HRNetV2
from selfreg.networks.huggingface import NAMES as HUGGINGFACE_NAMES
from selfreg.networks.huggingface import build_huggingface
from selfreg.networks.huggingface_any import UNSUITED, build_any, is_checkpoint, model_types
from selfreg.networks.image_size import size_options
from selfreg.networks.input_statistics import timm_name
from selfreg.networks.ocrnet import OCRNet
from selfreg.networks.options import (
    check_options,
    check_timm_name,
    huggingface_options,
    own_options,
    smp_options,
    without_hub,
)
from selfreg.networks.pretrained import LITE0_NETWORK, LITE0_PACKAGE, load_backbone_weights
from selfreg.networks.pyramid import PyramidNetwork
from selfreg.networks.spgnet import SPGNet

FORMS = (
    "smp:ARCHITECTURE/ENCODER, timm:NAME, torchvision:NAME, hf:NAME, deeplab_v2/NAME, hrnet_v2/NAME, ocrnet/NAME, "
    "spgnet/NAME or package.module:factory"
)

_OWN_NETWORKS: dict[str, type[nn.Module]] = {
    "deeplab_v2": DeepLabV2,
    "hrnet_v2": HRNetV2,
    "ocrnet": OCRNet,
    "spgnet": SPGNet,
}

_LIBRARIES = ("smp", "timm", "torchvision", "hf")

# options with which the libraries load files or code of their own accord, past `pretrained` and its checks
_LOADING_OPTIONS = (
    "checkpoint_path",
    "encoder_weights",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "trust_remote_code",
    "use_pretrained_backbone",
    "weights",
    "weights_backbone",
)


def build_network(
    spec: str,
    num_classes: int,
    *,
    pretrained: bool | str = False,
    image_size: tuple[int, int] | None = None,
    **options: Any,
) -> nn.Module:
    """Build a segmentation network from a line of text.

    `spec` is one of

    - "smp:DeepLabV3Plus/resnet50": architecture and encoder of segmentation_models_pytorch (encoder "tu-NAME": timm's);
    - "timm:hrnet_w18": a timm backbone with the light head of `PyramidNetwork`;
    - "torchvision:deeplabv3_resnet50": a segmentation model of torchvision, without its auxiliary head;
    - "hf:segformer-b0": a network of transformers by a name of `selfreg.networks.huggingface.NAMES`, by a model type
      ("hf:mask2former"), a local folder ("hf:models/mine") or OWNER/NAME of the hub;
    - "deeplab_v2/resnet101", "hrnet_v2/hrnet_w48", "ocrnet/hrnet_w48", "spgnet/resnet50": this package's
      own, on a timm backbone;
    - "package.module:factory": `factory(num_classes=..., **options)`, with `pretrained=...` too where it is not False.

    `pretrained` is False (random weights), True (the library's own pretrained weights, downloaded by it),
    "efficientnet-lite0-package", or the path of a .pth or .safetensors file of backbone weights, loaded strictly.
    `options` go to the network's constructor; `output_stride` is understood for smp too (`encoder_output_stride`). For
    networks of the libraries and of this package they are known names with plain values (`selfreg.networks.options`).
    Unless `pretrained` is True no connection is made.
    `image_size` is the (height, width) of training crops in pixels: a "timm:" backbone that takes one size is built for
    it. One that can take any size is built to do so without it, too.

    Raises ValueError for an unknown spec (naming near ones), for options that the network refuses, and for weights
    that do not fit.

    Examples:
        >>> import selfreg, torch
        >>> network = selfreg.build_network("deeplab_v2/resnet18", num_classes=4, output_stride=16)
        >>> network.eval()(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 4, 64, 96])
    """
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; a segmentation network needs at least 2")
    if pretrained == LITE0_PACKAGE and timm_name(spec) != LITE0_NETWORK:
        raise ValueError(
            f"{LITE0_PACKAGE} belongs to timm's {LITE0_NETWORK}, not to {spec}; "
            f"name the network smp:DeepLabV3Plus/tu-{LITE0_NETWORK} or timm:{LITE0_NETWORK}"
        )
    if not runs_own_code(spec):
        refuse_loading_options(spec, options)
    prefix, colon, name = spec.partition(":")
    try:
        with nullcontext() if pretrained is True else without_hub():
            library, name = (prefix, name) if colon else ("", spec)
            network = _build(library, name, num_classes, pretrained, dict(options), image_size)
    except (MemoryError, OSError):
        raise
    except Exception as error:
        wrong_options = isinstance(error, (TypeError, KeyError, AttributeError))
        if not wrong_options and (_is_ours(error) or runs_own_code(spec) or pretrained is True):
            raise
        shown = ", ".join(f"{option}: {value}" for option, value in options.items())
        named = f"network {spec}" + (f" with the options {{{shown}}}" if options else "")
        raise ValueError(f"{named} cannot be built: {one_line(error, first=True)}") from error
    if isinstance(pretrained, str) and (prefix in _LIBRARIES or not colon):
        load_backbone_weights(network, pretrained)
    return network


def _is_ours(error: Exception) -> bool:
    """Whether an error was raised by this package, whose messages name the network already."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")).startswith("selfreg.")


def runs_own_code(spec: str) -> bool:
    """Whether a spec names code of somebody's own, "package.module:factory", rather than a network known here."""
    library, colon, _ = spec.partition(":")
    return bool(colon) and library not in _LIBRARIES


def refuse_loading_options(spec: str, options: Iterable[str]) -> None:
    """Raise ValueError for an option with which a library would load files of its own accord."""
    for option in options:
        if option in _LOADING_OPTIONS:
            raise ValueError(f"network {spec}: the option {option!r} loads files; name weights with `pretrained`")


def _build(
    library: str,
    name: str,
    num_classes: int,
    pretrained: bool | str,
    options: dict[str, Any],
    image_size: tuple[int, int] | None,
) -> nn.Module:
    hub = pretrained is True
    if library == "smp":
        return _build_smp(name, num_classes, hub, options)
    if library == "timm":
        check_timm_name(f"timm:{name}", name)
        check_options(f"timm:{name}", options, own_options(PyramidNetwork, timm_backbone=True))
        return PyramidNetwork(name, num_classes, hub, **options, **size_options(name, image_size, options))
    if library == "torchvision":
        return _build_torchvision(name, num_classes, hub, options)
    if library == "hf":
        return _build_huggingface(name, num_classes, hub, options, image_size)
    if library:
        return _build_from_factory(library, name, num_classes, pretrained, options)
    family, _, backbone = name.partition("/")
    if family not in _OWN_NETWORKS or not backbone:
        raise ValueError(f"unknown network {name!r}{_near(family, [*_OWN_NETWORKS, *_LIBRARIES])}; it must be {FORMS}")
    check_timm_name(name, backbone)
    check_options(name, options, own_options(_OWN_NETWORKS[family]))
    return _OWN_NETWORKS[family](backbone=backbone, num_classes=num_classes, pretrained=hub, **options)


def _build_smp(name: str, num_classes: int, hub: bool, options: dict[str, Any]) -> nn.Module:
    import segmentation_models_pytorch as smp

    architecture, _, encoder = name.partition("/")
    classes: dict[str, Any] = {
        key: value
        for key, value in vars(smp).items()
        if inspect.isclass(value) and issubclass(value, smp.base.SegmentationModel)
    }
    _require("smp", architecture, classes)
    if not encoder:
        raise ValueError(f"smp:{name} names no encoder; write for instance smp:{name}/resnet50")
    if encoder.startswith("tu-"):
        check_timm_name(f"smp:{name}", encoder.removeprefix("tu-"))
    else:
        _require(f"smp:{architecture}", encoder, smp.encoders.get_encoder_names(), separator="/")
    timm_encoder = encoder.startswith("tu-")
    check_options(f"smp:{name}", options, smp_options(classes[architecture], timm_encoder=timm_encoder))
    if "output_stride" in options:
        if "encoder_output_stride" not in inspect.signature(classes[architecture].__init__).parameters:
            raise ValueError(f"smp:{architecture} has no output stride to choose; drop the option output_stride")
        options["encoder_output_stride"] = options.pop("output_stride")
    weights: str | bool | None = (True if timm_encoder else "imagenet") if hub else None
    network: nn.Module = classes[architecture](
        encoder_name=encoder, encoder_weights=weights, classes=num_classes, **options
    )
    return network


def _build_huggingface(
    name: str, num_classes: int, hub: bool, options: dict[str, Any], image_size: tuple[int, int] | None
) -> nn.Module:
    if name not in HUGGINGFACE_NAMES and (is_checkpoint(name) or name in (*model_types(), *UNSUITED)):
        return build_any(name, num_classes, hub, options, image_size)
    _require("hf", name, (*HUGGINGFACE_NAMES, *model_types()))
    check_options(f"hf:{name}", options, huggingface_options(name), "field")
    return build_huggingface(name, num_classes, hub, options)


def _build_torchvision(name: str, num_classes: int, hub: bool, options: dict[str, Any]) -> nn.Module:
    from torchvision import models

    _require("torchvision", name, models.list_models(module=models.segmentation))
    check_options(f"torchvision:{name}", options, ())
    network: nn.Module = models.get_model(
        name,
        weights=None,
        weights_backbone="DEFAULT" if hub else None,
        num_classes=num_classes,
        aux_loss=False,
        **options,
    )
    return network


def _build_from_factory(
    module_name: str, factory_name: str, num_classes: int, pretrained: bool | str, options: dict[str, Any]
) -> nn.Module:
    spec = f"{module_name}:{factory_name}"
    if "." not in module_name and module_name not in _LIBRARIES and _near(module_name, _LIBRARIES):
        raise ValueError(f"unknown library {module_name!r}{_near(module_name, _LIBRARIES)}; a network is {FORMS}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"network {spec}: {error}; a network is {FORMS}") from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise ValueError(f"{module_name} has no function or class {factory_name!r}{_near(factory_name, dir(module))}")
    if pretrained is not False:
        options["pretrained"] = pretrained
    network = factory(num_classes=num_classes, **options)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{spec} gave a {type(network).__name__}, not a torch.nn.Module")
    return network


def _require(kind: str, name: str, known: Iterable[str], separator: str = ":") -> None:
    known = list(known)
    if name not in known:
        hint = _near(name, known) or f"; known: {', '.join(known)}"
        raise ValueError(f"unknown network {kind}{separator}{name}{hint}")


def _near(name: str, known: Iterable[str]) -> str:
    lowered = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.6)
    return f"; near ones: {', '.join(lowered[key] for key in near)}" if near else ""
