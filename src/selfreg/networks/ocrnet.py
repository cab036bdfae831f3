"""OCRNet: every pixel looks up the regions of the classes."""

import torch
from torch import Tensor, nn

from selfreg.networks.blocks import DilatedBackbone, conv_bn_relu, resize, size_of
from selfreg.networks.hrnet import HRNetBackbone


def object_regions(class_maps: Tensor, features: Tensor) -> Tensor:
    """One feature per class: the mean of all pixels, weighted by how much they belong to the class.

    class_maps (N, K, h, w) logits, features (N, C, h, w); returns (N, C, K). The weights of a class are the softmax of
    its map over all positions. Source: OCRNet, "object region representations".
    """
    weights = class_maps.flatten(2).softmax(dim=2)
    return torch.einsum("nkp,ncp->nck", weights, features.flatten(2))


class ObjectAttention(nn.Module):
    """What the regions tell each pixel: features (N, C, h, w) and regions (N, C, K) to context (N, C, h, w).

    Pixels are queries, regions are keys and values, all at `width` channels; the similarities are divided by the
    square root of `width` and normalised over the K regions. Source: OCRNet,
    "object contextual representations".
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.query = nn.Sequential(conv_bn_relu(channels, width), conv_bn_relu(width, width))
        self.key = nn.Sequential(conv_bn_relu(channels, width), conv_bn_relu(width, width))
        self.value = conv_bn_relu(channels, width)
        self.restore = conv_bn_relu(width, channels)

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        """Context (N, C, h, w)."""
        regions = regions.unsqueeze(3)
        query = self.query(features).flatten(2)
        key, value = self.key(regions).flatten(2), self.value(regions).flatten(2)
        similarity = torch.einsum("ncp,nck->npk", query, key) * key.shape[1] ** -0.5
        context = torch.einsum("npk,nck->ncp", similarity.softmax(dim=2), value)
        restored: Tensor = self.restore(context.reshape(*context.shape[:2], *size_of(features)))
        return restored


class OCRNet(nn.Module):
    """OCRNet (Yuan, Chen and Wang, "Object-Contextual Representations", ECCV 2020, arXiv 1909.11065).

    Images (N, 3, H, W) float32 to logits (N, num_classes, H, W), in training and evaluation alike: auxiliary class
    maps and 512-channel pixel features are made from the backbone; `object_regions` sums the features up per class;
    `ObjectAttention` (at 256 channels) gives each pixel the regions it belongs to; both are joined by a 1x1 convolution
    with batch norm, ReLU and dropout 0.05, and a 1x1 convolution leads to the classes; bilinear resizing to the image.

    backbone: a timm HRNet ("hrnet_w48"), its branches concatenated at stride 4, or a ResNet ("resnet101"), dilated to
    stride 8. num_classes: K. pretrained: load timm's ImageNet weights. width: channels of the pixel features; half of
    it for the attention. OCRNet with HRNetV2-W48 and 19 classes has 70.37 M parameters, as published.

    Taps: for HRNet its stages 1 to 3, for a ResNet strides 2, 4 and 8; and `auxiliary`, whose output is a class map of
    its own. `class_map_taps` names it: as an exit it gets the multi-exit loss directly, and that is the auxiliary loss
    of the paper (0.4 times a cross-entropy there). Without it nothing but the main loss would shape the regions.
    """

    class_map_taps = ("auxiliary",)

    def __init__(
        self, backbone: str = "hrnet_w48", num_classes: int = 19, pretrained: bool = False, *, width: int = 512
    ) -> None:
        super().__init__()
        self.backbone: HRNetBackbone | DilatedBackbone
        if backbone.startswith("hrnet_"):
            self.backbone = HRNetBackbone(backbone, pretrained)
            deep = self.backbone.channels
            self.auxiliary = nn.Sequential(conv_bn_relu(deep, deep, bias=True), nn.Conv2d(deep, num_classes, 1))
            taps = 3
        else:
            self.backbone = DilatedBackbone(backbone, pretrained, output_stride=8)
            *shallow, before_last, deep = self.backbone.channels
            self.auxiliary = nn.Sequential(
                conv_bn_relu(before_last, width, kernel_size=3, bias=True),
                nn.Dropout2d(0.05),
                nn.Conv2d(width, num_classes, 1),
            )
            taps = len(shallow)
        self.taps = (*(f"backbone.stages.{i}" for i in range(taps)), "auxiliary")
        self.pixel_features = conv_bn_relu(deep, width, kernel_size=3, bias=True)
        self.attention = ObjectAttention(width, width // 2)
        self.join = nn.Sequential(conv_bn_relu(2 * width, width), nn.Dropout2d(0.05))
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes, H, W) of images (N, 3, H, W)."""
        if isinstance(self.backbone, HRNetBackbone):
            deep = before = self.backbone(images)
        else:
            *_, before, deep = self.backbone(images)
        class_maps = self.auxiliary(before)
        features = self.pixel_features(deep)
        context = self.attention(features, object_regions(class_maps, features))
        logits = self.classifier(self.join(torch.cat([context, features], dim=1)))
        return resize(logits, size_of(images))
