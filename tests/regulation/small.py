"""A network of a few thousand parameters, whose stages have plain names."""

import torch.nn.functional as F
from torch import Tensor, nn


def block(channels: int, out: int, stride: int = 1) -> nn.Sequential:
    """3 x 3, group norm, ReLU: nothing that depends on the rest of the batch."""
    return nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1), nn.GroupNorm(2, out), nn.ReLU(inplace=True))


class Small(nn.Module):
    """Three stages at strides 2, 4 and 8, an unused layer, a class map upsampled to the image."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.stage1 = block(3, 8, 2)
        self.stage2 = block(8, 12, 2)
        self.stage3 = block(12, 16, 2)
        self.spare = nn.Identity()
        self.head = nn.Conv2d(16, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the images' own size."""
        features = self.stage3(self.stage2(self.stage1(images)))
        return F.interpolate(self.head(features), size=images.shape[2:], mode="bilinear")
