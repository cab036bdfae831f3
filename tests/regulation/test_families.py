"""The contract on small networks of every family; the networks that the paper names have theirs in tests/networks."""

import tempfile
from collections.abc import Callable
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import segmentation

from contract import contract_for
from fixtures.shallow import shallow
from selfreg.networks import PyramidNetwork, build_network
from selfreg.regulation import MultiExit, SelfRegulation, mask_targets

transformers: Any = pytest.importorskip("transformers", reason="the extra hf is not installed")

Rows = tuple[tuple[str, int, int, str], ...]


# --- segmentation_models_pytorch -------------------------------------------------------------------------------------


def smp_network(architecture: str, encoder: str, **options: Any) -> Callable[[int], nn.Module]:
    def build(num_classes: int) -> nn.Module:
        network: nn.Module = getattr(smp, architecture)(encoder, encoder_weights=None, classes=num_classes, **options)
        return network

    return build


def encoder_taps(*rows: tuple[int, int, int]) -> Rows:
    return tuple((f"encoder@{index}", stride, channels, "NCHW") for index, stride, channels in rows)


TestSmpUnetResNet = contract_for(
    "TestSmpUnetResNet",
    smp_network("Unet", "resnet18", encoder_depth=4, decoder_channels=(32, 16, 16, 8)),
    encoder_taps((1, 2, 64), (2, 4, 64), (3, 8, 128), (4, 16, 256)),
)
TestSmpDeepLabV3PlusTimmResNet = contract_for(
    "TestSmpDeepLabV3PlusTimmResNet",
    smp_network("DeepLabV3Plus", "tu-resnet10t", decoder_channels=32),
    encoder_taps((1, 2, 64), (2, 4, 64), (3, 8, 128), (4, 16, 256)),
)
TestSmpDeepLabV3MobileNet = contract_for(
    "TestSmpDeepLabV3MobileNet",
    smp_network("DeepLabV3", "mobilenet_v2", decoder_channels=16),
    encoder_taps((1, 2, 16), (2, 4, 24), (3, 8, 32), (4, 8, 96)),
    representative=False,
)
TestSmpFPNMixTransformer = contract_for(
    "TestSmpFPNMixTransformer",
    shallow()(smp_network("FPN", "mit_b0", decoder_pyramid_channels=32, decoder_segmentation_channels=32)),
    encoder_taps((2, 4, 32), (3, 8, 64), (4, 16, 160), (5, 32, 256)),
)
TestSmpUPerNetConvNeXt = contract_for(
    "TestSmpUPerNetConvNeXt",
    smp_network("UPerNet", "tu-convnext_atto", decoder_channels=16),
    encoder_taps((2, 4, 40), (3, 8, 80), (4, 16, 160), (5, 32, 320)),
    representative=False,
)
TestSmpPSPNetEfficientNet = contract_for(
    "TestSmpPSPNetEfficientNet",
    smp_network("PSPNet", "efficientnet-b0", psp_out_channels=32),
    encoder_taps((1, 2, 32), (2, 4, 24), (3, 8, 40)),
    representative=False,
)
TestSmpDPTVisionTransformer = contract_for(
    "TestSmpDPTVisionTransformer",
    smp_network(
        "DPT",
        "tu-vit_tiny_patch16_224",
        dynamic_img_size=True,
        decoder_intermediate_channels=(8, 8, 16, 16),
        decoder_fusion_channels=16,
    ),
    tuple((f"encoder@0@{index}", 16, 192, "NCHW") for index in range(4)),
    representative=False,
)


# --- timm ------------------------------------------------------------------------------------------------------------


class TimmSegmenter(nn.Module):
    """A timm classification network with a linear class map on its last features, as a user might write it."""

    def __init__(self, backbone: nn.Module, channels: int, num_classes: int, channels_first: bool = True) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels_first = channels_first
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        features: Any = self.backbone.forward_features(images)  # type: ignore[operator]
        features = features[-1] if isinstance(features, list) else features
        if features.ndim == 3:
            side = images.shape[2] // 16
            features = features[:, -side * (images.shape[3] // 16) :]
            features = features.reshape(len(images), side, -1, features.shape[2])
        if not self.channels_first:
            features = features.permute(0, 3, 1, 2)
        logits: Tensor = self.classifier(features)
        return F.interpolate(logits, size=images.shape[2:], mode="bilinear")


def timm_network(
    name: str, channels: int, *, channels_first: bool = True, **options: Any
) -> Callable[[int], nn.Module]:
    def build(num_classes: int) -> nn.Module:
        backbone = timm.create_model(name, num_classes=0, **options)
        return TimmSegmenter(backbone, channels, num_classes, channels_first)

    return build


def timm_taps(*rows: tuple[str, int, int], layout: str = "NCHW") -> Rows:
    return tuple((f"backbone.{name}", stride, channels, layout) for name, stride, channels in rows)


TestTimmResNet = contract_for(
    "TestTimmResNet",
    timm_network("resnet10t", 512),
    timm_taps(("act1", 2, 64), ("layer1", 4, 64), ("layer2", 8, 128), ("layer3", 16, 256)),
)
TestTimmConvNeXt = contract_for(
    "TestTimmConvNeXt",
    timm_network("convnext_atto", 64, depths=(1, 1, 1, 1), dims=(8, 16, 32, 64)),
    timm_taps(("stages.0", 4, 8), ("stages.1", 8, 16), ("stages.2", 16, 32), ("stages.3", 32, 64)),
)
TestTimmSwin = contract_for(
    "TestTimmSwin",
    timm_network(
        "swin_tiny_patch4_window7_224",
        64,
        channels_first=False,
        img_size=64,
        embed_dim=8,
        depths=(1, 1, 1, 1),
        num_heads=(1, 1, 2, 2),
        window_size=2,
        strict_img_size=False,
    ),
    timm_taps(("layers.0", 4, 8), ("layers.1", 8, 16), ("layers.2", 16, 32), ("layers.3", 32, 64), layout="NHWC"),
)
TestTimmVisionTransformer = contract_for(
    "TestTimmVisionTransformer",
    timm_network(
        "vit_tiny_patch16_224",
        16,
        channels_first=False,
        img_size=64,
        embed_dim=16,
        depth=8,
        num_heads=2,
        dynamic_img_size=True,
    ),
    timm_taps(*((f"blocks.{index}", 16, 16) for index in (1, 3, 5, 7)), layout="NLC"),
)
TestTimmDINOv3 = contract_for(
    "TestTimmDINOv3",
    timm_network("vit_small_patch16_dinov3", 16, channels_first=False, embed_dim=16, depth=4, num_heads=2),
    timm_taps(*((f"blocks.{index}", 16, 16) for index in range(4)), layout="NLC"),
    representative=False,
)
TestTimmEVA02 = contract_for(
    "TestTimmEVA02",
    timm_network(
        "eva02_tiny_patch14_224",
        16,
        channels_first=False,
        img_size=64,
        patch_size=16,
        embed_dim=16,
        depth=4,
        num_heads=2,
        dynamic_img_size=True,
    ),
    timm_taps(*((f"blocks.{index}", 16, 16) for index in range(4)), layout="NLC"),
    representative=False,
)
STAGES = (("stages.0", 4, 8), ("stages.1", 8, 16), ("stages.2", 16, 32), ("stages.3", 32, 64))
TestTimmMambaOut = contract_for(
    "TestTimmMambaOut",
    timm_network("mambaout_femto", 64, channels_first=False, depths=(1, 1, 1, 1), dims=(8, 16, 32, 64)),
    timm_taps(*STAGES, layout="NHWC"),
    representative=False,
)
TestTimmFastViT = contract_for(
    "TestTimmFastViT",
    timm_network("fastvit_t8", 128, layers=(1, 1, 1, 1), embed_dims=(8, 16, 32, 64)),
    timm_taps(*STAGES),
    representative=False,
)
TestTimmRepViT = contract_for(
    "TestTimmRepViT",
    timm_network("repvit_m0_9", 64, embed_dim=(8, 16, 32, 64), depth=(1, 1, 1, 1)),
    timm_taps(*STAGES),
    representative=False,
)
TestTimmEfficientViT = contract_for(
    "TestTimmEfficientViT",
    timm_network("efficientvit_b0", 64, widths=(8, 8, 16, 32, 64), depths=(1, 1, 1, 1, 1)),
    timm_taps(*STAGES),
    representative=False,
)
TestTimmSAM = contract_for(
    "TestTimmSAM",
    timm_network(
        "samvit_base_patch16_224",
        8,
        img_size=64,
        embed_dim=16,
        depth=4,
        num_heads=2,
        window_size=2,
        global_attn_indexes=(1, 3),
        neck_chans=8,
    ),
    timm_taps(*((f"blocks.{index}", 16, 16) for index in range(4)), layout="NHWC"),
    representative=False,
)
TestTimmHiera = contract_for(
    "TestTimmHiera",
    lambda num_classes: PyramidNetwork(
        "hiera_tiny_224", num_classes, width=16, img_size=(64, 64), embed_dim=8, stages=(1, 1, 1, 1)
    ),
    tuple((f"stages.{index}", 4 * 2**index, 8 * 2**index, "NCHW") for index in range(4)),
    representative=False,
)
TestTimmCrossViT = contract_for(
    "TestTimmCrossViT",
    timm_network(
        "crossvit_tiny_240",
        16,
        channels_first=False,
        img_size=64,
        img_scale=(1.0, 1.0),
        patch_size=(8, 16),
        embed_dim=(8, 16),
        num_heads=(2, 2),
        depth=((1, 1, 0),) * 3,
    ),
    timm_taps(*((f"blocks.{index}@0", 8, 8) for index in range(3)), layout="NLC"),
    representative=False,
)
TestTimmPlainPyramid = contract_for(
    "TestTimmPlainPyramid",
    lambda num_classes: build_network(
        "timm:vit_base_patch16_siglip_224", num_classes, width=16, embed_dim=16, depth=4, num_heads=2
    ),
    tuple((f"stages.{index}", 16, 16, "NCHW") for index in range(4)),
    representative=False,
)
TestTimmHRNet = contract_for(
    "TestTimmHRNet",
    shallow()(timm_network("hrnet_w18_small", 2048)),
    timm_taps(("act1", 2, 64), ("layer1", 4, 128), ("stage2@1", 8, 32), ("stage3@2", 16, 64)),
)
TestTimmFeatures = contract_for(
    "TestTimmFeatures",
    lambda num_classes: build_network("timm:test_resnet", num_classes, width=16),
)


# --- torchvision -----------------------------------------------------------------------------------------------------


def torchvision_network(name: str) -> Callable[[int], nn.Module]:
    def build(num_classes: int) -> nn.Module:
        network: nn.Module = getattr(segmentation, name)(
            weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=False
        )
        return network

    return build


MOBILE = (
    ("backbone.1", 2, 16, "NCHW"),
    ("backbone.3", 4, 24, "NCHW"),
    ("backbone.6", 8, 40, "NCHW"),
    ("backbone.10", 16, 80, "NCHW"),
)
TestTorchvisionFCN = contract_for(
    "TestTorchvisionFCN",
    shallow()(torchvision_network("fcn_resnet50")),
    (
        ("backbone.relu", 2, 64, "NCHW"),
        ("backbone.layer1", 4, 256, "NCHW"),
        ("backbone.layer2", 8, 512, "NCHW"),
        ("backbone.layer3", 8, 1024, "NCHW"),
    ),
)
TestTorchvisionDeepLabV3 = contract_for(
    "TestTorchvisionDeepLabV3", torchvision_network("deeplabv3_mobilenet_v3_large"), MOBILE, representative=False
)
TestTorchvisionLRASPP = contract_for("TestTorchvisionLRASPP", torchvision_network("lraspp_mobilenet_v3_large"), MOBILE)


# --- transformers ----------------------------------------------------------------------------------------------------

SWIN = {
    "image_size": 64,
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 2],
    "window_size": 2,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
PYRAMID = ((4, 8), (8, 16), (16, 32), (32, 64))


def segformer(num_classes: int) -> nn.Module:
    return transformers.SegformerForSemanticSegmentation(  # type: ignore[no-any-return]
        transformers.SegformerConfig(
            num_labels=num_classes,
            hidden_sizes=[8, 16, 32, 64],
            depths=[1, 1, 1, 1],
            num_attention_heads=[1, 1, 2, 2],
            decoder_hidden_size=16,
        )
    )


def upernet(num_classes: int) -> nn.Module:
    return transformers.UperNetForSemanticSegmentation(  # type: ignore[no-any-return]
        transformers.UperNetConfig(
            backbone_config=transformers.SwinConfig(**SWIN),
            num_labels=num_classes,
            hidden_size=16,
            use_auxiliary_head=False,
        )
    )


def dpt(num_classes: int) -> nn.Module:
    return transformers.DPTForSemanticSegmentation(  # type: ignore[no-any-return]
        transformers.DPTConfig(
            num_labels=num_classes,
            image_size=64,
            hidden_size=16,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=32,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[8, 8, 16, 16],
            fusion_hidden_size=16,
            use_auxiliary_head=False,
        )
    )


def mask2former(num_classes: int) -> nn.Module:
    return transformers.Mask2FormerForUniversalSegmentation(  # type: ignore[no-any-return]
        transformers.Mask2FormerConfig(
            backbone_config=transformers.SwinConfig(**SWIN),
            num_labels=num_classes,
            feature_size=32,
            mask_feature_size=32,
            hidden_dim=32,
            encoder_feedforward_dim=16,
            encoder_layers=1,
            decoder_layers=2,
            num_attention_heads=2,
            dim_feedforward=16,
            num_queries=7,
        )
    )


def maskformer(num_classes: int) -> nn.Module:
    return transformers.MaskFormerForInstanceSegmentation(  # type: ignore[no-any-return]
        transformers.MaskFormerConfig(
            backbone_config=transformers.SwinConfig(**SWIN),
            decoder_config=transformers.DetrConfig(
                d_model=32,
                encoder_layers=1,
                decoder_layers=2,
                encoder_ffn_dim=16,
                decoder_ffn_dim=16,
                encoder_attention_heads=2,
                decoder_attention_heads=2,
                num_queries=7,
            ),
            num_labels=num_classes,
            fpn_feature_size=32,
            mask_feature_size=32,
        )
    )


def eomt(num_classes: int) -> nn.Module:
    return transformers.EomtForUniversalSegmentation(  # type: ignore[no-any-return]
        transformers.EomtConfig(
            num_labels=num_classes,
            image_size=64,
            hidden_size=32,
            num_hidden_layers=5,
            num_attention_heads=2,
            num_register_tokens=0,
            num_blocks=1,
            num_upscale_blocks=2,
            num_queries=20,
        )
    )


def oneformer(num_classes: int) -> nn.Module:
    config = transformers.OneFormerConfig(
        backbone_config=transformers.SwinConfig(**SWIN),
        num_queries=7,
        hidden_dim=32,
        conv_dim=32,
        mask_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=16,
    )
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        return build_network(f"hf:{folder}", num_classes)


def beit(num_classes: int) -> nn.Module:
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
    return build_network(
        "hf:beit", num_classes, image_size=(64, 64), intermediate_size=32, out_indices=[0, 1, 2, 3], **sizes
    )


TestSegFormer = contract_for(
    "TestSegFormer",
    segformer,
    tuple((f"segformer.stages.{i}", *row, "NCHW") for i, row in enumerate(PYRAMID)),
)
TestUPerNet = contract_for(
    "TestUPerNet",
    upernet,
    tuple((f"backbone@feature_maps@{i}", *row, "NCHW") for i, row in enumerate(PYRAMID)),
)
TestDPT = contract_for("TestDPT", dpt, tuple((f"dpt.encoder.layer.{i}", 16, 16, "NLC") for i in range(4)))
TestMask2Former = contract_for(
    "TestMask2Former",
    mask2former,
    tuple((f"model.pixel_level_module.encoder@feature_maps@{i}", *row, "NCHW") for i, row in enumerate(PYRAMID)),
)

TestMaskFormer = contract_for(
    "TestMaskFormer",
    maskformer,
    tuple((f"model.pixel_level_module.encoder@feature_maps@{i}", *row, "NCHW") for i, row in enumerate(PYRAMID)),
    representative=False,
)
TestOneFormer = contract_for(
    "TestOneFormer",
    oneformer,
    tuple((f"model.pixel_level_module.encoder@feature_maps@{i}", *row, "NCHW") for i, row in enumerate(PYRAMID)),
    representative=False,
)
TestBEiT = contract_for(
    "TestBEiT", beit, tuple((f"beit.layers.{i}", 16, 16, "NLC") for i in range(4)), representative=False
)
TestEoMT = contract_for("TestEoMT", eomt, tuple((f"layers.{i}", 16, 32, "NLC") for i in range(4)), representative=False)


@pytest.mark.parametrize("build", [mask2former, maskformer, oneformer, eomt])
def test_a_network_that_classifies_masks_keeps_its_own_loss_beside_the_exits(build: Callable[[int], nn.Module]) -> None:
    torch.manual_seed(0)
    network = build(4)
    labels = torch.randint(0, 4, (2, 64, 64))
    labels[0, :32] = 255
    model = MultiExit(network, 4, image_size=(64, 64)).train()
    outputs = model(torch.randn(2, 3, 64, 64), **mask_targets(network, labels))
    own = outputs.network_loss
    assert own is not None
    terms = SelfRegulation(reduction="sum")(outputs, labels, progress=1.0)
    exits = [segmentation_by_hand(class_map, labels) for class_map in outputs.class_maps[:-1]]
    torch.testing.assert_close(terms.segmentation, own + torch.stack(exits).sum(), rtol=1e-4, atol=1e-4)
    torch.autograd.backward(terms.total)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def segmentation_by_hand(class_map: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of an exit against the fractions of the classes in each of its cells, a mean over valid pixels."""
    height, width = class_map.shape[2:]
    valid = labels != 255
    one_hot = F.one_hot(labels.masked_fill(~valid, 0), class_map.shape[1]).float() * valid[..., None]
    cell = labels.shape[1] // height, labels.shape[2] // width
    counts = F.avg_pool2d(one_hot.permute(0, 3, 1, 2), cell, divisor_override=1)
    return -(counts * class_map.log_softmax(dim=1)).sum() / valid.sum()


def test_masks_are_the_classes_of_each_image_without_void() -> None:
    labels = torch.tensor([[[0, 3], [255, 3]], [[255, 255], [255, 255]]])
    targets = mask_targets(eomt(4), labels)
    assert [found.tolist() for found in targets["class_labels"]] == [[0, 3], []]
    assert targets["mask_labels"][0].tolist() == [[[1, 0], [0, 0]], [[0, 1], [0, 1]]]
    assert targets["mask_labels"][1].shape == (0, 2, 2)
    assert mask_targets(nn.Conv2d(3, 4, 1), labels) == {}


# --- anybody's -------------------------------------------------------------------------------------------------------


def block(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1), nn.GroupNorm(2, out), nn.ReLU(inplace=True))


class Homemade(nn.Module):
    """A network that no library knows: odd names, a pyramid pooling that fools strides, a decoder."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first = block(3, 8, 2)
        self.second = nn.Sequential(block(8, 16, 2), block(16, 16))
        self.third = block(16, 24, 2)
        self.context = nn.AdaptiveAvgPool2d(2)
        self.back = block(24 + 16, 16)
        self.head = nn.Conv2d(16, num_classes, 1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        fine = self.second(self.first(images))
        coarse = self.third(fine)
        coarse = coarse + F.interpolate(self.context(coarse), size=coarse.shape[2:])
        coarse = F.interpolate(coarse, size=fine.shape[2:])
        logits = self.head(self.back(torch.cat([coarse, fine], dim=1)))
        return {"out": F.interpolate(logits, size=images.shape[2:], mode="bilinear")}


TestDryRun = contract_for(
    "TestDryRun", Homemade, (("first", 2, 8, "NCHW"), ("second", 4, 16, "NCHW"), ("third", 8, 24, "NCHW"))
)
TestByNames = contract_for(
    "TestByNames",
    Homemade,
    (("first.0", 2, 8, "NCHW"), ("third", 8, 24, "NCHW")),
    taps=("first.0", "third"),
)
