"""The sentences of a verdict."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from selfreg.config import parse_config
from selfreg.evaluation import MEASURES
from selfreg.evaluation.scores import Floats
from selfreg.study.results import ArmResult, StudyResult
from selfreg.study.tables import markdown, study_page
from selfreg.trial.sequence import Finding, Progress
from selfreg.trial.trainings import ARMS
from selfreg.trial.verdict import Asked, Verdict, reach_verdict

ASKED = Asked("/data/cam vid", None, 0, "runs/try-camvid", 1800.0)


def scores(miou: float, missed: float) -> dict[str, Floats]:
    values = dict.fromkeys(MEASURES, 0.5) | {"miou": miou, "missed_unit_rate": missed, "hallucinated_components": 40}
    by_class = np.tile([miou, miou + 0.1], (4, 1))
    return {key: np.full(4, value) for key, value in values.items()} | {"per_class_iou": by_class}


def result_of(gains: Mapping[int, float], base: str = "base") -> StudyResult:
    arms = (
        ArmResult(ARMS[base], {seed: scores(0.5, 0.3) for seed in gains}, dict.fromkeys(gains, 100.0), {}),
        ArmResult(
            ARMS["full"],
            {seed: scores(0.5 + gain, 0.3 - gain) for seed, gain in gains.items()},
            dict.fromkeys(gains, 108.0),
            {},
        ),
    )
    confidence = Progress(pairs=len(gains), levels={3: 0.03}).confidence
    return StudyResult(parse_config({}, "test"), 20, tuple(gains), arms, {}, ("sky", "pole"), confidence=confidence)


def verdict(finding: Finding, gains: Mapping[int, float], base: str = "base") -> Verdict:
    progress = Progress(base=base, pairs=len(gains), finding=finding)
    return reach_verdict(result_of(gains, base), progress, name="camvid", asked=ASKED, next_pair=100.0)


def test_a_gain_is_said_with_its_numbers() -> None:
    found = verdict("helps", {0: 0.04, 1: 0.042, 2: 0.038})
    beginning = "camvid: self-regulation helps: mIoU 50.0 % with plain training, 54.0 % with self-regulation"
    assert found.sentence.startswith(beginning)
    assert "+4.0 points" in found.sentence
    assert "3 pairs of trainings" in found.sentence
    assert "small objects and thin parts missed: better (-4.0 points" in found.where
    assert "pole +4.0" in found.where
    assert found.cost.startswith("Cost: training took 1.08 times as long on this machine, nothing at inference")
    assert "selfreg predict runs/try-camvid/best photo.jpg" in found.advice
    assert found.better == "full"


def test_harm_keeps_the_base() -> None:
    found = verdict("harms", {0: -0.04, 1: -0.042, 2: -0.038}, base="balanced")
    assert "self-regulation harms: mIoU 50.0 % with plain training with class weights" in found.sentence
    assert found.better == "balanced"


def test_a_tie_says_how_large_a_difference_could_be_and_how_to_go_on() -> None:
    found = verdict("cannot be told", {0: 0.02, 1: -0.02, 2: 0.01})
    assert "no difference can be shown" in found.sentence
    assert "one larger than" in found.sentence
    assert "adds 3 pairs" in found.advice
    assert found.better == "full"


def test_a_small_difference_is_an_answer() -> None:
    assert (
        "no difference that matters (below 1 point)"
        in verdict("makes no difference that matters", {0: 0.001, 1: 0.002, 2: 0.001}).sentence
    )


@pytest.mark.parametrize("gain", [0.1, -0.1])
def test_one_pair_never_claims_anything(gain: float) -> None:
    found = verdict("cannot be told", {0: gain})
    assert "one pair of trainings cannot tell" in found.sentence
    assert "no difference" not in found.sentence
    assert "small objects and thin parts missed: no difference can be shown" in found.where


def test_nothing_is_marked_as_better_or_worse_on_the_page_and_in_the_tables_of_one_pair() -> None:
    result = result_of({0: -0.1})
    page = study_page(result, "selfreg try")
    differences = [column[1] for measure in (*page.measures, *page.classes) for column in measure.differences.values()]
    assert any(differences)
    assert all(each is None or each.interval is None for each in differences)
    entries = result.to_json()["differences"]["base"]["full"].values()
    assert {each["verdict"] for each in entries} == {"not distinguishable"}
    text = markdown(result, "selfreg try")
    assert "| -10.0 |" in text
    assert "interval" not in text.split("- full against base")[0]
    assert "better" not in text.split("- full against base")[1]


@pytest.mark.parametrize("finding", ["helps", "harms", "cannot be told"])
def test_the_commands_of_the_advice_can_be_pasted_whatever_the_names(finding: Finding) -> None:
    asked = replace(ASKED, data="/data/my $cam's [1]", folder="runs/try-my $cam's [1]", network="smp:FPN/x", seed=3)
    progress = Progress(base="balanced", pairs=3, finding=finding)
    result = result_of({0: 0.02, 1: 0.01, 2: 0.03}, "balanced")
    result = replace(result, config=parse_config({"training": {"max_steps": 100}}, "test"))
    advice = reach_verdict(result, progress, name="x", asked=asked, next_pair=100.0).advice
    first, second = sorted(
        (shlex.split(command) for command in re.findall("`(.*?)`", advice)), key=lambda each: each[1]
    )
    assert first == ["selfreg", "predict", f"{asked.folder}/best", "photo.jpg", "-o", "masks/"]
    out = ["--out", f"{asked.folder}/longer"]
    assert (
        second
        == {
            "helps": ["selfreg", "train", f"{asked.folder}/try.yaml", "--set", "training.max_steps=400", *out],
            "harms": [
                *("selfreg", "train", f"{asked.folder}/try.yaml", "--set", "method.arm=base"),
                *("--set", "training.class_weights=balanced", "--set", "training.max_steps=400", *out),
            ],
            "cannot be told": [
                *("selfreg", "try", asked.data, "--out", asked.folder, "--network", "smp:FPN/x"),
                *("--seed", "3", "--budget", "35m"),
            ],
        }[finding]
    )


def test_no_more_pairs_are_advised_than_a_try_may_have() -> None:
    assert "adds 1 pair (at most" in verdict("cannot be told", dict.fromkeys(range(9), 0.0)).advice


def test_several_pairs_of_a_demonstration_say_that_its_trainings_are_too_short() -> None:
    gains = {0: 0.04, 1: 0.042, 2: 0.038}
    result = replace(result_of(gains), config=parse_config({"training": {"max_steps": 20}}, "test"))
    progress = Progress(base="base", pairs=3, finding="helps")
    short, enough = (
        reach_verdict(result, progress, name="scenes", asked=ASKED, next_pair=100.0, fewest_steps=fewest).sentence
        for fewest in (87, 20)
    )
    assert "20 steps are too short for a result, which takes 87" in short
    assert "too short" not in enough


def test_large_objects_that_are_mostly_wrong_are_not_passed_over() -> None:
    assert "large objects mostly wrong: no difference can be shown" in verdict("cannot be told", {0: 0.0, 1: 0.0}).where
