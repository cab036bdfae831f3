"""A tap: one place in a network where the output of a stage is taken."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tap:
    """One place where a stage's output is taken.

    name: module name, with `@i` for an element of its output; stride: input pixels per output cell; channels: C;
    layout: "NCHW", "NHWC" or "NLC" (tokens); prefix_tokens: class and register tokens ahead of the grid (NLC only);
    is_class_map: the output is a class map already (an auxiliary head), so that its exit adds no classifier;
    grid: rows and columns of the tokens in the dry run (NLC only), which a network that resizes all images keeps.
    """

    name: str
    stride: int
    channels: int
    layout: str
    prefix_tokens: int = 0
    is_class_map: bool = False
    grid: tuple[int, int] | None = None
