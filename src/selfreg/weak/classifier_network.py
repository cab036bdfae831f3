"""The classifier network: trained on image-level tags, its class maps localise the classes."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import multilabel_soft_margin_loss

from selfreg.config.weak import ClassifierConfig
from selfreg.networks import load_backbone_weights, refuse_loading_options
from selfreg.networks.blocks import DilatedBackbone
from selfreg.networks.options import TIMM_OPTIONS, check_options, check_timm_name, without_hub
from selfreg.regulation import ExitOutputs, MultiExit


class ClassifierNetwork(nn.Module):
    """A timm backbone and a bias-free 1 x 1 head: images (N, 3, H, W) to class maps (N, K, h, w).

    The mean of a class map over the pixels is the image-level logit of the class; its value at a pixel is the class
    activation map (the features weighted by the head). Both come from the same tensor. Without a bias a map is zero
    where the features are zero; its positive part is evidence for the class.

    Source: CAM (Zhou et al., CVPR 2016) as trained by IRN (Ahn et al., CVPR 2019): output stride 16, 1 x 1, no bias.
    """

    def __init__(
        self, backbone: str, num_classes: int, pretrained: bool = False, output_stride: int = 16, **options: object
    ) -> None:
        super().__init__()
        self.backbone = DilatedBackbone(backbone, pretrained, output_stride, **options)
        self.head = nn.Conv2d(self.backbone.channels[-1], num_classes, 1, bias=False)
        self.taps = tuple(f"backbone.stages.{stage}" for stage in range(len(self.backbone.channels) - 1))

    def forward(self, images: Tensor) -> Tensor:
        """Class maps (N, K, h, w) of images (N, 3, H, W)."""
        maps: Tensor = self.head(self.backbone(images)[-1])
        return maps


def build_classifier(config: ClassifierConfig, num_classes: int, seed: int, *, pretrained: bool = True) -> nn.Module:
    """Build the classifier of a configuration: a `ClassifierNetwork`, wrapped in `MultiExit` if it has exits.

    Args:
        config: The section `classifier`.
        num_classes: Number of foreground classes K.
        seed: Seed of the random weights.
        pretrained: False ignores the pretrained weights of the configuration.

    Raises:
        ValueError: For a backbone, weights or taps that do not fit.
    """
    torch.manual_seed(seed)
    source = config.pretrained if pretrained else False
    refuse_loading_options(config.backbone, config.options)
    check_timm_name("classifier.backbone", config.backbone)
    check_options(config.backbone, config.options, TIMM_OPTIONS)
    with nullcontext() if source is True else without_hub():
        network = ClassifierNetwork(
            config.backbone, num_classes, source is True, config.output_stride, **config.options
        )
    if isinstance(source, str):
        load_backbone_weights(network, source)
    if not config.taps:
        return network
    return MultiExit(network, num_classes, taps=config.taps)


def class_maps(classifier: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the class maps (N, K, h_i, w_i) of all exits, shallow to deep; the classifier's own map is the last."""
    result = classifier(images)
    return result.class_maps if isinstance(result, ExitOutputs) else [result]


def tag_loss(maps: list[Tensor], tags: Tensor) -> Tensor:
    """Multi-label soft margin loss of the averaged class map of every exit, summed over the exits.

    L = - sum_i mean_{n, k} [t log s(z_i) + (1 - t) log (1 - s(z_i))], z_i the mean over pixels, s the sigmoid.

    Args:
        maps: Class maps of the exits, logits (N, K, h_i, w_i).
        tags: Image-level tags (N, K), 0 or 1.

    Returns:
        A scalar.

    Source: IRN for one output; the sum over exits follows the multi-exit loss.
    """
    terms = [multilabel_soft_margin_loss(maps_of_exit.float().mean(dim=(2, 3)), tags) for maps_of_exit in maps]
    return torch.stack(terms).sum()


def show_exits(classifier: nn.Module) -> nn.Module:
    """Put a classifier into eval mode with its exits still running, so that their class maps can be read."""
    classifier.eval()
    if isinstance(classifier, MultiExit):
        # MultiExit reads only its own flag; its submodules, batch norms included, stay in eval mode
        classifier.training = True
    return classifier
