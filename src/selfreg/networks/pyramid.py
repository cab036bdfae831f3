"""Any timm backbone with a light segmentation head."""

import timm
from torch import Tensor, nn

from selfreg.networks.blocks import conv_bn_relu, pass_through, resize, size_of, tap_points


class PyramidNetwork(nn.Module):
    """A timm backbone and the smallest useful pyramid head, so that `timm:NAME` is a segmentation network.

    Every stage from stride 4 on is brought to `width` channels by a 1x1 convolution with batch norm; the maps are
    resized to the finest of them and summed; then ReLU, a 3x3 convolution with batch norm and ReLU, and a 1x1
    convolution to the classes (this project's choice, in the spirit of the feature pyramid of Kirillov et al.,
    "Panoptic Feature Pyramid Networks", CVPR 2019).

    Images (N, 3, H, W) float32 to logits (N, num_classes, H, W). The taps are the backbone's stages, as (N, C, h, w).

    `options` go to `timm.create_model`: `output_stride=16`, `drop_path_rate=0.1`, `pad_type="same"`; transformers that
    were trained at one size need `dynamic_img_size=True` (ViT) or `strict_img_size=False` (Swin).
    """

    def __init__(
        self, backbone: str, num_classes: int, pretrained: bool = False, width: int = 128, **options: object
    ) -> None:
        super().__init__()
        self.backbone = timm.create_model(backbone, pretrained=pretrained, features_only=True, **options)
        self.channels_last = str(getattr(self.backbone, "output_fmt", "NCHW")).endswith("NHWC")
        channels: list[int] = self.backbone.feature_info.channels()
        strides: list[int] = self.backbone.feature_info.reduction()
        first = next((i for i, stride in enumerate(strides) if stride >= 4), 0)
        self.first_used = first
        self.stages = tap_points(len(channels))
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, width, 1, bias=False), nn.BatchNorm2d(width)) for count in channels[first:]
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
        features = pass_through(self.stages, features)
        maps = [lateral(f) for lateral, f in zip(self.laterals, features[self.first_used :], strict=True)]
        total = maps[0]
        for coarser in maps[1:]:
            total = total + resize(coarser, size_of(total))
        logits: Tensor = self.classifier(self.fuse(self.activation(total)))
        return resize(logits, size_of(images))
