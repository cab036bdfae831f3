"""Image-mask pairs: reading, checking, augmentation, loading."""

from selfreg.data.class_order import check_same_classes, in_class_order, index_table
from selfreg.data.folder import Folder
from selfreg.data.kinds import find_splits, guess_kind, open_source
from selfreg.data.label_files import read_labels
from selfreg.data.labels import IGNORE_INDEX, Labels, full_palette, voc_palette
from selfreg.data.loader import Draw, EvaluationSet, SeededSampler, TrainingSet, collate_padded
from selfreg.data.masks import read_mask
from selfreg.data.pairs import FilePairs
from selfreg.data.pixels import IMAGENET_MEAN, IMAGENET_STD, full_scale, normalise
from selfreg.data.pseudo_labels import PseudoLabels, open_pseudo_labels
from selfreg.data.reading import ImageFormat, image_format_of, read_image, read_pair
from selfreg.data.scenes import Scenes
from selfreg.data.source import Pair, Source
from selfreg.data.transforms import TrainingTransform

__all__ = [
    "IGNORE_INDEX",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Draw",
    "EvaluationSet",
    "FilePairs",
    "Folder",
    "ImageFormat",
    "Labels",
    "Pair",
    "PseudoLabels",
    "Scenes",
    "SeededSampler",
    "Source",
    "TrainingSet",
    "TrainingTransform",
    "check_same_classes",
    "collate_padded",
    "find_splits",
    "full_palette",
    "full_scale",
    "guess_kind",
    "image_format_of",
    "in_class_order",
    "index_table",
    "normalise",
    "open_pseudo_labels",
    "open_source",
    "read_image",
    "read_labels",
    "read_mask",
    "read_pair",
    "voc_palette",
]
