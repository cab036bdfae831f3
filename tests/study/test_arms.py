"""What may be written after --arms."""

from pathlib import Path

import pytest

from selfreg.study.arms import StudyArm, load_arm, parse_arms
from tiny import write_config


def test_plain_names_set_the_arm_and_base_comes_first() -> None:
    arms = parse_arms("mea, base,mea+f")
    assert [arm.name for arm in arms] == ["base", "mea", "mea+f"]
    assert arms[2].overrides == ("method.arm=mea+f",)
    assert arms[2].folder_name == "mea-f"


def test_an_arm_of_ones_own_takes_keys_until_the_next_arm() -> None:
    text = "base,t2:method.arm=full,method.taps=[a,b],method.temperature=2,full,narrow:data.crop_size=[64, 32]"
    assert parse_arms(text)[1:] == (
        StudyArm("t2", ("method.arm=full", "method.taps=[a,b]", "method.temperature=2")),
        StudyArm("full", ("method.arm=full",)),
        StudyArm("narrow", ("data.crop_size=[64, 32]",)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base,mae", "unknown"),
        ("", "unknown"),
        ("base,mea,base", "share a folder"),
        ("a+b:method.arm=full,a-b:method.arm=mea", "share a folder"),
        ("full:method.variant=authors", "choose another name"),
        ("base,method.arm=full", "does not belong to an arm"),
        ("mine:", "section.key=value"),
        ("mine:seed=3", "gives the seeds"),
        ("..:method.arm=full", "letters or digits"),
    ],
)
def test_arms_that_cannot_be_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_arms(text)


def test_an_arm_changes_the_study_s_configuration_but_not_the_data_that_are_measured(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    config = load_arm(path, ["training.epochs=7"], StudyArm("t2", ("method.arm=full", "method.temperature=2")))
    assert (config.training.epochs, config.method.temperature, config.seed) == (7, 2.0, 3)
    with pytest.raises(ValueError, match=r"mine: changes data.options"):
        load_arm(path, [], StudyArm("mine", ("data.options.seed=5",)))
    with pytest.raises(ValueError, match=r"did you mean 'method.temperature'"):
        load_arm(path, [], StudyArm("mine", ("method.temprature=5",)))
