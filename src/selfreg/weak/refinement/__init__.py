"""Refinement of an image's class scores: functions of (image, scores) to scores, composable in any order.

An image is uint8 (H, W, 3), RGB; scores are float32 (C, H, W), non-negative, of sum 1 over C at every pixel; what
comes out has the shape and meaning of what went in.
"""

from selfreg.weak.refinement.pamr import pamr

__all__ = ["pamr"]
