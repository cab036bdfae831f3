"""HRNetV2: parallel branches from stride 4 to 32, all of them concatenated at stride 4."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

from selfreg.networks.blocks import conv_bn_relu, resize, size_of, tap_points


class HRNetBackbone(nn.Module):
    """timm's HRNet: images (N, 3, H, W) to its four branches, concatenated at stride 4, (N, 15 W, H/4, W/4).

    The layers and weights are timm's, without the four heads of its classifier (`feature_location=""`). Two things are
    as in the published segmentation network and unlike timm: branches meet at any image size, and a coarse branch is
    resized bilinearly to a finer one (timm repeats pixels, which needs sizes divisible by 32).

    `stages.0` to `stages.2` pass on what a tap of stage 1, 2 and 3 sees: the branch of stride 4, into which every
    other branch has just been summed. Raises ValueError for a name that is no HRNet.
    """

    def __init__(self, name: str, pretrained: bool = False) -> None:
        super().__init__()
        if not name.startswith("hrnet_"):
            raise ValueError(f"{name} is no HRNet of timm; give for instance hrnet_w18_small, hrnet_w32 or hrnet_w48")
        self.model: Any = timm.create_model(name, pretrained=pretrained, features_only=True, feature_location="")
        self.channels: int = sum(self.model.feature_info.channels()[1:])
        self.stages = tap_points(3)
        for module in [*self.model.stage2, *self.model.stage3, *self.model.stage4]:
            for target, sources in enumerate(module.fuse_layers):
                for source in range(target + 1, len(sources)):
                    # Resizing is done by `_exchange`; the module was without weights.
                    sources[source][2] = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, channels, H/4, W/4) of images (N, 3, H, W)."""
        model = self.model
        stem = model.act2(model.bn2(model.conv2(model.act1(model.bn1(model.conv1(images))))))
        first = self.stages[0](model.layer1(stem))
        branches = [transition(first) for transition in model.transition1]
        branches = self._run_stage(model.stage2, branches, tap_point=1)
        branches = self._run_stage(model.stage3, _grow(model.transition2, branches), tap_point=2)
        branches = self._run_stage(model.stage4, _grow(model.transition3, branches))
        return torch.cat([resize(branch, size_of(branches[0])) for branch in branches], dim=1)

    def _run_stage(self, stage: Any, branches: list[Tensor], tap_point: int | None = None) -> list[Tensor]:
        for module in stage:
            branches = _exchange(module, [run(x) for run, x in zip(module.branches, branches, strict=True)])
        if tap_point is not None:
            branches[0] = self.stages[tap_point](branches[0])
        return branches


def _grow(transition: nn.ModuleList, branches: list[Tensor]) -> list[Tensor]:
    """Add a branch of half the resolution, made from the coarsest there is; the others pass."""
    return [branches[i] if i < len(branches) else make(branches[-1]) for i, make in enumerate(transition)]


def _exchange(module: Any, branches: list[Tensor]) -> list[Tensor]:
    """Give every branch the sum of all, each brought to its width and size."""
    fused = []
    for target, sources in zip(branches, module.fuse_layers, strict=True):
        total: Tensor | None = None
        for bring, source in zip(sources, branches, strict=True):
            brought = resize(bring(source), size_of(target))
            total = brought if total is None else total + brought
        fused.append(module.fuse_act(total))
    return fused


class HRNetV2(nn.Module):
    """HRNetV2 for segmentation (Wang et al., TPAMI 2020, arXiv 1908.07919; Sun et al., arXiv 1904.04514).

    Images (N, 3, H, W) float32 to logits (N, num_classes, H, W): the four branches of the last stage concatenated at
    stride 4, a 1x1 convolution that keeps their 15 W channels with batch norm and ReLU, a 1x1 convolution to the
    classes, bilinear resizing to the image.

    backbone: a timm HRNet ("hrnet_w48", "hrnet_w18", "hrnet_w18_small"). num_classes: K. pretrained: load timm's
    ImageNet weights. HRNetV2-W48 with 19 classes has 65.86 M parameters, as published.

    Taps: the network's own stages 1, 2 and 3, all at stride 4 (256, W and W channels); its stage 4 is what the output
    reads.
    """

    taps = ("backbone.stages.0", "backbone.stages.1", "backbone.stages.2")

    def __init__(self, backbone: str = "hrnet_w48", num_classes: int = 19, pretrained: bool = False) -> None:
        super().__init__()
        self.backbone = HRNetBackbone(backbone, pretrained)
        channels = self.backbone.channels
        self.head = nn.Sequential(
            conv_bn_relu(channels, channels, bias=True),
            nn.Conv2d(channels, num_classes, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes, H, W) of images (N, 3, H, W)."""
        return resize(self.head(self.backbone(images)), size_of(images))
