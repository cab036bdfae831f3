"""Drawing of shapes given by their signed distance, with antialiased colours and exact labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.floating[Any]]
Colour = Sequence[float] | Array


@dataclass(frozen=True)
class Shape:
    """A region of the image plane.

    Attributes:
        distance: Maps (x, y) in pixels to the signed distance from the outline in pixels, negative inside.
        box: Bounding box (left, top, right, bottom) in pixels.
    """

    distance: Callable[[Array, Array], Array]
    box: tuple[float, float, float, float]

    def __or__(self, other: "Shape") -> "Shape":
        """Union of two regions."""
        low = np.minimum(self.box[:2], other.box[:2])
        high = np.maximum(self.box[2:], other.box[2:])
        box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))

        def distance(x: Array, y: Array) -> Array:
            nearer: Array = np.minimum(self.distance(x, y), other.distance(x, y))
            return nearer

        return Shape(distance, box)


def ellipse(x0: float, y0: float, radius_x: float, radius_y: float) -> Shape:
    """An axis-aligned ellipse centred at (x0, y0)."""

    def distance(x: Array, y: Array) -> Array:
        u, v = (x - x0) / radius_x, (y - y0) / radius_y
        norm = np.sqrt(u * u + v * v)
        slope = np.sqrt((u / radius_x) ** 2 + (v / radius_y) ** 2)
        middle = np.where(norm < 1e-3, min(radius_x, radius_y), 0)
        result: Array = norm * (norm - 1) / np.maximum(slope, 1e-6) - middle
        return result

    return Shape(distance, (x0 - radius_x, y0 - radius_y, x0 + radius_x, y0 + radius_y))


def stroke(start: tuple[float, float], end: tuple[float, float], radius: float, radius_end: float = 0.0) -> Shape:
    """A line with round ends whose radius changes from `radius` to `radius_end` (0: constant radius)."""
    (x0, y0), (x1, y1) = start, end
    growth = (radius_end or radius) - radius
    length = max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-6)

    def distance(x: Array, y: Array) -> Array:
        along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length, 0, 1)
        across = (x - x0 - along * (x1 - x0)) ** 2 + (y - y0 - along * (y1 - y0)) ** 2
        result: Array = np.sqrt(across) - radius - growth * along
        return result

    most = max(radius, radius_end)
    return Shape(distance, (min(x0, x1) - most, min(y0, y1) - most, max(x0, x1) + most, max(y0, y1) + most))


def polygon(*corners: tuple[float, float]) -> Shape:
    """A convex polygon; corners in clockwise order on the image."""
    points = np.asarray(corners, dtype=np.float64)
    steps = np.roll(points, -1, axis=0) - points
    normals = np.stack([steps[:, 1], -steps[:, 0]], axis=1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)

    def distance(x: Array, y: Array) -> Array:
        sides = [
            float(normal[0]) * x + float(normal[1]) * y - float(normal @ point)
            for normal, point in zip(normals, points, strict=True)
        ]
        result: Array = np.maximum.reduce(sides)
        return result

    left, top = points.min(axis=0)
    right, bottom = points.max(axis=0)
    return Shape(distance, (float(left), float(top), float(right), float(bottom)))


def rectangle(left: float, top: float, right: float, bottom: float) -> Shape:
    """An axis-aligned rectangle."""
    return polygon((left, top), (right, top), (right, bottom), (left, bottom))


def clouds(height: int, width: int, generator: np.random.Generator, cell: float, octaves: int = 4) -> Array:
    """Smooth noise of about -1..1, (height, width) float32; the coarsest features are `cell` pixels wide."""
    total = np.zeros((height, width), dtype=np.float32)
    strength = 0.55
    for _ in range(octaves):
        rows, columns = int(height / cell) + 3, int(width / cell) + 3
        grid = Image.fromarray(generator.uniform(-1, 1, (rows, columns)).astype(np.float32))
        area = (1.0, 1.0, 1.0 + width / cell, 1.0 + height / cell)
        total += strength * np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC, box=area))
        strength, cell = strength * 0.55, max(cell / 2, 1.5)
    return total


class Canvas:
    """An image and its label map, drawn from far to near.

    Attributes:
        image: (H, W, 3) float32 in [0, 1].
        mask: (H, W) uint8 class indices.
        light: Direction of the light, -1 (left) to 1 (right).
        grain: Fine smooth noise for surfaces, (H, W) float32 of about -1..1.
        folds: Coarse smooth noise for patches and crowns, (H, W) float32 of about -1..1.
    """

    def __init__(self, height: int, width: int, generator: np.random.Generator) -> None:
        self.height = height
        self.width = width
        self.image: Array = np.zeros((height, width, 3), dtype=np.float32)
        self.mask = np.zeros((height, width), dtype=np.uint8)
        self.light = float(generator.choice([-1, 1]) * generator.uniform(0.4, 1.0))
        self.grain = clouds(height, width, generator, max(height / 24, 2.0), octaves=3)
        self.folds = clouds(height, width, generator, height / 7, octaves=3)
        self._x, self._y = np.meshgrid(
            np.arange(width, dtype=np.float32) + 0.5, np.arange(height, dtype=np.float32) + 0.5
        )

    def area(self, shape: Shape, margin: float = 1.0) -> tuple[slice, slice] | None:
        """Rows and columns of the canvas around a shape, or None if it lies outside."""
        left, top, right, bottom = shape.box
        rows = slice(max(int(top - margin), 0), min(int(bottom + margin) + 1, self.height))
        columns = slice(max(int(left - margin), 0), min(int(right + margin) + 1, self.width))
        return None if rows.start >= rows.stop or columns.start >= columns.stop else (rows, columns)

    def points(self, area: tuple[slice, slice]) -> tuple[Array, Array]:
        """x and y of the pixel centres in an area, in pixels."""
        return self._x[area], self._y[area]

    def paint(
        self, shape: Shape, colour: Callable[[Array, Array, Array, tuple[slice, slice]], Array] | Colour, label: int
    ) -> None:
        """Draw a shape and label the pixels whose centre lies inside it.

        Args:
            shape: The region.
            colour: RGB in [0, 1], or a function of (x, y, distance, area) that returns (h, w, 3).
            label: Class index; -1 keeps the label map (for details of what is already drawn).
        """
        area = self.area(shape)
        if area is None:
            return
        x, y = self.points(area)
        distance = shape.distance(x, y)
        cover = np.clip(0.5 - distance, 0, 1)[..., None]
        paint = colour(x, y, distance, area) if callable(colour) else np.asarray(colour, dtype=np.float32)
        self.image[area] += cover * (paint - self.image[area])
        if label >= 0:
            self.mask[area][distance < 0] = label

    def shade(self, shape: Shape, softness: float, strength: float) -> None:
        """Draw a shadow whose edge fades over `softness` pixels; the labels are unchanged."""
        area = self.area(shape, softness + 1)
        if area is None:
            return
        x, y = self.points(area)
        depth = np.clip(0.5 - shape.distance(x, y) / (2 * softness), 0, 1)
        self.image[area] *= (1 - strength * depth * depth * (3 - 2 * depth))[..., None]
