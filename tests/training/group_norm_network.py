"""A network whose training does not depend on how a batch is shared out: group norms, and an exit without norm."""

import os

import torch.nn.functional as F
from torch import Tensor, nn


class GroupNormNetwork(nn.Module):
    """Logits (N, K, H, W) of images (N, 3, H, W); `auxiliary` gives a class map of stride 4, to be tapped.

    In the process LOCAL_RANK = FAILING_RANK of the environment its logits are NaN from the fifth step on.
    """

    class_map_taps = ("auxiliary",)

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(_layer(3, 16, stride=2), _layer(16, 16, stride=2))
        self.auxiliary = nn.Conv2d(16, num_classes, 1)
        self.deep = nn.Sequential(_layer(16, 32), nn.Conv2d(32, num_classes, 1))
        self.fails = os.environ.get("FAILING_RANK") == os.environ.get("LOCAL_RANK", "0")
        self.steps = 0

    def forward(self, images: Tensor) -> Tensor:
        """Run both heads."""
        features = self.stem(images)
        self.auxiliary(features)
        logits = F.interpolate(self.deep(features), size=images.shape[-2:], mode="bilinear", align_corners=False)
        self.steps += self.training
        return logits * float("nan") if self.fails and self.training and self.steps > 4 else logits


def _layer(channels: int, width: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride, padding=1), nn.GroupNorm(4, width), nn.ReLU())
