"""Refinement of an image's class scores: functions of (image, scores) to scores, composable in any order.

An image is uint8 (H, W, 3), RGB; scores are float32 (C, H, W), non-negative, of sum 1 over C at every pixel; what
comes out has the shape and meaning of what went in. The random walk reads the image through the boundaries that an
`AffinityNetwork` finds in it:

    network = train_affinity(images_and_seeds, backbone, seed=0)
    scores = walk_within_boundaries(scores, network.boundaries(normalised_image))
"""

from selfreg.weak.refinement.affinity_network import AffinityNetwork
from selfreg.weak.refinement.affinity_training import load_affinity, train_affinity
from selfreg.weak.refinement.crf import dense_crf
from selfreg.weak.refinement.pamr import pamr
from selfreg.weak.refinement.random_walk import affinity_from_boundaries, random_walk, walk_within_boundaries

__all__ = [
    "AffinityNetwork",
    "affinity_from_boundaries",
    "dense_crf",
    "load_affinity",
    "pamr",
    "random_walk",
    "train_affinity",
    "walk_within_boundaries",
]
