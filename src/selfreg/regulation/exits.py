"""Cheap exits: the small classifiers that a tapped stage carries while it trains."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ImageHead(nn.Module):
    """Image-level logits z = A * mean over pixels of F + c, from a class map F (N, K, h, w) to (N, K).

    Global average pooling, then a linear layer, as in the authors' exits. A starts as the identity, so that at first
    z is the mean class logit of the image. The pooling is in float32 under autocast as well.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_classes, num_classes)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, class_map: Tensor) -> Tensor:
        """From logits (N, K, h, w) to image-level logits (N, K)."""
        # A sum and a division, not a mean: the sum's gradient is a broadcast view, a mean's a tensor of the map's size.
        total = class_map.sum(dim=(2, 3), dtype=None if class_map.dtype == torch.float64 else torch.float32)
        logits: Tensor = self.linear(total / (class_map.shape[2] * class_map.shape[3]))
        return logits


class Exit(nn.Module):
    """A narrow classifier on one stage: features (N, C, h, w) to class map, image logits and narrow features.

    A separable convolution (1 x 1 to `width / step` channels, depthwise 3 x 3 of stride `step` to `width`), batch norm,
    ReLU, a 1 x 1 to K. Everything after the first 1 x 1 is narrow, and one tensor of each size is kept for the backward
    pass: that keeps the exit cheap (this project's; the authors' exits are two full 3 x 3 convolutions to 256). A
    stage at stride 2 uses `step=2`: its detail goes into the coarser class map through the strided convolution, and
    the loss compares with the class fractions of the coarser cells. A stage at stride 1 uses `step=4`, and 7 x 7 for
    the depthwise convolution, so that no pixel is left out.
    """

    def __init__(self, channels: int, num_classes: int, width: int = 32, step: int = 1) -> None:
        super().__init__()
        inner = width // step
        kernel = max(3, 2 * step - 1)
        self.reduce = nn.Conv2d(channels, inner, 1, bias=False)
        self.spatial = nn.Sequential(
            nn.Conv2d(inner, width, kernel, stride=step, padding=kernel // 2, groups=inner, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        self.classify = nn.Conv2d(width, num_classes, 1)
        self.image_head = ImageHead(num_classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From (N, C, h, w) to class map (N, K, h', w'), image logits (N, K), features (N, width, h', w')."""
        narrow = self.spatial(self.reduce(features))
        class_map = self.classify(narrow)
        return class_map, self.image_head(class_map), narrow


class ClassMapExit(nn.Module):
    """The exit of a stage that is a class map already: the network's own output, or an auxiliary head.

    Adds the image-level logits and, if `width` is given, a 1 x 1 projection of the class map (for the variant
    `feature`).
    """

    def __init__(self, num_classes: int, width: int | None = None) -> None:
        super().__init__()
        self.image_head = ImageHead(num_classes)
        self.project = None if width is None else nn.Conv2d(num_classes, width, 1)

    def forward(self, class_map: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From (N, K, h, w) to the same class map, image logits (N, K), features (N, width or 0, h, w)."""
        features = class_map[:, :0] if self.project is None else self.project(class_map)
        return class_map, self.image_head(class_map), features
