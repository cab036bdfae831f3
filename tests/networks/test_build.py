"""Any network by one line of text."""

import re
import subprocess
import sys
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from selfreg.config.weak import ClassifierConfig
from selfreg.networks import Preprocessing, PyramidNetwork, build_network, preprocessing
from selfreg.networks.huggingface import NAMES
from selfreg.weak.classifier_network import build_classifier

NUM_CLASSES = 5


def logits_of(result: Any) -> Tensor:
    if isinstance(result, Tensor):
        return result
    found = getattr(result, "logits", None)
    if found is None:
        found = result["out"]
    assert isinstance(found, Tensor)
    return found


def tiny_factory(num_classes: int, width: int = 4) -> nn.Module:
    return nn.Conv2d(3, num_classes + 0 * width, 1)


def not_a_network(num_classes: int) -> int:
    return num_classes


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("smp:DeepLabV3Plus/tu-mobilenetv2_035", {"output_stride": 16, "pad_type": "same", "decoder_channels": 32}),
        ("smp:Unet/resnet18", {"decoder_channels": (32, 16, 16, 8, 8)}),
        ("timm:mobilenetv2_035", {"width": 16}),
        ("timm:hrnet_w18_small", {"width": 16}),
        ("torchvision:lraspp_mobilenet_v3_large", {}),
        ("hrnet_v2/hrnet_w18_small", {}),
        ("ocrnet/resnet18", {"width": 32}),
        ("deeplab_v2/resnet18", {"scales": (1.0, 0.5)}),
        ("spgnet/resnet18", {"width": 32}),
    ],
)
def test_a_spec_gives_a_network_with_logits_of_the_images_size(spec: str, options: dict[str, Any]) -> None:
    network = build_network(spec, NUM_CLASSES, **options).eval()
    with torch.no_grad():
        logits = logits_of(network(torch.zeros(1, 3, 64, 96)))
    assert logits.shape == (1, NUM_CLASSES, 64, 96)


def test_torchvision_comes_without_its_auxiliary_head() -> None:
    with torch.device("meta"):
        network: Any = build_network("torchvision:deeplabv3_resnet50", NUM_CLASSES)
    assert network.aux_classifier is None
    assert network.classifier[-1].out_channels == NUM_CLASSES


def test_a_factory_of_any_module_gets_classes_and_options() -> None:
    network = build_network(f"{__name__}:tiny_factory", NUM_CLASSES, width=8)
    assert isinstance(network, nn.Conv2d)
    assert network.out_channels == NUM_CLASSES


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("smp:DeepLabv3plus/resnet50", "near ones: DeepLabV3Plus"),
        ("smp:Unet/resnet55", "near ones: resnet50"),
        ("smp:Unet", "names no encoder"),
        ("smp:Unet/tu-mobilenetv2_101", "near ones: .*mobilenetv2_100"),
        ("timm:hrnet_w19", "near ones: hrnet_w18"),
        ("torchvision:fcn_resnet51", "near ones: fcn_resnet50"),
        ("hf:segformer-b9", "near ones: segformer-b"),
        ("ocrnets/hrnet_w48", "near ones: ocrnet"),
        ("ocrnet/hrnet_w47", "near ones: .*hrnet_w48"),
        ("ocrnet", "must be smp:ARCHITECTURE/ENCODER"),
        ("resnet50", "must be smp:ARCHITECTURE/ENCODER"),
        ("smpp:Unet/resnet18", "near ones: smp"),
        ("no_such_module.at_all:factory", "No module named"),
        ("torch.nn:Convv2d", "near ones: Conv2d"),
        (f"{__name__}:not_a_network", "not a torch.nn.Module"),
        ("hrnet_v2/resnet18", "is no HRNet"),
        ("spgnet/mobilenetv2_035", "needs a ResNet"),
        ("deeplab_v2/swin_tiny_patch4_window7_224", "output stride 8"),
    ],
)
def test_an_unknown_spec_is_refused_with_what_was_meant(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(spec, NUM_CLASSES)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("smp:Unet/resnet18", {"decoder_chanels": (8,)}, "near ones: decoder_channels"),
        ("smp:Unet/resnet18", {"output_stride": 16}, "no output stride"),
        ("timm:mobilenetv2_035", {"widht": 8}, "widht"),
        ("ocrnet/resnet18", {"widht": 8}, "widht"),
        ("deeplab_v2/resnet18", {"scales": (0.5, 1.0)}, "must begin with 1.0"),
    ],
)
def test_an_option_that_a_network_does_not_know_is_refused(spec: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(spec, NUM_CLASSES, **options)


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        ("hf:upernet-convnext-tiny", {"backbone_config": {"auto_map": {"AutoConfig": "evil.Config"}}}),
        ("hf:upernet-convnext-tiny", {"backbone": "somebody/evil", "use_timm_backbone": True}),
        ("hf:dpt-small", {"auto_map": {"AutoModel": "evil.Model"}}),
        ("hf:segformer-b0", {"quantization_config": {"quant_method": "custom"}}),
        ("hf:segformer-b0", {"hidden_act": "../evil"}),
        ("hf:segformer-b0", {"depths": [[2], 2, 2, 2]}),
        ("timm:resnet18", {"pretrained_strict": False}),
        ("timm:resnet18", {"block_args": [{"block_type": "ds"}]}),
        ("timm:resnet18", {"cache_dir": "/tmp"}),
        ("timm:resnet18", {"act_layer": {"relu": 1}}),
        ("smp:FPN/tu-resnet18", {"aux_params": {"classes": 3}}),
        ("smp:FPN/resnet18", {"aux_params": None}),
        ("smp:FPN/resnet18", {"encoder_name": "resnet34"}),
        ("torchvision:fcn_resnet50", {"progress": True}),
        ("deeplab_v2/resnet18", {"scales": {"1": 1}}),
    ],
)
def test_an_option_is_a_known_name_with_a_plain_value(spec: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has no option|has no field|must be a number"):
        build_network(spec, NUM_CLASSES, **options)


@pytest.mark.parametrize(
    "spec",
    [
        "timm:hf-hub:somebody/evil",
        "timm:hf_hub:somebody/evil",
        "timm:local-dir:/tmp/evil",
        "smp:FPN/tu-hf-hub:somebody/evil",
        "smp:FPN/tu-local-dir:evil",
        "timm:resnet18.nope",
        "smp:FPN/tu-resnet18.nope",
    ],
)
def test_a_backbone_is_a_model_of_timm_and_no_place_to_load_from(spec: str) -> None:
    for pretrained in (False, True):
        with pytest.raises(ValueError, match="unknown timm model|has no weights"):
            build_network(spec, NUM_CLASSES, pretrained=pretrained)
    with pytest.raises(ValueError, match="unknown timm model|has no weights"):
        build_classifier(ClassifierConfig(backbone=re.split("/tu-|timm:", spec)[-1]), 3, seed=0)


def test_without_pretrained_weights_the_hub_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    seen: list[bool] = []
    build = timm.create_model

    def look(*arguments: Any, **options: Any) -> Any:
        seen.append(constants.HF_HUB_OFFLINE)
        return build(*arguments, **options)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(timm, "create_model", look)
    build_network("timm:mobilenetv2_035", NUM_CLASSES)
    build_classifier(ClassifierConfig(backbone="resnet18", output_stride=32), 3, seed=0)
    assert seen == [True, True]
    assert constants.HF_HUB_OFFLINE is False


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        build_network("timm:mobilenetv2_035", 1)


def test_the_preprocessing_is_that_of_the_weights() -> None:
    half = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    imagenet = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert preprocessing("smp:Unet/resnet50") == imagenet
    assert preprocessing("ocrnet/hrnet_w48", pretrained=True) == imagenet
    assert preprocessing("torchvision:fcn_resnet50") == imagenet
    assert preprocessing("smp:Unet/tu-tf_efficientnet_lite0", pretrained="efficientnet-lite0-package") == half
    assert preprocessing("timm:mobilenetv2_100", pretrained="weights.pth", pad_type="same") == half
    assert preprocessing("timm:mobilenetv2_100", pretrained="weights.pth") == imagenet
    assert preprocessing("timm:vit_tiny_patch16_224", pretrained=True) == half


@pytest.mark.slow
def test_importing_the_networks_loads_no_optional_library() -> None:
    code = (
        "import selfreg.networks, sys;"
        "print(sorted({'transformers', 'lightning', 'segmentation_models_pytorch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestTransformers:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("transformers")

    def test_a_network_is_built_without_a_download(self) -> None:
        options: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16}
        network = build_network("hf:segformer-b0", NUM_CLASSES, **options).eval()
        with torch.no_grad():
            assert logits_of(network(torch.zeros(1, 3, 64, 96))).shape == (1, NUM_CLASSES, 16, 24)

    @pytest.mark.parametrize(
        ("name", "millions"), [("segformer-b0", 3.72), ("segformer-b5", 84.6), ("upernet-convnext-tiny", 59.24)]
    )
    def test_sizes_are_the_published_ones(self, name: str, millions: float) -> None:
        with torch.device("meta"):
            network = build_network(f"hf:{name}", 19 if name.startswith("segformer") else NUM_CLASSES)
        assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)

    def test_every_name_has_a_configuration_that_is_accepted(self) -> None:
        for name in NAMES:
            with torch.device("meta"):
                assert isinstance(build_network(f"hf:{name}", NUM_CLASSES), nn.Module)

    def test_an_unknown_field_of_the_configuration_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no field 'widths'"):
            build_network("hf:segformer-b0", NUM_CLASSES, widths=[8])

    def test_weights_that_were_never_published_are_refused(self) -> None:
        with pytest.raises(ValueError, match="no published weights"):
            build_network("hf:dpt-small", NUM_CLASSES, pretrained=True)


def test_without_transformers_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match="pip install 'selfreg"):
        build_network("hf:segformer-b0", NUM_CLASSES)


class TestPyramidNetwork:
    @pytest.mark.parametrize(
        ("name", "options", "taps"),
        [
            ("mobilenetv2_035", {}, 5),
            ("convnext_atto", {}, 4),
            ("swin_tiny_patch4_window7_224", {"strict_img_size": False, "embed_dim": 24, "depths": (1, 1, 1, 1)}, 4),
            ("vit_tiny_patch16_224", {"dynamic_img_size": True, "depth": 3}, 3),
        ],
    )
    def test_every_kind_of_backbone_gives_taps_and_logits(self, name: str, options: dict[str, Any], taps: int) -> None:
        network = PyramidNetwork(name, NUM_CLASSES, width=16, **options).eval()
        assert len(network.taps) == taps
        seen = []
        for tap in network.taps:
            network.get_submodule(tap).register_forward_hook(lambda _m, _i, output: seen.append(output))
        with torch.no_grad():
            assert network(torch.zeros(1, 3, 64, 96)).shape == (1, NUM_CLASSES, 64, 96)
        assert [tuple(f.shape[1:2]) for f in seen] == [(c,) for c in network.backbone.feature_info.channels()]
        assert all(abs(f.shape[3] / f.shape[2] - 96 / 64) < 1e-6 for f in seen)


@pytest.mark.parametrize(
    ("name", "image_size"), [("vit_tiny_patch16_224", None), ("swin_tiny_patch4_window7_224", None), ("test_vit", None)]
)
def test_a_timm_backbone_of_one_size_takes_any_size_where_timm_offers_it(name: str, image_size: None) -> None:
    with torch.device("meta"):
        network = build_network(f"timm:{name}", NUM_CLASSES, image_size=image_size).eval()
        assert network(torch.zeros(1, 3, 64, 96)).shape == (1, NUM_CLASSES, 64, 96)
        assert network(torch.zeros(1, 3, 96, 160)).shape == (1, NUM_CLASSES, 96, 160)


def test_a_timm_backbone_that_stays_at_one_size_is_built_for_the_crop() -> None:
    with torch.device("meta"):
        network = build_network("timm:hiera_tiny_224", NUM_CLASSES, image_size=(64, 96)).eval()
        assert network(torch.zeros(1, 3, 64, 96)).shape == (1, NUM_CLASSES, 64, 96)


def test_crossvit_which_resizes_images_itself_is_not_built_for_a_crop_that_its_patches_do_not_divide() -> None:
    with torch.device("meta"):
        network = build_network("timm:crossvit_tiny_240", NUM_CLASSES, image_size=(64, 96)).eval()
        assert network(torch.zeros(1, 3, 64, 96)).shape == (1, NUM_CLASSES, 64, 96)


def test_the_size_that_an_option_names_goes_before_that_of_the_crop() -> None:
    with torch.device("meta"):
        network = build_network("timm:hiera_tiny_224", NUM_CLASSES, image_size=(64, 96), img_size=(96, 96)).eval()
        assert network(torch.zeros(1, 3, 96, 96)).shape == (1, NUM_CLASSES, 96, 96)


def test_patches_of_14_pixels_take_sides_that_are_no_multiples_of_14() -> None:
    with torch.device("meta"):
        network = build_network("timm:eva02_tiny_patch14_224", NUM_CLASSES).eval()
        assert network(torch.zeros(1, 3, 64, 96)).shape == (1, NUM_CLASSES, 64, 96)


def test_a_plain_vision_transformer_gets_a_pyramid_of_four_levels() -> None:
    network = build_network("timm:test_vit", NUM_CLASSES, width=8)
    assert isinstance(network, PyramidNetwork)
    assert network.plain is not None
    levels = network.plain([torch.zeros(1, 64, 4, 6)] * 4)
    assert [level.shape[2:] for level in levels] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert len(network.taps) == 4
