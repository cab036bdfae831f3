from dataclasses import replace

import numpy as np
import pytest

from report.pages import missed_pole
from selfreg.report.content import Curve, Number, Page


@pytest.mark.parametrize(
    ("higher_is_better", "interval", "verdict"),
    [
        (True, (0.1, 2.0), "better"),
        (True, (-2.0, -0.1), "worse"),
        (False, (-2.0, -0.1), "better"),
        (False, (0.1, 2.0), "worse"),
        (True, (-0.1, 2.0), "not distinguishable"),
        (True, (0.0, 2.0), "not distinguishable"),
        (True, None, ""),
        (True, (float("nan"), 2.0), ""),
    ],
)
def test_verdict_follows_the_interval_and_the_good_direction(
    higher_is_better: bool, interval: tuple[float, float] | None, verdict: str
) -> None:
    number = Number("n", "", higher_is_better, (1.0, 2.0), (), 1.0, interval)
    assert number.verdict == verdict


def test_maps_of_another_size_than_the_image_are_refused() -> None:
    case = missed_pole(1, True)
    with pytest.raises(ValueError, match="prediction 1 has shape"):
        replace(case, predictions=(case.predictions[0], np.zeros((5, 5), np.uint8)))
    with pytest.raises(ValueError, match="the outline has shape"):
        replace(case, outline=np.zeros((5, 5), bool))


def test_box_outside_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="not inside the image of 90 x 120"):
        replace(missed_pole(1, True), box=(0, 0, 91, 10))


def test_pages_whose_parts_do_not_fit_are_refused(page: Page) -> None:
    with pytest.raises(ValueError, match="2 predictions for 1 runs"):
        replace(page, run_names=("base",), numbers=[], per_class={}, pairs=[])
    with pytest.raises(ValueError, match="none of the runs base, full"):
        replace(page, per_class={"other": [0.1, 0.2, 0.3]})
    with pytest.raises(ValueError, match="fractions, not percent"):
        replace(page, per_class={"base": [61.0, 20.0, 30.0]})
    with pytest.raises(ValueError, match="class 2 is not one of 0 to 1"):
        replace(page, class_names=("a", "b"), per_class={})
    with pytest.raises(ValueError, match="name each run once"):
        replace(page, run_names=("base", "base"), per_class={})
    with pytest.raises(ValueError, match="the pair 0-1 has 3 numbers, the page 0"):
        replace(page, numbers=[])
    with pytest.raises(ValueError, match="expected .3, 3."):
        replace(page, confusion={"base": np.zeros((3, 4), np.int64)})
    with pytest.raises(ValueError, match="'other', which is none of the runs"):
        replace(page, confusion={"other": np.zeros((3, 3), np.int64)})
    with pytest.raises(ValueError, match="palette"):
        replace(page, palette=np.zeros((3, 3), np.uint8))


def test_lines_of_another_length_and_logarithms_of_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="2 values for 3 x"):
        Curve("c", "x", "y", (1, 2, 3), {"a": (1.0, 2.0)})
    with pytest.raises(ValueError, match="x above 0"):
        Curve("c", "x", "y", (0, 2), {"a": (1.0, 2.0)}, logarithmic=True)
