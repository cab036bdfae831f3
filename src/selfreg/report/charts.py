"""Layout of the charts. The templates draw them as SVG, so colours follow the light or dark theme."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isclose, log10

from selfreg.report.content import Curve, Number, is_missing

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 34, 50


@dataclass(frozen=True)
class Tick:
    """Position and text of a tick on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: Name in the legend.
        pieces: Unbroken pieces, as SVG lists of points.
        points: x, y and tooltip of each point.
    """

    name: str
    pieces: list[str]
    points: list[tuple[float, float, str]]


@dataclass(frozen=True)
class Chart:
    """A line chart laid out in a view box of `width` x `height`."""

    curve: Curve
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Forest:
    """A difference with its interval on an axis that has zero in its middle.

    Attributes:
        at: Position of the difference, in percent of the width of the axis.
        low: Position of the lower end of the interval.
        high: Position of the upper end.
        left: Label of the left end of the axis.
        right: Label of the right end.
    """

    at: float
    low: float
    high: float
    left: str
    right: str


def lay_out(curve: Curve) -> Chart:
    """Compute the positions of a curve's points and ticks in the chart's view box."""
    known = [value for line in curve.lines.values() for value in line if value is not None and not is_missing(value)]
    y_values = nice_ticks(min(known, default=0.0), max(known, default=1.0))
    xs = [log10(value) for value in curve.x] if curve.logarithmic else list(curve.x)
    low_x, high_x = min(xs, default=0.0), max(xs, default=1.0)
    whole = all(float(value).is_integer() for value in curve.x)
    x_values = _decades(low_x, high_x) if curve.logarithmic else nice_ticks(low_x, high_x, inside=True, whole=whole)
    low_y, high_y = y_values[0], y_values[-1]

    def place_x(value: float) -> float:
        share = 0.5 if isclose(low_x, high_x) else (value - low_x) / (high_x - low_x)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def place_y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM), 1)

    lines = []
    for name, values in curve.lines.items():
        pieces: list[list[str]] = [[]]
        points = []
        for x, original, y in zip(xs, curve.x, values, strict=True):
            if y is None or is_missing(y):
                pieces.append([])
                continue
            pieces[-1].append(f"{place_x(x)},{place_y(y)}")
            points.append((place_x(x), place_y(y), f"{name}: {plain(y)} at {curve.x_label} {plain(original)}"))
        lines.append(Line(name, [" ".join(piece) for piece in pieces if piece], points))
    x_ticks = [Tick(place_x(value), plain(10**value if curve.logarithmic else value)) for value in x_values]
    return Chart(curve, x_ticks, [Tick(place_y(value), plain(value)) for value in y_values], lines)


def nice_ticks(low: float, high: float, count: int = 5, *, inside: bool = False, whole: bool = False) -> list[float]:
    """Choose about `count` round values that cover `low` to `high`.

    Args:
        low: Smallest value.
        high: Largest value.
        count: Number of ticks wanted.
        inside: Keep all ticks within `low` to `high`.
        whole: Use integers only.
    """
    if isclose(low, high):
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
    rough = (high - low) / count
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    if whole:
        step = max(1.0, float(ceil(step)))
    first, last = (ceil(low / step), floor(high / step)) if inside else (floor(low / step), ceil(high / step))
    return [round(index * step, 12) for index in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    decades = [float(power) for power in range(ceil(low - 1e-9), floor(high + 1e-9) + 1)]
    if len(decades) >= 3:
        return decades
    steps = [power + log10(factor) for power in range(floor(low), ceil(high) + 1) for factor in (1, 2, 5)]
    return [value for value in steps if low - 1e-9 <= value <= high + 1e-9]


def plain(value: float) -> str:
    """Format a number for an axis: at most four digits, thousands as k and millions as M."""
    if abs(value) >= 10_000:
        thousands, letter = (value / 1e6, "M") if abs(value) >= 1e6 else (value / 1e3, "k")
        return f"{thousands:.4g}{letter}"
    return f"{value:.4g}"


def _short(value: float) -> str:
    return plain(float(f"{value:.2g}"))


def forests(numbers: Sequence[Number]) -> list[Forest | None]:
    """Lay out each difference with its interval; all numbers of one unit share an axis around zero.

    Returns:
        One entry per number; None without an interval, since a difference alone does not show how far it is from zero.
    """
    known = [number.difference_interval if number.verdict else None for number in numbers]
    reach: dict[str, float] = {}
    for number, interval in zip(numbers, known, strict=True):
        if interval is not None:
            ends = (*interval, number.difference or 0.0)
            reach[number.unit] = max(reach.get(number.unit, 0.0), *(abs(end) for end in ends))

    def place(number: Number, interval: tuple[float, float] | None) -> Forest | None:
        if interval is None or number.difference is None or is_missing(number.difference):
            return None
        extent = (reach[number.unit] or 1.0) * 1.1
        at, low, high = (round(50 + 50 * value / extent, 2) for value in (number.difference, *interval))
        return Forest(at, low, high, f"\N{MINUS SIGN}{_short(extent)}", f"+{_short(extent)}")

    return [place(number, interval) for number, interval in zip(numbers, known, strict=True)]
