"""A procedural data set: landscapes with animals, trucks, houses, trees, poles and birds, with exact labels."""

import zlib

import numpy as np
from numpy.typing import NDArray

from selfreg.data.labels import Labels, full_palette
from selfreg.data.scenes.objects import animal, bird, building, fence, pole, tree, truck
from selfreg.data.scenes.painting import Array, Canvas, Shape, clouds
from selfreg.data.scenes.surfaces import CLASS_NAMES, COW, GROUND, HORSE, SKY, TREE
from selfreg.data.source import Pair

_COLOURS = (
    (120, 180, 235),
    (150, 190, 100),
    (40, 110, 50),
    (160, 110, 90),
    (230, 120, 30),
    (130, 60, 160),
    (240, 200, 60),
    (60, 60, 70),
    (225, 40, 90),
)


class Scenes:
    """Generated images with small objects, thin parts and large objects of similar classes.

    Small objects and thin parts are birds, lamp posts, fences, legs and tails. Large objects of similar classes share
    textures: a horse and a cow may have the same coat, a truck may have walls like a house. Each image is generated on
    the fly from (seed, split, index) alone, in about 20 ms for 128 x 192; no pixel is void.

    Args:
        split: Any name; different names give different images.
        length: Number of images.
        size: (height, width) in pixels, at least (32, 32).
        seed: Seed of the whole set.

    Raises:
        ValueError: If there are no images, or the size is too small.
    """

    labels = Labels(CLASS_NAMES, None, full_palette(_COLOURS))

    def __init__(self, split: str, length: int, size: tuple[int, int] = (128, 192), seed: int = 0) -> None:
        if length < 1:
            raise ValueError(f"scenes of length {length}: give at least 1")
        if min(size) < 32:
            raise ValueError(f"scenes of size {size}: give (height, width) of at least 32 pixels each")
        self.split = split
        self.size = size
        self.seed = seed
        self.ids = tuple(f"{split}_{index:05d}" for index in range(length))

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Pair:
        """Generate the scene at `index`: image (H, W, 3) uint8 and mask (H, W) uint8 with classes 0..8.

        Raises:
            IndexError: If the index is not in 0..len-1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        generator = np.random.default_rng((self.seed, zlib.crc32(self.split.encode()), index))
        canvas = Canvas(*self.size, generator)
        _paint_scene(canvas, generator)
        return Pair(_develop(canvas, generator), canvas.mask)

    def tags(self, index: int) -> NDArray[np.float32]:
        """Tags of the scene at `index`, (K,) float32: 1 for each class that it contains."""
        tags = np.zeros(self.labels.num_classes, dtype=np.float32)
        tags[np.unique(self.read(index).mask)] = 1
        return tags


def _paint_scene(canvas: Canvas, generator: np.random.Generator) -> None:
    horizon = canvas.height * generator.uniform(0.26, 0.46)
    haze = _paint_sky(canvas, horizon, generator)
    _paint_ground(canvas, horizon, haze, generator)
    if generator.random() < 0.55:
        _paint_wood(canvas, horizon, haze, generator)
    things = _choose(generator)
    for nearness, kind in sorted(things):
        x = generator.uniform(0.02, 0.98) * canvas.width
        y = horizon + (canvas.height * 1.02 - horizon) * nearness
        unit = (canvas.height - 0.3 * horizon) * nearness
        _place(canvas, kind, x, y, unit, haze, nearness, generator)
    for _ in range(generator.integers(0, 4)):
        size = canvas.height * generator.uniform(0.035, 0.085)
        place = (generator.uniform(0.05, 0.95) * canvas.width, generator.uniform(0.08, 0.85) * horizon)
        bird(canvas, *place, size, True, generator)


def _choose(generator: np.random.Generator) -> list[tuple[float, str]]:
    """Choose objects on the ground: (nearness in [0, 1], kind), sorted from far to near."""
    plan = (
        ("building", (0, 1, 1, 2), 0.16, 0.34),
        ("tree", (0, 1, 2, 3), 0.14, 0.50),
        ("truck", (0, 0, 1, 1), 0.26, 0.55),
        ("animal", (1, 1, 2, 2, 3), 0.30, 0.92),
        ("pole", (0, 1, 2, 3), 0.20, 0.75),
        ("fence", (0, 0, 1), 0.22, 0.60),
        ("bird", (0, 1, 1, 2, 3), 0.25, 0.95),
    )
    things = []
    for kind, counts, far, near in plan:
        for _ in range(int(generator.choice(counts))):
            things.append((float(generator.uniform(far, near)), kind))
    return things


def _place(
    canvas: Canvas, kind: str, x: float, y: float, unit: float, haze: Array, nearness: float, rng: np.random.Generator
) -> None:
    """Draw one object with its foot at (x, y); `unit` is the height of the image at that distance, in pixels."""
    if kind == "animal":
        animal(canvas, x, y, unit * rng.uniform(0.62, 0.82), int(rng.choice([HORSE, COW])), haze, nearness, rng)
    elif kind == "bird":
        bird(canvas, x, y, max(unit * rng.uniform(0.09, 0.14), 4.0), False, rng)
    elif kind == "fence":
        fence(canvas, y, unit * rng.uniform(0.22, 0.32), haze, nearness, rng)
    elif kind == "building":
        building(canvas, x, y, unit * rng.uniform(1.5, 2.4), haze, nearness, rng)
    elif kind == "tree":
        tree(canvas, x, y, unit * rng.uniform(1.4, 2.2), haze, nearness, rng)
    elif kind == "truck":
        truck(canvas, x, y, unit * rng.uniform(0.9, 1.2), haze, nearness, rng)
    else:
        pole(canvas, x, y, unit * rng.uniform(1.1, 1.8), haze, nearness, rng)


def _paint_sky(canvas: Canvas, horizon: float, generator: np.random.Generator) -> Array:
    """Draw a sky with clouds over the whole canvas; return the colour of the air at the horizon."""
    warmth = generator.uniform(0, 1)
    zenith = np.array((0.28, 0.48, 0.78)) * (1 - warmth) + np.array((0.48, 0.56, 0.70)) * warmth
    low = np.array((0.74, 0.83, 0.90)) * (1 - warmth) + np.array((0.93, 0.84, 0.72)) * warmth
    down = np.clip(np.arange(canvas.height)[:, None] / max(horizon, 1), 0, 1)[..., None] ** 1.3
    sky = zenith * (1 - down) + low * down
    veil = clouds(canvas.height, canvas.width, generator, canvas.height / 3, octaves=5)
    veil = np.clip((veil - generator.uniform(-0.15, 0.45)) * 1.8, 0, 1)[..., None]
    canvas.image[:] = sky + (np.array((0.95, 0.95, 0.96)) - sky) * veil * (0.9 - 0.5 * down)
    canvas.mask[:] = SKY
    return low.astype(np.float32)


def _paint_ground(canvas: Canvas, horizon: float, haze: Array, generator: np.random.Generator) -> None:
    """Draw grass or earth in perspective, with an optional path to the horizon."""
    grass = np.array((0.36, 0.46, 0.20)) * generator.uniform(0.75, 1.15)
    earth = np.array((0.55, 0.46, 0.33)) * generator.uniform(0.8, 1.1)
    first = grass if generator.random() < 0.7 else earth
    side = 256
    field = clouds(side, side, generator, 24, octaves=4)
    bend = generator.uniform(-0.3, 0.3)

    def paint(x: Array, y: Array, _: Array, area: tuple[slice, slice]) -> Array:
        depth = np.clip((y - horizon) / (canvas.height - horizon), 0.02, 1)
        away = 1 / depth
        across = (x / canvas.width - 0.5) * away
        rows, columns = _reflected(away * 46, side), _reflected(across * 150, side)
        fade = np.clip(depth * 2.2, 0.1, 1)
        pattern = field[rows, columns] * fade
        colour = first + (earth - first) * np.clip(pattern * 0.9, 0, 0.6)[..., None]
        if abs(bend) > 0.1:
            verge = np.abs(across - bend * (away - 1) * 0.4 + bend) - 0.22
            path = np.clip(0.5 - verge * 12, 0, 1)[..., None]
            colour = colour + (np.array((0.60, 0.56, 0.50)) - colour) * path
        light = 0.92 + 0.16 * pattern + 0.07 * canvas.grain[area] * fade + 0.06 * canvas.folds[area]
        colour = np.clip(colour * light[..., None], 0, 1)
        result: Array = colour + (haze - colour) * (0.55 * (1 - depth) ** 4)[..., None]
        return result

    slope = generator.uniform(-0.04, 0.04) * canvas.height
    roll = canvas.folds[0] * 0.012 * canvas.height

    def surface(x: Array, y: Array) -> Array:
        columns = np.clip(x.astype(np.intp), 0, canvas.width - 1)
        result: Array = horizon + slope * (x / canvas.width - 0.5) + roll[columns] - y
        return result

    canvas.paint(Shape(surface, (0, horizon - 0.06 * canvas.height, canvas.width, canvas.height)), paint, GROUND)


def _reflected(place: Array, side: int) -> NDArray[np.intp]:
    """Map any coordinate to an index 0..side-1 by reflection, so that a repeated texture has no seams."""
    turn = place.astype(np.intp) % (2 * side)
    return np.minimum(turn, 2 * side - 1 - turn)


def _paint_wood(canvas: Canvas, horizon: float, haze: Array, generator: np.random.Generator) -> None:
    """Draw a distant forest along a part of the horizon."""
    height = canvas.height * generator.uniform(0.05, 0.12)
    middle, reach = generator.uniform(0, 1) * canvas.width, generator.uniform(0.25, 0.7) * canvas.width
    green = np.array((0.20, 0.32, 0.17)) * generator.uniform(0.8, 1.2)
    green = (green + (haze - green) * 0.35).astype(np.float32)

    def outline(x: Array, y: Array) -> Array:
        columns = np.clip(x.astype(np.intp), 0, canvas.width - 1)
        bumps = 0.65 + 0.35 * canvas.grain[-1][columns] + 0.3 * canvas.folds[-1][columns]
        top = horizon + 0.01 * canvas.height - height * bumps * np.clip(1 - ((x - middle) / reach) ** 2, -1, 1)
        result: Array = np.maximum(top - y, y - horizon - 0.025 * canvas.height)
        return result

    def paint(_x: Array, _y: Array, distance: Array, area: tuple[slice, slice]) -> Array:
        result: Array = np.clip(
            green * (0.95 + 0.22 * canvas.grain[area] + np.clip(-distance / 8, 0, 1) * -0.2)[..., None], 0, 1
        )
        return result

    canvas.paint(Shape(outline, (0, horizon - 2 * height, canvas.width, horizon + 0.03 * canvas.height)), paint, TREE)


def _develop(canvas: Canvas, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Convert the canvas to a photograph: exposure, slight vignetting, sensor noise, 8 bits."""
    x, y = canvas.points((slice(None), slice(None)))
    radius = (x / canvas.width - 0.5) ** 2 + (y / canvas.height - 0.5) ** 2
    exposure = generator.uniform(0.85, 1.12) * (1.03 - 0.28 * radius)
    noise = generator.standard_normal(canvas.image.shape, dtype=np.float32) * 0.012
    exposed = 255 * (canvas.image * exposure[..., None] + noise) + 0.5
    return np.asarray(np.clip(exposed, 0, 255), dtype=np.uint8)
