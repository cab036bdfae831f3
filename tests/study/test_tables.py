"""What a study says in its tables, in words and on its page, also where runs are missing."""

from dataclasses import replace

import numpy as np

from selfreg.config import Config
from selfreg.study.arms import StudyArm
from selfreg.study.results import ArmResult, StudyResult
from selfreg.study.tables import in_words, markdown, study_page


def arm(name: str, **by_measure: dict[int, float]) -> ArmResult:
    """An arm whose measures have no spread over images."""
    seeds = sorted({seed for values in by_measure.values() for seed in values})
    scores = {
        seed: {measure: np.full(11, values[seed]) for measure, values in by_measure.items() if seed in values}
        for seed in seeds
    }
    return ArmResult(StudyArm(name, ()), scores, {seed: 10.0 * (seed + 1) for seed in seeds}, {0: 0.1, 1: 0.2})


def study(*arms: ArmResult, seeds: tuple[int, ...] = (0, 1)) -> StudyResult:
    return StudyResult(Config(), 10, seeds, arms, {"full seed 1": "no space left"})


RESULT = study(
    arm("base", miou={0: 0.60, 1: 0.62}, missed_unit_rate={0: 0.3, 1: 0.3}),
    arm("mea", miou={0: 0.6149, 1: 0.6351}, missed_unit_rate={0: 0.449, 1: 0.451}),
    arm("full", miou={0: 0.59}, missed_unit_rate={0: 0.2}),
    arm("lost"),
)


def test_differences_are_held_against_the_first_arm_and_mea() -> None:
    assert {control: list(by_arm) for control, by_arm in RESULT.differences.items()} == {
        "base": ["mea", "full", "lost"],
        "mea": ["full", "lost"],
    }


def test_words_name_what_is_better_worse_and_unclear_and_what_is_missing() -> None:
    sentences = in_words(RESULT)
    assert sentences[0] == (
        "mea against base (2 seeds): better in mIoU (+1.5); worse in small objects and thin parts missed (+15.0)."
    )
    full = (
        "full against base (1 seed, which cannot show how trainings differ): better in small objects and thin parts "
        "missed (-10.0); worse in mIoU (-1.0)."
    )
    assert full in sentences
    assert "lost against mea: no seed was trained for both, so they cannot be compared." in sentences
    assert "images alone" in sentences[-2]
    assert sentences[-1] == "The run full seed 1 failed and is not included: no space left"


def test_what_zero_lies_in_is_not_called_a_difference() -> None:
    base, other = arm("base", miou={0: 0.6, 1: 0.6}), arm("full", miou={0: 0.5, 1: 0.7})
    assert "no difference can be shown in mIoU." in in_words(study(base, other))[0]
    assert "**+0.0**" not in markdown(study(base, other), "")


def test_the_markdown_has_means_spread_cost_and_intervals() -> None:
    text = markdown(RESULT, "selfreg study x.yaml")
    assert "|  | base | mea | full | lost |" in text
    assert "| seeds | 2 | 2 | 1 | 0 |" in text
    assert "| mIoU ↑ | 61.0 ± 1.4 | 62.5 ± 1.4 | 59.0 | - |" in text
    assert "| small objects and thin parts missed ↓ | 30.0 ± 0.0 | 45.0 ± 0.1 | 20.0 | - |" in text
    assert "| 10 s (x 0.67) |" in text
    assert "**+1.5** (+1.4 to +1.6)" in text


def test_the_page_has_a_place_for_every_arm() -> None:
    page = study_page(RESULT, "selfreg study x.yaml")
    miou, time = page.measures[0], page.measures[-1]
    assert miou.seeds == [[60, 62], [61.49, 63.51], [59, None], [None, None]]
    assert [entry is None for entry in miou.differences["base"]] == [True, False, False, True]
    assert time.seeds[2] == [10.0, None]
    assert page.curves[0].lines["full"] == (10.0, 20.0)


def test_plain_data_hold_no_nan() -> None:
    content = RESULT.to_json()
    assert content["arms"]["full"]["measures"]["miou"] == {"mean": 0.59, "spread": None, "values": [0.59, None]}
    assert content["arms"]["lost"]["relative_cost"] is None
    assert content["differences"]["base"]["mea"]["missed_unit_rate"]["verdict"] == "worse"


def test_the_page_draws_miou_by_depth_for_the_arms_that_have_exits() -> None:
    result = study(arm("base", miou={0: 0.5}), replace(arm("mea", miou={0: 0.6}), miou_by_depth=(0.25, 0.5)))
    curves = study_page(result, "command").curves
    curve = next(each for each in curves if each.title.startswith("mIoU of every exit"))
    assert curve.x == (-1.0, 0.0)
    assert curve.lines == {"mea": (25.0, 50.0)}
    assert result.to_json()["arms"]["mea"]["val_miou_by_depth"] == [0.25, 0.5]
