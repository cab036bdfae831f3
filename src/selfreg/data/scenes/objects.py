"""The objects of a scene, each drawn part by part with its class."""

import numpy as np

from selfreg.data.scenes.painting import Array, Canvas, Shape, ellipse, polygon, rectangle, stroke
from selfreg.data.scenes.surfaces import (
    BIRD,
    BUILDING,
    HORSE,
    POLE,
    TREE,
    TRUCK,
    WALLS,
    coat,
    ground_shadow,
    hazed,
    rounded,
    wall,
)


def animal(
    canvas: Canvas, x: float, y: float, size: float, kind: int, haze: Array, nearness: float, rng: np.random.Generator
) -> None:
    """Draw a horse or a cow, `size` pixels high with its hooves at (x, y): a body, four thin legs, a tail."""
    horse = kind == HORSE
    facing = float(rng.choice([-1, 1]))
    length = size * (0.50 if horse else 0.56)
    top, belly = y - size * (0.64 if horse else 0.62), y - size * (0.34 if horse else 0.28)
    middle, half = (top + belly) / 2, (belly - top) / 2

    def at(along: float, up: float) -> tuple[float, float]:
        return x + facing * along * size, y - up * size

    ground_shadow(canvas, x, y, length * 1.3, size * 0.8)
    paint = coat(canvas, rng, haze, nearness, 0.35 if horse else 0.75)
    thin = max(size * rng.uniform(0.022, 0.032), 0.75)
    hips, shoulders = -0.34, 0.30
    far, near = stroke(at(hips, 0.4), at(hips, 0.4), 0.1), stroke(at(hips, 0.4), at(hips, 0.4), 0.1)
    for hip in (hips, shoulders):
        swing = rng.uniform(-0.09, 0.09)
        far |= stroke(at(hip + 0.07, 0.42), at(hip + 0.07 - swing, 0.02), thin * 1.5, thin)
        near |= stroke(at(hip, 0.42), at(hip + swing, 0.0), thin * 1.7, thin)
    tail = stroke(at(-0.44, 0.56), at(-0.50, 0.24), thin * 0.9, thin * (1.6 if horse else 0.8))
    body = ellipse(x, middle, length * 0.86, half * 1.02) | ellipse(*at(-0.24, 0.49), 0.19 * size, half * 1.08)
    body |= ellipse(*at(0.24, 0.49), 0.18 * size, half * 1.05)
    grazing = rng.random() < 0.3
    if horse:
        poll, nose = (at(0.62, 0.28), at(0.70, 0.08)) if grazing else (at(0.58, 0.93), at(0.76, 0.78))
        body |= stroke(at(0.34, 0.56), poll, 0.125 * size, 0.062 * size) | stroke(poll, nose, 0.065 * size, 0.04 * size)
        ears = stroke(poll, (poll[0], poll[1] - 0.11 * size), max(0.022 * size, 0.7))
    else:
        poll, nose = (at(0.56, 0.26), at(0.64, 0.09)) if grazing else (at(0.54, 0.70), at(0.68, 0.56))
        body |= stroke(at(0.34, 0.54), poll, 0.13 * size, 0.085 * size) | stroke(poll, nose, 0.085 * size, 0.06 * size)
        ears = stroke((poll[0] - 0.09 * size, poll[1] - 0.03 * size), (poll[0] + 0.07 * size, poll[1]), 0.025 * size)
    dark = hazed(np.array((0.13, 0.11, 0.10), dtype=np.float32), nearness, haze)
    canvas.paint(far, lambda *about: paint(*about) * 0.72, kind)
    canvas.paint(tail, dark if horse else paint, kind)
    canvas.paint(near | body | ears, paint, kind)
    if horse:
        mane = stroke(at(0.30, 0.66), (poll[0] - facing * 0.05 * size, poll[1]), 0.04 * size, 0.03 * size)
        canvas.paint(mane, dark, kind)
    else:
        horns = stroke(
            (poll[0] - 0.02 * size, poll[1] - 0.08 * size),
            (poll[0] + 0.05 * size * facing, poll[1] - 0.15 * size),
            0.02 * size,
        )
        canvas.paint(horns, (0.85, 0.82, 0.72), kind)
        canvas.paint(ellipse(*at(-0.16, 0.27), 0.07 * size, 0.05 * size), (0.80, 0.62, 0.56), kind)
    canvas.paint(ellipse(poll[0], poll[1], max(0.014 * size, 0.5), max(0.014 * size, 0.5)), (0.05, 0.04, 0.04), -1)


def building(
    canvas: Canvas, x: float, y: float, size: float, haze: Array, nearness: float, rng: np.random.Generator
) -> None:
    """Draw a house, `size` pixels high, with two visible sides, windows, a door and a roof."""
    width = size * rng.uniform(0.8, 1.7)
    colour = hazed(WALLS[rng.integers(len(WALLS))].astype(np.float32), nearness, haze)
    roof = hazed(np.array((0.42, 0.25, 0.21)) * rng.uniform(0.7, 1.2), nearness, haze).astype(np.float32)
    turn = -float(np.sign(canvas.light))
    eaves, side = y - size * 0.72, width * 0.32 * turn
    ribs, courses = (size * 0.06, 0.0) if rng.random() < 0.5 else (0.0, size * 0.05)
    left, right = x - width / 2, x + width / 2
    edge = right if turn > 0 else left
    ground_shadow(canvas, x, y, width * 1.1, size * 0.5)
    flank = [(edge, eaves), (edge + side, eaves + size * 0.05), (edge + side, y - size * 0.06), (edge, y)]
    canvas.paint(polygon(*(flank if turn > 0 else flank[::-1])), wall(canvas, colour, ribs, courses, 0.68), BUILDING)
    canvas.paint(rectangle(left, eaves, right, y), wall(canvas, colour, ribs, courses, 1.02), BUILDING)
    if rng.random() < 0.7:
        over, ridge = 0.05 * size, eaves - 0.28 * size
        top = polygon(
            (left + width * 0.12, ridge),
            (right - width * 0.12, ridge),
            (right + over, eaves + 1),
            (left - over, eaves + 1),
        )
        canvas.paint(top, wall(canvas, roof, 0.0, size * 0.07, 1.0), BUILDING)
        chimney = left + width * rng.uniform(0.25, 0.7)
        canvas.paint(rectangle(chimney, ridge - 0.1 * size, chimney + 0.09 * size, ridge + 2), roof * 0.8, BUILDING)
    glass = hazed(np.array((0.20, 0.26, 0.33), dtype=np.float32), nearness, haze)
    columns, floors = max(2, int(width / size * 3)), int(rng.integers(1, 3))
    for floor in range(floors):
        upper = eaves + size * 0.72 * (floor + 0.25) / floors
        for column in range(columns):
            if rng.random() < 0.85:
                start = left + width * (column + 0.3) / columns
                pane = rectangle(start, upper, start + width * 0.42 / columns, upper + size * 0.34 / floors)
                canvas.paint(pane, glass * rng.uniform(0.8, 1.5), -1)


def truck(
    canvas: Canvas, x: float, y: float, size: float, haze: Array, nearness: float, rng: np.random.Generator
) -> None:
    """Draw a truck, `size` pixels high: a box with walls like a building's, a cab, wheels, a thin mirror."""
    facing = float(rng.choice([-1, 1]))
    long = size * rng.uniform(1.0, 1.5)
    colour = hazed(WALLS[rng.integers(len(WALLS))].astype(np.float32), nearness, haze)
    cab = hazed(WALLS[rng.integers(len(WALLS))].astype(np.float32) * 0.9, nearness, haze)
    dark = hazed(np.array((0.09, 0.09, 0.10), dtype=np.float32), nearness, haze)

    def part(start: float, end: float, low: float, high: float) -> Shape:
        edges = sorted((x + facing * start, x + facing * end))
        return rectangle(edges[0], y - high * size, edges[1], y - low * size)

    ground_shadow(canvas, x, y, long * 1.4, size * 0.6)
    ribs = size * 0.06 if rng.random() < 0.6 else 0.0
    canvas.paint(part(-long * 0.62, long * 0.62, 0.13, 0.24), dark, TRUCK)
    canvas.paint(part(-long * 0.65, long * 0.30, 0.20, 1.0), wall(canvas, colour, ribs, 0.0, 1.0), TRUCK)
    canvas.paint(part(-long * 0.65, long * 0.30, 0.96, 1.0), colour * 0.75, -1)
    front = long * 0.30 + size * 0.38
    canvas.paint(part(long * 0.32, front, 0.14, 0.74), wall(canvas, cab, 0.0, 0.0, 1.0), TRUCK)
    canvas.paint(part(long * 0.30 + size * 0.16, front - size * 0.02, 0.46, 0.69), (0.22, 0.28, 0.34), -1)
    mirror = stroke(
        (x + facing * (front + 0.05 * size), y - 0.66 * size),
        (x + facing * (front + 0.05 * size), y - 0.50 * size),
        max(0.018 * size, 0.7),
    )
    canvas.paint(mirror, dark, TRUCK)
    if rng.random() < 0.5:
        stripe = part(-long * 0.60, long * 0.25, 0.50, 0.62)
        canvas.paint(stripe, np.clip(1.1 - colour, 0, 1) * 0.8, -1)
    for place in (-long * 0.50, -long * 0.30, long * 0.30 + size * 0.2):
        hub = (x + facing * place, y - 0.115 * size)
        canvas.paint(ellipse(*hub, 0.115 * size, 0.115 * size), dark, TRUCK)
        canvas.paint(ellipse(*hub, 0.05 * size, 0.05 * size), (0.55, 0.55, 0.55), -1)


def tree(
    canvas: Canvas, x: float, y: float, size: float, haze: Array, nearness: float, rng: np.random.Generator
) -> None:
    """Draw a tree, `size` pixels high: a trunk and a crown of several clumps of leaves."""
    green = np.array((0.20, 0.34, 0.13)) * rng.uniform(0.75, 1.25) + np.array((0.12, 0.04, 0.0)) * rng.random()
    leaves = hazed(green.astype(np.float32), nearness, haze)
    bark = hazed(np.array((0.30, 0.23, 0.17), dtype=np.float32), nearness, haze)
    lean, thick = rng.uniform(-0.06, 0.06) * size, max(size * rng.uniform(0.02, 0.035), 0.8)
    ground_shadow(canvas, x, y, size * 0.5, size * 0.5)
    trunk = stroke((x, y), (x + lean, y - 0.62 * size), thick * 1.3, thick * 0.6)
    for way in (-1, 1):
        trunk |= stroke((x, y - 0.30 * size), (x + way * 0.17 * size, y - 0.55 * size), thick * 0.55, thick * 0.4)
    canvas.paint(trunk, wall(canvas, bark, 0.0, 0.0, 1.0), TREE)
    slim = rng.uniform(0.7, 1.1)

    def clump(where: tuple[float, float], radius: float) -> None:
        outline = ellipse(where[0], where[1], radius * slim, radius * 0.8)

        def ragged(px: Array, py: Array) -> Array:
            rows = np.clip(py.astype(np.intp), 0, canvas.height - 1)
            columns = np.clip(px.astype(np.intp), 0, canvas.width - 1)
            return outline.distance(px, py) + radius * 0.30 * canvas.grain[rows, columns]

        box = (where[0] - radius * 1.4, where[1] - radius * 1.2, where[0] + radius * 1.4, where[1] + radius * 1.2)
        base = rounded(canvas, leaves, where, (radius, radius))
        canvas.paint(
            Shape(ragged, box),
            lambda px, py, d, area: np.clip(base(px, py, d, area) * (1 + 0.35 * canvas.grain[area])[..., None], 0, 1),
            TREE,
        )

    for turn in rng.uniform(0, 2 * np.pi, size=int(rng.integers(4, 7))):
        out = rng.uniform(0.1, 0.2) * size
        clump(
            (x + lean + np.cos(turn) * out * slim, y - 0.70 * size + np.sin(turn) * out * 0.7),
            size * rng.uniform(0.13, 0.2),
        )
    clump((x + lean, y - 0.76 * size), size * 0.2)


def pole(
    canvas: Canvas, x: float, y: float, size: float, haze: Array, nearness: float, rng: np.random.Generator
) -> None:
    """Draw a lamp post or a sign post, `size` pixels high and one to a few pixels thick."""
    grey = hazed(np.array((0.32, 0.33, 0.34)) * rng.uniform(0.6, 1.5), nearness, haze).astype(np.float32)
    thick = max(size * rng.uniform(0.010, 0.017), 0.65)
    ground_shadow(canvas, x, y, thick * 4, size * 0.25)
    canvas.paint(stroke((x, y), (x, y - size), thick * 1.2, thick), grey, POLE)
    if rng.random() < 0.6:
        arm = float(rng.choice([-1, 1])) * size * 0.16
        canvas.paint(stroke((x, y - size), (x + arm, y - size * 1.03), thick * 0.9), grey, POLE)
        canvas.paint(
            stroke((x + arm, y - size * 1.025), (x + arm * 1.3, y - size * 1.02), thick * 1.8), grey * 1.2, POLE
        )
    else:
        plate = hazed(np.array(((0.75, 0.15, 0.13), (0.15, 0.30, 0.62))[int(rng.integers(2))]), nearness, haze)
        radius = max(size * 0.055, 1.6)
        canvas.paint(ellipse(x, y - size * 0.93, radius, radius), plate.astype(np.float32), POLE)
        canvas.paint(ellipse(x, y - size * 0.93, radius * 0.55, radius * 0.55), (0.85, 0.85, 0.83), -1)


def fence(canvas: Canvas, y: float, size: float, haze: Array, nearness: float, rng: np.random.Generator) -> None:
    """Draw a row of thin posts with a rail across a part of the image."""
    wood = hazed(np.array((0.40, 0.33, 0.26)) * rng.uniform(0.7, 1.4), nearness, haze).astype(np.float32)
    left = rng.uniform(-0.2, 0.5) * canvas.width
    right = left + rng.uniform(0.4, 0.8) * canvas.width
    thick = max(0.05 * size, 0.6)
    for height in (0.45, 0.85):
        canvas.paint(stroke((left, y - height * size), (right, y - height * size), thick * 0.8), wood * 1.1, POLE)
    for x in np.arange(left, right, size * 1.3):
        canvas.paint(stroke((float(x), y), (float(x), y - size), thick), wood, POLE)


def bird(canvas: Canvas, x: float, y: float, size: float, flying: bool, rng: np.random.Generator) -> None:
    """Draw a bird of about `size` pixels: two wings in the sky, or a small body on the ground."""
    colour = np.array(
        ((0.12, 0.12, 0.14), (0.80, 0.80, 0.79), (0.45, 0.36, 0.30))[int(rng.integers(3))], dtype=np.float32
    )
    thin = max(0.11 * size, 0.8)
    if flying:
        lift = rng.uniform(0.15, 0.5) * size
        wings = stroke((x, y), (x - 0.6 * size, y - lift), thin, 0.6) | stroke(
            (x, y), (x + 0.6 * size, y - lift), thin, 0.6
        )
        canvas.paint(wings | ellipse(x, y, 0.25 * size, thin * 1.1), colour, BIRD)
        return
    facing = float(rng.choice([-1, 1]))
    ground_shadow(canvas, x, y, size * 0.8, size * 0.4)
    legs = stroke((x, y), (x, y - 0.3 * size), 0.6)
    body = ellipse(x, y - 0.42 * size, 0.42 * size, 0.25 * size) | ellipse(
        x + facing * 0.38 * size, y - 0.68 * size, 0.17 * size, 0.16 * size
    )
    tail = stroke(
        (x - facing * 0.3 * size, y - 0.45 * size), (x - facing * 0.7 * size, y - 0.52 * size), 0.1 * size + 0.3
    )
    canvas.paint(legs, (0.5, 0.35, 0.2), BIRD)
    canvas.paint(body | tail, rounded(canvas, colour, (x, y - 0.45 * size), (0.4 * size, 0.3 * size)), BIRD)
