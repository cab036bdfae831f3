"""What a network cannot do is told in one line, by its name, option and size, before the first epoch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from selfreg.config import parse_config
from selfreg.networks import build_network
from selfreg.training.network_check import check_crops, check_images
from tiny import TINY, selfreg, write_config


class OneSize(nn.Module):
    """A network that takes images of 64 x 64 alone, as vision transformers do."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, num_classes, 1)
        self.norm = nn.BatchNorm2d(num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Refuse other sizes."""
        assert images.shape[-2:] == (64, 64), f"Input height ({images.shape[-2]}) doesn't match model (64)"
        logits: Tensor = self.norm(self.layer(images))
        return logits


def config_with(**network: Any) -> Any:
    return parse_config({**TINY, "network": {**TINY["network"], **network}}, origin="test")


def test_a_network_that_refuses_the_size_of_a_validation_image_is_refused() -> None:
    config, network = config_with(), OneSize(9)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    check_crops(config, network, 9, channels=3, images=4)
    check_images(config, network, channels=3, shapes=[(64, 64)])
    with pytest.raises(ValueError, match=r"validation image of 64 x 96: Input height.*data.short_side"):
        check_images(config, network, channels=3, shapes=[(64, 64), (64, 96)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_probabilities_in_the_place_of_logits_are_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 9, 1), nn.Softmax2d())
    with pytest.raises(ValueError, match="gives probabilities, and the losses take logits"):
        check_crops(config_with(), network, 9, channels=3, images=2)


@pytest.mark.parametrize(
    ("network", "overrides", "parts"),
    [
        ("smp:FPN/tu-mobilenetv3_small_050", ["network.options={in_channels: 4}"], ["in_channels: 4", "64 x 64"]),
        ("smp:PAN/tu-mobilenetv3_small_050", ["data.crop_size=[32, 32]"], ["smp:PAN", "32 x 32"]),
        ("smp:FPN/tu-mobilenetv3_small_050", ["network.options={activation: softmax2d}"], ["activation: softmax2d"]),
        (
            "smp:DeepLabV3Plus/tu-mobilenetv3_small_050",
            ["training.batch_size=1"],
            ["1 training crop of 64 x 64", "use a training.batch_size of 2 or more"],
        ),
        ("timm:vit_tiny_patch16_224", ["network.options={img_size: 64}"], ["vit_tiny_patch16_224", "img_size: 64"]),
        (
            "timm:swin_tiny_patch4_window7_224",
            ["network.options={dynamic_img_size: false}"],
            ["swin_tiny_patch4_window7_224", "64 x 64"],
        ),
    ],
)
def test_exceptions_of_libraries_become_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], network: str, overrides: list[str], parts: list[str]
) -> None:
    config = write_config(tmp_path, network={"name": network, "options": {}})
    sets = [part for override in overrides for part in ("--set", override)]
    assert selfreg("train", config, "--dry-run", *sets) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    for part in parts:
        assert part in error


def test_frozen_batch_norms_take_a_batch_of_one(tmp_path: Path) -> None:
    config = write_config(tmp_path, network={"name": "smp:DeepLabV3Plus/tu-mobilenetv3_small_050", "options": {}})
    one = ("--set", "training.batch_size=1")
    assert selfreg("train", config, "--dry-run", *one, "--set", "training.freeze=batch_norm") == 0


@pytest.mark.parametrize(
    ("network", "options", "parts"),
    [
        ("smp:Unet/resnet18", {"encoder_depth": 9}, ["smp:Unet/resnet18", "encoder_depth: 9", "cannot be built"]),
        ("smp:Unet/resnet18", {"decoder_channels": [3]}, ["smp:Unet/resnet18", "decoder_channels: [3]"]),
        ("smp:FPN/resnet18", {"foo": 1}, ["smp:FPN/resnet18", "foo"]),
        ("hf:segformer-b0", {"hidden_sizes": [8, 16]}, ["hf:segformer-b0", "hidden_sizes: [8, 16]"]),
    ],
)
def test_options_that_a_library_refuses_are_named(network: str, options: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        build_network(network, 9, **options)
    for part in parts:
        assert part in str(caught.value)


def test_class_weights_in_python_are_a_tensor_or_say_so() -> None:
    import selfreg as package

    with pytest.raises(ValueError, match="class_weights must be a tensor"):
        package.SelfRegulation(class_weights=[1, 2, 3])  # type: ignore[arg-type]
