"""Segmentation networks: the ones that the paper names, and how any other is reached."""

from selfreg.networks.build import build_network, refuse_loading_options, runs_own_code
from selfreg.networks.deeplab_v2 import DeepLabV2
from selfreg.networks.hrnet import HRNetV2
from selfreg.networks.input_bands import adapt_input
from selfreg.networks.input_statistics import Preprocessing, preprocessing
from selfreg.networks.ocrnet import OCRNet
from selfreg.networks.pretrained import load_backbone_weights
from selfreg.networks.pyramid import PyramidNetwork
from selfreg.networks.spgnet import SPGNet

__all__ = [
    "DeepLabV2",
    "HRNetV2",
    "OCRNet",
    "Preprocessing",
    "PyramidNetwork",
    "SPGNet",
    "adapt_input",
    "build_network",
    "load_backbone_weights",
    "preprocessing",
    "refuse_loading_options",
    "runs_own_code",
]
