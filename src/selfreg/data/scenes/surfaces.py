"""Classes, colours and surfaces of the objects in a scene: coats, walls, shadows."""

from collections.abc import Callable

import numpy as np

from selfreg.data.scenes.painting import Array, Canvas, ellipse

CLASS_NAMES = ("sky", "ground", "tree", "building", "truck", "horse", "cow", "pole", "bird")
SKY, GROUND, TREE, BUILDING, TRUCK, HORSE, COW, POLE, BIRD = range(len(CLASS_NAMES))

Paint = Callable[[Array, Array, Array, tuple[slice, slice]], Array]

COATS = np.array(
    [
        (0.42, 0.26, 0.15),
        (0.55, 0.33, 0.17),
        (0.15, 0.12, 0.11),
        (0.80, 0.71, 0.56),
        (0.88, 0.86, 0.82),
        (0.48, 0.44, 0.41),
    ]
)
"""Horses and cows share their colours, so that a patch of coat alone does not tell which it is."""

WALLS = np.array(
    [
        (0.72, 0.66, 0.56),
        (0.62, 0.38, 0.30),
        (0.80, 0.79, 0.76),
        (0.45, 0.52, 0.60),
        (0.70, 0.30, 0.24),
        (0.52, 0.58, 0.48),
    ]
)
"""Buildings and trucks share their walls."""


def hazed(colour: Array, nearness: float, haze: Array) -> Array:
    """Blend the colour of distant objects with the colour of the air."""
    return colour + (haze - colour) * np.float32(0.55 * (1 - nearness) ** 2)


def rounded(canvas: Canvas, colour: Array, centre: tuple[float, float], radius: tuple[float, float]) -> Paint:
    """Surface of a rounded body: lit from the side of the light and from above, darker toward its outline."""

    def paint(x: Array, y: Array, distance: Array, area: tuple[slice, slice]) -> Array:
        side = np.clip((x - centre[0]) / radius[0], -1.2, 1.2) * (0.16 * canvas.light)
        above = np.clip((y - centre[1]) / radius[1], -1.5, 1.5) * -0.20
        rim = np.clip(-distance / (0.35 * min(radius)), 0, 1) * 0.22 - 0.16
        result: Array = np.clip(colour * (1 + side + above + rim + 0.10 * canvas.grain[area])[..., None], 0, 1)
        return result

    return paint


def wall(canvas: Canvas, colour: Array, ribs: float, courses: float, light: float) -> Paint:
    """Surface of a flat wall with vertical ribs and horizontal courses of the given widths in pixels (0: none)."""

    def paint(x: Array, y: Array, distance: Array, area: tuple[slice, slice]) -> Array:
        tone = light + 0.05 * canvas.grain[area] + 0.06 * canvas.folds[area] + np.clip(-distance / 9, 0, 1) * 0.04
        if ribs > 2.5:
            tone = tone + 0.06 * np.sin(x * (2 * np.pi / ribs))
        if courses > 2.5:
            tone = tone + 0.05 * np.sin(y * (2 * np.pi / courses))
        result: Array = np.clip(colour * tone[..., None], 0, 1)
        return result

    return paint


def ground_shadow(canvas: Canvas, x: float, y: float, width: float, height: float) -> None:
    """Draw a soft shadow at the foot of an object, on the side away from the light."""
    reach = -canvas.light * height * 0.35
    canvas.shade(ellipse(x + reach, y, width / 2 + abs(reach) * 0.7, max(0.06 * height, 1.5)), 0.05 * height + 1, 0.45)
    canvas.shade(ellipse(x, y, width / 2, max(0.035 * height, 1.0)), 0.02 * height + 0.8, 0.35)


def coat(canvas: Canvas, generator: np.random.Generator, haze: Array, nearness: float, patchy: float) -> Paint:
    """Surface of a coat with one colour, or (with probability `patchy`) with blotches of a second colour."""
    first, second = (hazed(COATS[i].astype(np.float32), nearness, haze) for i in generator.permutation(len(COATS))[:2])
    blotched = generator.random() < patchy
    border, slope = generator.uniform(-0.25, 0.35), generator.uniform(-1, 1)
    shift = generator.integers(0, canvas.height)

    def paint(x: Array, y: Array, distance: Array, area: tuple[slice, slice]) -> Array:
        left, right = x[0, 0], x[0, -1] + 1
        top, bottom = y[0, 0], y[-1, 0] + 1
        u, v = (x - left) / (right - left) * 2 - 1, (y - top) / (bottom - top) * 2 - 1
        light = 1 + 0.14 * canvas.light * u - 0.22 * v + 0.09 * canvas.grain[area]
        light += np.clip(-distance / (0.06 * (right - left) + 1), 0, 1) * 0.24 - 0.17
        colour = np.broadcast_to(first, (*x.shape, 3))
        if blotched:
            pattern = np.roll(canvas.folds, shift, axis=1)[area] * 1.4 + 0.5 * slope * u - border
            colour = first + (second - first) * np.clip(pattern * 7 + 0.5, 0, 1)[..., None]
        result: Array = np.clip(colour * light[..., None], 0, 1)
        return result

    return paint
