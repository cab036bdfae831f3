from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreg.report.charts import forests, lay_out, nice_ticks, plain
from selfreg.report.content import Curve, Number

finite = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


@given(finite, finite)
def test_ticks_span_the_values_with_few_equal_steps(first: float, second: float) -> None:
    low, high = sorted((first, second))
    ticks = nice_ticks(low, high)
    steps = [after - before for before, after in pairwise(ticks)]
    assert ticks[0] <= low + 1e-6 * abs(low)
    assert ticks[-1] >= high - 1e-6 * abs(high)
    assert 2 <= len(ticks) <= 9
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-3)


def test_line_is_broken_where_a_value_is_missing() -> None:
    chart = lay_out(Curve("c", "x", "y", (1, 2, 3, 4), {"a": (0.0, None, float("nan"), 1.0)}))
    (line,) = chart.lines
    assert len(line.pieces) == 2
    assert len(line.points) == 2
    assert line.points[0][1] == chart.bottom
    assert line.points[1][:2] == (chart.right, chart.top)


def test_logarithmic_axis_gives_equal_room_to_equal_factors() -> None:
    chart = lay_out(Curve("c", "x", "y", (1, 10, 100, 1000), {"a": (0.0, 0.1, 0.2, 1.0)}, logarithmic=True))
    xs = [x for x, _, _ in chart.lines[0].points]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2)
    assert [tick.text for tick in chart.x_ticks] == ["1", "10", "100", "1000"]


@pytest.mark.parametrize("values", [(), (0.5,), (0.5, 0.5)])
def test_charts_of_no_or_one_or_equal_values_stay_inside(values: tuple[float, ...]) -> None:
    chart = lay_out(Curve("c", "x", "y", tuple(range(len(values))), {"a": values}))
    assert all(chart.top <= y <= chart.bottom and chart.left <= x <= chart.right for x, y, _ in chart.lines[0].points)


def test_large_numbers_are_written_short() -> None:
    assert [plain(value) for value in (0.25, 1000, 20_000, 3_000_000)] == ["0.25", "1000", "20k", "3M"]


def test_differences_of_one_unit_share_an_axis_around_zero() -> None:
    numbers = [
        Number("a", "%", True, (1.0, 2.0), (), 1.0, (-1.0, 2.0)),
        Number("b", "%", True, (1.0, 5.0), (), 4.0, (2.0, 4.0)),
        Number("c", "s", True, (1.0, 2.0), (), 100.0, (50.0, 150.0)),
        Number("d", "s", True, (1.0, 2.0), (), 1.0),
    ]
    first, second, third, fourth = forests(numbers)
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.low == pytest.approx(50 - (second.high - 50) / 4, abs=0.01)
    assert second.high == pytest.approx(third.high)
    assert fourth is None
