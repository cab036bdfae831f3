"""Any timm backbone with a light segmentation head."""

import timm
from torch import Tensor, nn

from selfreg.networks.blocks import conv_bn_relu, pass_through, resize, size_of, tap_points

PLAIN_STAGES = 4
"""Number of blocks of a plain vision transformer whose features are used, at equal distances, the last one included."""


class PyramidNetwork(nn.Module):
    """A timm backbone and the smallest useful pyramid head, so that `timm:NAME` is a segmentation network.

    Every stage from stride 4 on is brought to `width` channels by a 1x1 convolution with batch norm; the maps are
    resized to the finest of them and summed; then ReLU, a 3x3 convolution with batch norm and ReLU, and a 1x1
    convolution to the classes (this project's choice, in the spirit of the feature pyramid of Kirillov et al.,
    "Panoptic Feature Pyramid Networks", CVPR 2019).

    A plain vision transformer has one stride, mostly 16, in all of its blocks. Its features after four blocks at equal
    distances become the levels 4, 8, 16 and 32 of a pyramid, see `PlainPyramid`.

    Images (N, 3, H, W) float32 to logits (N, num_classes, H, W). The taps are the backbone's stages, as (N, C, h, w).

    Args:
        backbone: Name of a timm model that gives feature maps (`features_only`).
        num_classes: K.
        pretrained: Load timm's weights.
        width: Channels of the head.
        options: For `timm.create_model`: `output_stride=16`, `drop_path_rate=0.1`, `pad_type="same"`.

    Raises:
        ValueError: If timm gives no feature maps of this model.
    """

    def __init__(
        self, backbone: str, num_classes: int, pretrained: bool = False, width: int = 128, **options: object
    ) -> None:
        super().__init__()
        try:
            self.backbone = timm.create_model(backbone, pretrained=pretrained, features_only=True, **options)
            if _is_plain(self.backbone) and "out_indices" not in options:
                indices = _equal_distances(len(self.backbone.model.feature_info))
                self.backbone = timm.create_model(
                    backbone, pretrained=pretrained, features_only=True, out_indices=indices, **options
                )
        except (AssertionError, RuntimeError) as error:
            # raises again where it is not the feature maps that fail
            timm.create_model(backbone, pretrained=pretrained, **options)
            raise ValueError(f"timm gives no feature maps of {backbone}; choose another backbone") from error
        self.channels_last = str(getattr(self.backbone, "output_fmt", "NCHW")).endswith("NHWC")
        channels: list[int] = self.backbone.feature_info.channels()
        strides: list[int] = self.backbone.feature_info.reduction()
        self.stages = tap_points(len(channels))
        self.plain = PlainPyramid(channels) if _is_plain(self.backbone) and len(channels) == PLAIN_STAGES else None
        first = next((i for i, stride in enumerate(strides) if stride >= 4), 0)
        self.first_used = 0 if self.plain else first
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, width, 1, bias=False), nn.BatchNorm2d(width))
            for count in channels[self.first_used :]
        )
        self.activation = nn.ReLU()
        self.fuse = conv_bn_relu(width, width, kernel_size=3)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.taps = tuple(f"stages.{i}" for i in range(len(channels)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes, H, W) of images (N, 3, H, W)."""
        features: list[Tensor] = self.backbone(images)
        if self.channels_last:
            features = [feature.permute(0, 3, 1, 2) for feature in features]
        features = pass_through(self.stages, features)[self.first_used :]
        if self.plain is not None:
            features = self.plain(features)
        maps = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
        total = maps[0]
        for coarser in maps[1:]:
            total = total + resize(coarser, size_of(total))
        logits: Tensor = self.classifier(self.fuse(self.activation(total)))
        return resize(logits, size_of(images))


class PlainPyramid(nn.Module):
    """Four levels out of the features of a plain vision transformer: 4, 2, 1 and 1/2 times its resolution.

    Transposed convolutions of stride 2 for the finer levels (two of them with batch norm and GELU between for the
    finest), max pooling for the coarsest. The levels keep the channels of their features.

    Source: the simple feature pyramid of Li et al., "Exploring Plain Vision Transformer Backbones for Object
    Detection", ECCV 2022. As there for segmentation in BEiT (Bao et al., ICLR 2022) each level is made of another
    block's features, shallow ones for the finest.
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        finest, fine, _, _ = channels
        self.levels = nn.ModuleList(
            [
                nn.Sequential(_up(finest), nn.BatchNorm2d(finest), nn.GELU(), _up(finest)),
                _up(fine),
                nn.Identity(),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """From four maps (N, C, h, w) to maps of sizes 4h x 4w, 2h x 2w, h x w and about h/2 x w/2."""
        return [level(feature) for level, feature in zip(self.levels, features, strict=True)]


def _up(channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels, channels, 2, stride=2)


def _is_plain(backbone: nn.Module) -> bool:
    """Whether a features-only backbone has one stride throughout, coarse enough to need finer levels."""
    strides: list[int] = backbone.feature_info.reduction()  # type: ignore[operator, union-attr]
    return len(set(strides)) == 1 and strides[0] > 4 and hasattr(backbone, "model")


def _equal_distances(blocks: int) -> tuple[int, ...]:
    count = min(PLAIN_STAGES, blocks)
    return tuple((index + 1) * blocks // count - 1 for index in range(count))
