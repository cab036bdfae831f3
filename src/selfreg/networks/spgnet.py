"""SPGNet: two encoder-decoder stages, the second guided by what the first one predicts."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

from selfreg.networks.blocks import conv_bn_relu, pass_through, resize, size_of, tap_points


class Bottleneck(nn.Module):
    """Residual block of the decoder, (N, C, h, w) to the same: 1x1 to C / 4, 3x3, 1x1 back, added to the input, ReLU.

    Source: the bottleneck of He et al., "Deep Residual Learning", CVPR 2016, with batch norm after each convolution.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = channels // 4
        self.residual = nn.Sequential(
            conv_bn_relu(channels, narrow),
            conv_bn_relu(narrow, narrow, kernel_size=3),
            nn.Conv2d(narrow, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.activation = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """Refined features of the same shape."""
        refined: Tensor = self.activation(features + self.residual(features))
        return refined


class Decoder(nn.Module):
    """From the encoder's features, strides 4 to 32, to as many of `width` channels, the same strides.

    The coarsest begins with the image's mean feature (global average pooling, 1x1 convolution, ReLU) added to it. At
    each stride the encoder's feature comes in through a 1x1 convolution with batch norm, is added to the coarser
    result resized to it, and passes a ReLU and a `Bottleneck`.
    """

    def __init__(self, channels: list[int], width: int = 256) -> None:
        super().__init__()
        # No batch norm: the pooled map has a single value per image, which one image a batch cannot normalise.
        self.image_mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels[-1], width, 1), nn.ReLU())
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, width, 1, bias=False), nn.BatchNorm2d(width)) for count in channels
        )
        self.blocks = nn.ModuleList(nn.Sequential(nn.ReLU(), Bottleneck(width)) for _ in channels)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Decoded features (N, width, h, w), fine to coarse like `features`."""
        coarser: Tensor = self.image_mean(features[-1])
        decoded: list[Tensor] = []
        for lateral, block, feature in zip(
            reversed(self.laterals), reversed(self.blocks), reversed(features), strict=True
        ):
            coarser = block(lateral(feature) + resize(coarser, size_of(feature)))
            decoded.append(coarser)
        return decoded[::-1]


class SemanticPredictionGuidance(nn.Module):
    """Re-weight features by what they were seen to be: (N, C, h, w) and class maps (N, K, h, w) to (N, C, h, w).

    The class maps are projected to C channels by a 1x1 convolution; the sigmoid of that multiplies the features.
    Source: SPGNet, the SPG module.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(num_classes, channels, 1)

    def forward(self, features: Tensor, class_maps: Tensor) -> Tensor:
        """Re-weighted features."""
        return features * torch.sigmoid(self.project(class_maps))


class SPGNet(nn.Module):
    """SPGNet (Cheng et al., "Semantic Prediction Guidance for Scene Parsing", ICCV 2019, arXiv 1908.09798).

    Images (N, 3, H, W) float32 to logits (N, num_classes, H, W), in training and evaluation alike. Stage 1 is a ResNet
    and a decoder, which predicts class maps at stride 4; they re-weight the decoder's features (semantic prediction
    guidance), which enter the second ResNet where its stem would be; at each stride that ResNet's features are summed
    with those of the first encoder and decoder; a second decoder predicts the logits; bilinear resizing to the image.

    backbone: a timm ResNet ("resnet50", "resnet18"). num_classes: K. pretrained: both encoders get timm's ImageNet
    weights. width: channels of the decoders. With ResNet-50 and 19 classes it has 57.19 M parameters.

    Taps: strides 4, 8 and 16 of the first encoder, as in other ResNets, and the first stage's class maps, which the
    paper supervises anyway: named in `class_map_taps`, they get the multi-exit loss directly. The second encoder has
    no taps: its features are made from supervised predictions already, and its own prediction is the output.

    Decided here, since no code of the authors is public and their paper is silent or not at hand:

    - decoder width 256, that of ResNet's first bottleneck and of the feature pyramids of that time;
    - ResNet's own bottleneck as residual block (batch norm, expansion 4), its cheapest usual form;
    - the guidance multiplies and adds no identity, so that it can silence a feature;
    - a 1x1 convolution with batch norm and ReLU between guidance and second encoder (256 to 64 channels), and for each
      feature carried across stages, as in the multi-stage pose networks (Li et al., arXiv 1901.00148) it builds on;
    - the loss of the first stage's prediction is that of a multi-exit loss, not a weight of its own.
    """

    class_map_taps = ("prediction",)
    taps = ("stages.0", "stages.1", "stages.2", "prediction")

    def __init__(
        self, backbone: str = "resnet50", num_classes: int = 19, pretrained: bool = False, *, width: int = 256
    ) -> None:
        super().__init__()
        first, second = _resnet(backbone, pretrained), _resnet(backbone, pretrained)
        again = nn.ModuleDict({name: second[name] for name in _LAYERS})
        # Both encoders in one place: pretrained weights and a learning rate of their own apply to both.
        self.backbone = nn.ModuleList([first, again])
        stem, *channels = first.feature_info.channels()
        self.stages = tap_points(3)
        self.decoder = Decoder(channels, width)
        self.prediction = nn.Conv2d(width, num_classes, 1)
        self.guidance = SemanticPredictionGuidance(width, num_classes)
        self.entry = conv_bn_relu(width, stem)
        self.from_encoder = nn.ModuleList(conv_bn_relu(count, count) for count in channels)
        self.from_decoder = nn.ModuleList(conv_bn_relu(width, count) for count in channels)
        self.second_decoder = Decoder(channels, width)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes, H, W) of images (N, 3, H, W)."""
        encoded: list[Tensor] = self.backbone[0](images)[1:]
        encoded = [*pass_through(self.stages, encoded[:-1]), encoded[-1]]
        decoded = self.decoder(encoded)
        guided = self.guidance(decoded[0], self.prediction(decoded[0]))
        decoded_again = self.second_decoder(self._encode_again(self.entry(guided), encoded, decoded))
        return resize(self.classifier(decoded_again[0]), size_of(images))

    def _encode_again(self, features: Tensor, encoded: list[Tensor], decoded: list[Tensor]) -> list[Tensor]:
        """Run the second encoder, adding at each stride what the first stage knew there."""
        encoded_again = []
        for layer, from_encoder, from_decoder, before, after in zip(
            self.backbone[1].children(), self.from_encoder, self.from_decoder, encoded, decoded, strict=True
        ):
            features = layer(features) + from_encoder(before) + from_decoder(after)
            encoded_again.append(features)
        return encoded_again


_LAYERS = ("layer1", "layer2", "layer3", "layer4")


def _resnet(name: str, pretrained: bool) -> Any:
    network = timm.create_model(name, pretrained=pretrained, features_only=True)
    names = [child for child, _ in network.named_children()]
    if any(layer not in names for layer in _LAYERS):
        raise ValueError(f"SPGNet needs a ResNet of timm, {name} is none; give for instance resnet50 or resnet18")
    return network
