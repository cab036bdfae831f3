"""HRNetV2: timm's layers, met as in the published segmentation network."""

from typing import Any

import timm
import torch
from torch import nn
from torch.nn import functional

from selfreg.networks import HRNetV2


def timm_with_bilinear_upsampling(name: str) -> Any:
    model = timm.create_model(name, features_only=True, feature_location="")
    for module in model.modules():
        if isinstance(module, nn.Upsample):
            module.mode, module.align_corners = "bilinear", True
    return model


def test_the_branches_are_timms_but_for_the_upsampling() -> None:
    torch.manual_seed(0)
    reference = timm_with_bilinear_upsampling("hrnet_w18_small").eval()
    network = HRNetV2("hrnet_w18_small", 4).eval()
    network.backbone.model.load_state_dict(reference.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        _, *branches = reference(images)
        assert [branch.shape[1] for branch in branches] == [16, 32, 64, 128]
        joined = torch.cat(
            [functional.interpolate(b, (16, 24), mode="bilinear", align_corners=True) for b in branches], dim=1
        )
        torch.testing.assert_close(network.backbone(images), joined)
        logits = functional.interpolate(network.head(joined), (64, 96), mode="bilinear", align_corners=True)
        torch.testing.assert_close(network(images), logits)


def test_the_taps_see_the_three_stages_before_the_last() -> None:
    network = HRNetV2("hrnet_w18_small", 4).eval()
    order: list[str] = []
    model = network.backbone.model
    watched = {name: network.get_submodule(name) for name in network.taps}
    watched |= {name: getattr(model, name)[-1].branches[0] for name in ("stage2", "stage3", "stage4")}
    for name, module in watched.items():
        module.register_forward_hook(lambda _m, _i, _o, name=name: order.append(name))
    with torch.no_grad():
        network(torch.zeros(1, 3, 64, 64))
    first, second, third = network.taps
    assert order == [first, "stage2", second, "stage3", third, "stage4"]


def test_a_tap_of_stage_2_has_seen_the_coarse_branch() -> None:
    network = HRNetV2("hrnet_w18_small", 4).eval()
    seen: list[torch.Tensor] = []
    network.get_submodule(network.taps[1]).register_forward_hook(lambda _m, _i, output: seen.append(output))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        network(images)
        network.backbone.model.transition1[1].apply(lambda m: nn.init.zeros_(m.weight) if hasattr(m, "weight") else m)
        network(images)
    assert not torch.equal(seen[0], seen[1])
