"""DeepLab-v2: a dilated ResNet and the sum of four dilated convolutions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from selfreg.networks.blocks import DilatedBackbone, resize, size_of


class DilatedClassifiers(nn.Module):
    """Atrous spatial pyramid pooling of DeepLab-v2: the sum of 3x3 convolutions straight to the classes.

    Features (N, C, h, w) to logits (N, num_classes, h, w); one convolution per dilation rate. Source: Chen et al.,
    "DeepLab", TPAMI 2018, section 3.2 (ASPP-L); weights start normal with standard deviation 0.01, as theirs.
    """

    def __init__(self, in_channels: int, num_classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        branches = [nn.Conv2d(in_channels, num_classes, 3, padding=rate, dilation=rate) for rate in rates]
        for branch in branches:
            nn.init.normal_(branch.weight, std=0.01)
            nn.init.constant_(branch.bias, 0.0)  # type: ignore[arg-type]
        self.branches = nn.ModuleList(branches)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, num_classes, h, w) of features (N, C, h, w)."""
        first, *others = self.branches
        logits: Tensor = first(features)
        for branch in others:
            logits = logits + branch(features)
        return logits


class DeepLabV2(nn.Module):
    """DeepLab-v2, the network of the weakly supervised experiments.

    Images (N, 3, H, W) float32 to logits (N, num_classes, H, W): a ResNet at output stride 8 (layer3 dilated by 2,
    layer4 by 4), the sum of four 3x3 convolutions with dilations 6, 12, 18 and 24, bilinear resizing to the image.

    Taps: all stages of the backbone but the last, which the classifiers read (for a ResNet strides 2, 4, 8, 8). Unlike
    the paper's Caffe ResNet, timm's has the stride of a stage in its 3x3 convolution, so the first block of a dilated
    stage keeps the dilation before it: that way ImageNet weights compute what they were trained to.

    Args:
        backbone: A timm ResNet ("resnet101", "resnet50"), or another network of timm that takes output strides.
        num_classes: K.
        pretrained: Load timm's ImageNet weights.
        scales: With (1.0, 0.75, 0.5) the image is seen at three scales, in training and evaluation, and the logits are
            the element-wise maximum, taken at the output stride (the paper's multi-scale inputs; three times the memory
            and about twice the time).
        output_stride: 8 as published, or 16 as in the authors' demonstration of self-regulation (layer4 dilated by 2).

    Raises:
        ValueError: If the scales do not begin with 1.0, or the backbone cannot be built at this output stride.

    Source: Chen et al., "DeepLab", TPAMI 2018, arXiv 1606.00915.
    """

    def __init__(
        self,
        backbone: str = "resnet101",
        num_classes: int = 21,
        pretrained: bool = False,
        *,
        scales: Sequence[float] = (1.0,),
        output_stride: int = 8,
    ) -> None:
        super().__init__()
        if not scales or scales[0] != 1.0:
            raise ValueError(f"scales must begin with 1.0, the image itself; got {tuple(scales)}")
        self.scales = tuple(scales)
        self.backbone = DilatedBackbone(backbone, pretrained, output_stride=output_stride)
        *shallow, deepest = self.backbone.channels
        self.classifiers = DilatedClassifiers(deepest, num_classes, rates=(6, 12, 18, 24))
        self.taps = tuple(f"backbone.stages.{i}" for i in range(len(shallow)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes, H, W) of images (N, 3, H, W)."""
        height, width = size_of(images)
        logits = self._coarse_logits(images)
        for scale in self.scales[1:]:
            smaller = self._coarse_logits(resize(images, (round(height * scale), round(width * scale))))
            logits = torch.maximum(logits, resize(smaller, size_of(logits)))
        return resize(logits, (height, width))

    def _coarse_logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifiers(self.backbone(images)[-1])
        return logits
