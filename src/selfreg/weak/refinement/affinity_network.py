"""A small network on a frozen backbone that predicts class boundaries; it is trained on seeds only."""

import torch
from torch import Tensor, nn

from selfreg.networks.blocks import resize

STRIDE = 4
"""Stride of the grid of the boundaries, in image pixels."""

WIDTH = 32
"""Channels per stage of the backbone (IRN)."""


class BoundaryBranch(nn.Module):
    """Return the probability that a class boundary passes through each pixel of the grid: float32 (h, w), on the CPU.

    The logits of the image and of its mirror image are averaged (IRN).

    Args:
        image: Normalised image (3, H, W); h = ceil(H / 4), w = ceil(W / 4).
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.projections = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, WIDTH, 1, bias=False), nn.GroupNorm(4, WIDTH), nn.ReLU(inplace=True))
            for count in channels
        )
        self.classifier = nn.Conv2d(WIDTH * len(channels), 1, 1)

    def forward(self, stages: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Logits (N, h, w) on a grid of `size` = (h, w), of stages (N, C_i, h_i, w_i)."""
        projected = [
            resize(projection(stage), size) for projection, stage in zip(self.projections, stages, strict=True)
        ]
        logits: Tensor = self.classifier(torch.cat(projected, dim=1))
        return logits[:, 0]


class AffinityNetwork(nn.Module):
    """Predicts class boundaries on a grid of stride 4 from all stages of a frozen backbone.

    Args:
        backbone: Module that returns a list of feature maps (N, C_i, h_i, w_i) of images (N, 3, H, W), such as a timm
            model with `features_only=True` or the backbone of a trained classifier. It is frozen and kept in eval mode.

    Raises:
        ValueError: If the backbone returns no list of maps.

    Source: the boundary branch of IRN (Ahn et al., CVPR 2019, section on the network's architecture), which reads the
    five stages of a ResNet-50. IRN's second branch, the displacement field, separates instances and is left out: both
    branches share no weights, so the boundaries learn the same without it.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        parameter = next(backbone.parameters())
        with torch.no_grad():
            stages = backbone(parameter.new_zeros(1, 3, 64, 64))
        if not isinstance(stages, list | tuple) or any(stage.ndim != 4 for stage in stages):
            raise ValueError(
                f"the backbone {type(backbone).__name__} must return a list of feature maps (N, C, h, w), "
                "as a timm model made with features_only=True does"
            )
        self.branch = BoundaryBranch([stage.shape[1] for stage in stages]).to(parameter.device)

    def train(self, mode: bool = True) -> "AffinityNetwork":
        """Set the mode of the branch; the backbone always stays in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Boundary logits (N, h, w), h = ceil(H / 4), of normalised images (N, 3, H, W); corners lie on corners."""
        height, width = images.shape[2:]
        with torch.no_grad():
            stages = list(self.backbone(images))
        logits: Tensor = self.branch(stages, (-(-height // STRIDE), -(-width // STRIDE)))
        return logits

    @torch.no_grad()
    def boundaries(self, image: Tensor) -> Tensor:
        """How surely a class boundary passes through each pixel of the grid: float32 (h, w) in 0..1, on the CPU.

        image: normalised, (3, H, W); h = ceil(H / 4), w = ceil(W / 4). The logits of the image and of its mirror image
        are averaged (IRN).
        """
        parameter = next(self.branch.parameters())
        image = image.to(parameter)
        logits = self(torch.stack([image, image.flip(-1)]))
        averaged: Tensor = (logits[0] + logits[1].flip(-1)) / 2
        return averaged.sigmoid().float().cpu()
