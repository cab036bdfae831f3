"""Segmentation networks: the ones that the paper names, and how any other is reached."""

from selfreg.networks.build import Preprocessing, build_network, preprocessing
from selfreg.networks.pretrained import load_backbone_weights
from selfreg.networks.pyramid import PyramidNetwork

__all__ = [
    "Preprocessing",
    "PyramidNetwork",
    "build_network",
    "load_backbone_weights",
    "preprocessing",
]
