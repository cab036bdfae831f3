"""Refinement of an image's class scores: functions of (image, scores) to scores, composable in any order.

An image is uint8 (H, W, 3), RGB; scores are float32 (C, H, W), non-negative, of sum 1 over C at every pixel; what
comes out has the shape and meaning of what went in. The random walk reads the image through the boundaries that an
affinity network finds in it.
"""

from selfreg.weak.refinement.pamr import pamr
from selfreg.weak.refinement.random_walk import affinity_from_boundaries, random_walk, walk_within_boundaries

__all__ = ["affinity_from_boundaries", "pamr", "random_walk", "walk_within_boundaries"]
