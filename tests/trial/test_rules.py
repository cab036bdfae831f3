"""The rules: input size, length and pairs from data, device and budget."""

from dataclasses import replace
from typing import Any

import pytest

from selfreg.config import load_config, parse_config
from selfreg.trial.facts import Cost, DataFacts, Device, NetworkChoice, Times
from selfreg.trial.rules import (
    choose_schedule,
    crop_size,
    describe_rules,
    fewest_steps,
    input_sizes,
    make_config,
    tries_class_weights,
)

FACTS = DataFacts("folder", "data", "train", "val", {}, 367, 101, 11, 360, 480, 0.5, 6.7)
NETWORK = NetworkChoice("smp:DeepLabV3Plus/tu-tf_efficientnet_lite0", "efficientnet-lite0-package", "")
COST = Cost(4.0, 0.05, (Times(160, 0.3, 0.35, 0.08), Times(360, 1.0, 1.2, 0.3)))


def test_a_longer_budget_buys_size_then_pairs_and_length() -> None:
    schedules = [choose_schedule(FACTS, NETWORK, COST, minutes * 60) for minutes in (12, 20, 60, 600)]
    sides = [each.short_side for each in schedules]
    assert sides == sorted(sides)
    assert sides[0] < 360 == sides[-1]
    assert schedules[0].pairs <= schedules[-1].pairs == 5
    assert all(fewest_steps(FACTS, NETWORK) <= each.steps <= 6 * fewest_steps(FACTS, NETWORK) for each in schedules)


@pytest.mark.parametrize("minutes", [10, 20, 45, 120])
def test_what_is_scheduled_fits_into_the_time(minutes: int) -> None:
    found = choose_schedule(FACTS, NETWORK, COST, 60 * minutes)
    total = found.pairs * COST.pair(FACTS, found.short_side, found.steps) + COST.ending(FACTS, found.short_side)
    total += COST.training(FACTS, found.short_side, found.steps, full=False)
    assert total <= 60 * minutes


def test_a_budget_below_two_pairs_is_refused_with_the_one_that_is_needed() -> None:
    with pytest.raises(ValueError, match=r"--budget: too short .* three pairs need about \d+m"):
        choose_schedule(FACTS, NETWORK, COST, 120)


def test_generated_scenes_are_tried_on_any_machine() -> None:
    assert choose_schedule(replace(FACTS, kind="scenes"), NETWORK, COST, 30).pairs == 1


def test_small_objects_forbid_small_inputs_and_images_are_never_enlarged() -> None:
    assert min(input_sizes(FACTS)) == 160
    assert min(input_sizes(replace(FACTS, small_share=0.01))) == 96
    assert max(input_sizes(replace(FACTS, height=213, width=320))) == 192
    assert input_sizes(replace(FACTS, height=64, width=90)) == [64]


def test_class_weights_are_tried_only_where_a_class_is_rare() -> None:
    assert tries_class_weights(FACTS)
    assert not tries_class_weights(replace(FACTS, largest_weight=1.2))


def test_untrained_weights_need_longer_trainings() -> None:
    assert fewest_steps(FACTS, replace(NETWORK, pretrained=False)) == 3 * fewest_steps(FACTS, NETWORK)


def test_costs_grow_with_the_input_and_keep_their_constant_part() -> None:
    assert COST.step(160, full=False) == pytest.approx(0.3)
    assert COST.step(360, full=True) == pytest.approx(1.2)
    assert 0.2 < COST.step(128, full=False) < 0.3
    assert Cost(1.0, 0.1, COST.times[:1]).step(512, full=False) == 0.3


def test_costs_between_measured_sizes_follow_from_their_neighbours() -> None:
    cost = replace(COST, times=(COST.times[0], Times(240, 0.9, 1.0, 0.1), COST.times[1]))
    assert cost.step(240, full=False) == pytest.approx(0.9)
    assert 0.3 < cost.step(192, full=False) < 0.9 < cost.step(300, full=False) < 1.0
    assert cost.is_measured(240)
    assert not cost.is_measured(192)


def test_crops_are_multiples_of_16_within_the_image() -> None:
    assert crop_size(FACTS, 240) == (144, 192)
    assert crop_size(replace(FACTS, height=2000, width=500), 96) == (192, 64)


def test_the_configuration_is_valid_and_names_every_decision(tmp_path: Any) -> None:
    schedule = choose_schedule(FACTS, NETWORK, COST, 1200)
    config = make_config(FACTS, NETWORK, Device("CPU"), schedule.short_side, schedule.steps)
    assert parse_config(config.model_dump(mode="json"), "test") == config
    assert config.training.max_steps == schedule.steps
    assert config.training.epochs == -(-schedule.steps // (367 // 8))
    rules = describe_rules(FACTS, NETWORK, schedule, Device("CPU"))
    assert {rule.kind for rule in rules} == {"fixed", "derived", "searched"}
    assert "UNTRAINED" in describe_rules(FACTS, replace(NETWORK, weights="UNTRAINED"), schedule, Device("CPU"))[0].line
    path = tmp_path / "try.yaml"
    from selfreg.config import dump_config

    path.write_text(dump_config(config))
    assert load_config(path) == config
