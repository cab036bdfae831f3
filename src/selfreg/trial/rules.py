"""The rules by which `selfreg try` configures itself. docs/try.md gives the same rules with their reasons.

As in nnU-Net (Isensee et al., Nature Methods 2021), most options are fixed, some are derived from the data, the device
and the budget, and as few as possible are searched: here one, whether the base uses class weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from selfreg.config import Config, parse_config
from selfreg.trial.budget import budget_text
from selfreg.trial.facts import Cost, DataFacts, Device, NetworkChoice

# fixed
SCALE = (0.7, 1.5)
LEARNING_RATE = 3e-4
HEAD_LEARNING_RATE_FACTOR = 5

# derived: input size
SHORT_SIDES = (512, 360, 240, 192, 160, 128, 96)
SMALLEST_WITH_SMALL_OBJECTS = 160
"""A small object (0.1 % of the image) is then 6 pixels wide, one to two cells of the finest class map."""
MANY_SMALL_OBJECTS = 0.05
"""Share of small objects among all objects from which `SMALLEST_WITH_SMALL_OBJECTS` applies."""
CROP_SHARE = 0.6
MULTIPLE = 16

# derived: length
FEWEST_STEPS = 60
STEPS_PER_CLASS = 3
UNTRAINED_FACTOR = 3
DEMONSTRATION_STEPS = 20
"""On generated scenes, a single pair of so short trainings is allowed instead of an error."""
COMFORTABLE = 2.0
LONGEST = 6.0

# derived: pairs
WANTED_PAIRS = 5
AIMED_PAIRS = 3
FEWEST_PAIRS = 2

# searched
RARE_WEIGHT = 1.5
"""Class weights are tried if the balanced weight of a class is this many times the mean weight of the pixels."""


@dataclass(frozen=True)
class Rule:
    """One option, how it was decided, and why."""

    option: str
    value: str
    kind: Literal["fixed", "derived", "searched"]
    reason: str

    @property
    def line(self) -> str:
        """The rule in one line."""
        return f"{self.option}: {self.value} ({self.kind}: {self.reason})"


@dataclass(frozen=True)
class Schedule:
    """Input size, length of each training and expected number of pairs."""

    short_side: int
    steps: int
    pairs: int


def tries_class_weights(facts: DataFacts) -> bool:
    """Whether the base may be the one with class weights: only if a class is rare."""
    return facts.largest_weight >= RARE_WEIGHT


def fewest_steps(facts: DataFacts, network: NetworkChoice) -> int:
    """Steps after which the steep part of the learning curve is over, by experience with small data sets."""
    steps = FEWEST_STEPS + STEPS_PER_CLASS * facts.num_classes
    return steps if network.pretrained else UNTRAINED_FACTOR * steps


def input_sizes(facts: DataFacts) -> list[int]:
    """Short sides to choose from, largest first: the images' own or smaller."""
    own = min(facts.height, facts.width)
    smallest = SMALLEST_WITH_SMALL_OBJECTS if facts.small_share >= MANY_SMALL_OBJECTS else min(SHORT_SIDES)
    return [side for side in SHORT_SIDES if min(own, smallest) <= side <= own] or [own]


def choose_schedule(facts: DataFacts, network: NetworkChoice, cost: Cost, seconds: float) -> Schedule:
    """Fit trainings into the time.

    Three pairs come first, at the largest input size that allows each training to be twice as long as the fewest steps.
    If none does, the smallest size is used, with shorter trainings but not fewer steps than `fewest_steps`, then with
    two pairs. If time is left, there are more pairs, up to five, then longer trainings, up to six times the fewest
    steps, then more pairs.

    Args:
        facts: The data.
        network: The network.
        cost: Measured times.
        seconds: Time for everything.

    Raises:
        ValueError: If not even two pairs fit; the message names the budget that is needed for three.
    """
    sizes, fewest = input_sizes(facts), fewest_steps(facts, network)
    available = seconds - cost.ending(facts, sizes[0])

    def steps_for(pairs: int, side: int) -> int:
        """Steps that fit if the pairs take all the time."""
        runs = pairs + tries_class_weights(facts)
        fixed = runs * cost.training(facts, side, 0, full=False) + pairs * cost.training(facts, side, 0, full=True)
        per_step = runs * cost.step(side, full=False) + pairs * cost.step(side, full=True)
        return int((available - fixed) / per_step)

    comfortable = int(COMFORTABLE * fewest)
    side = next((side for side in sizes if steps_for(AIMED_PAIRS, side) >= comfortable), sizes[-1])
    pairs = next((pairs for pairs in (AIMED_PAIRS, FEWEST_PAIRS) if steps_for(pairs, side) >= fewest), None)
    if pairs is None and facts.kind == "scenes":
        # a demonstration shows what it can, also on a slow machine
        return Schedule(side, min(max(steps_for(1, side), DEMONSTRATION_STEPS), fewest), 1)
    if pairs is None:
        raise ValueError(needed_budget(facts, cost, side, fewest))
    while pairs < WANTED_PAIRS and steps_for(pairs + 1, side) >= comfortable:
        pairs += 1
    return Schedule(side, min(steps_for(pairs, side), int(LONGEST * fewest)), pairs)


def needed_budget(facts: DataFacts, cost: Cost, side: int, fewest: int) -> str:
    """The message for a budget that is too short."""
    seconds = AIMED_PAIRS * cost.pair(facts, side, fewest) + cost.ending(facts, side)
    seconds += tries_class_weights(facts) * cost.training(facts, side, fewest, full=False)
    return (
        f"--budget: too short for two pairs of trainings of {fewest} steps; three pairs need about "
        f"{budget_text(1.2 * seconds)} on this machine"
    )


def crop_size(facts: DataFacts, short_side: int) -> tuple[int, int]:
    """(height, width) of the training crops: 0.6 of the resized image, in multiples of 16."""
    zoom = short_side / min(facts.height, facts.width)
    sides = (CROP_SHARE * zoom * facts.height, CROP_SHARE * zoom * facts.width)
    height, width = (max(4 * MULTIPLE, round(min(side, 2 * short_side) / MULTIPLE) * MULTIPLE) for side in sides)
    return height, width


def make_config(facts: DataFacts, network: NetworkChoice, device: Device, short_side: int, steps: int) -> Config:
    """The configuration of the arm `full`; `base` differs in `method.arm` and perhaps `training.class_weights`."""
    batch = min(device.batch_size, facts.num_train)
    epochs = -(-steps // max(1, facts.num_train // batch))
    data: dict[str, Any] = {"kind": facts.kind, "root": facts.root, "options": facts.options}
    data |= {"train_split": facts.train_split, "val_split": facts.val_split}
    data |= {"crop_size": list(crop_size(facts, short_side)), "scale": list(SCALE)}
    if short_side < min(facts.height, facts.width):
        data["short_side"] = short_side
    content: dict[str, Any] = {
        "seed": facts.seed,
        "data": data,
        "network": {
            "name": network.name,
            "pretrained": network.pretrained,
            "options": _network_options(network.name, short_side),
        },
        "method": {"arm": "full"},
        "training": {
            "max_steps": steps,
            "epochs": epochs,
            "validate_every": epochs,
            "batch_size": batch,
            "learning_rate": LEARNING_RATE,
            "head_learning_rate_factor": HEAD_LEARNING_RATE_FACTOR,
            "linear_warm_up_steps": min(50, max(1, steps // 10)),
            "workers": device.workers,
            "loggers": ["csv"],
        },
    }
    return parse_config(content, origin="selfreg try")


def _network_options(name: str, short_side: int) -> dict[str, Any]:
    """Options of DeepLabV3+: the dilation rates are those of 512-pixel crops, reduced with the input."""
    if not name.startswith("smp:DeepLabV3Plus/"):
        return {}
    rates = [6, 12, 18] if short_side >= 240 else [3, 6, 9]
    return {"output_stride": 16, "decoder_channels": 128, "decoder_atrous_rates": rates, "decoder_aspp_dropout": 0.1}


def describe_rules(facts: DataFacts, network: NetworkChoice, schedule: Schedule, device: Device) -> Sequence[Rule]:
    """The decisions with their reasons, for the terminal, the page and try.json."""
    fewest = fewest_steps(facts, network)
    own = min(facts.height, facts.width)
    small = f"{facts.small_share:.0%} of the objects are small"
    crop = " x ".join(map(str, crop_size(facts, schedule.short_side)))
    if schedule.pairs < AIMED_PAIRS:
        chosen = "the smallest; three pairs do not fit"
    elif schedule.steps < int(COMFORTABLE * fewest):
        chosen = "the smallest, since three pairs of comfortable length fit at none"
    else:
        chosen = "the largest for which three pairs fit"
    enough = f"at least {fewest}" if schedule.steps >= fewest else f"too short for a result, which takes {fewest}"
    rare = f"the largest balanced weight is {facts.largest_weight:.1f}"
    return (
        Rule(
            "network",
            f"{network.name}, {network.weights}",
            "derived",
            f"{device.name}, and the weights that can be had",
        ),
        Rule(
            "input",
            f"short side {schedule.short_side} of {own} pixels",
            "derived",
            f"{chosen}; {small}",
        ),
        Rule("crop", crop, "derived", f"{CROP_SHARE} of the input"),
        Rule("length", f"{schedule.steps} steps", "derived", f"{enough} for {facts.num_classes} classes"),
        Rule("pairs", f"about {schedule.pairs}", "derived", "what fits into the budget; at most 10"),
        Rule(
            "base",
            "with or without class weights" if tries_class_weights(facts) else "without class weights",
            "searched" if tries_class_weights(facts) else "derived",
            f"{rare}; tried from {RARE_WEIGHT}",
        ),
        Rule(
            "batch",
            str(min(device.batch_size, facts.num_train)),
            "fixed",
            "enough for batch norm; halved if memory is short",
        ),
        Rule(
            "optimizer",
            f"AdamW, learning rate {LEARNING_RATE:g}, head x {HEAD_LEARNING_RATE_FACTOR}, poly schedule",
            "fixed",
            "works for small networks and short trainings",
        ),
        Rule(
            "augmentation",
            f"scale {SCALE[0]} to {SCALE[1]}, mirror, colour",
            "fixed",
            "suits photographs; edit try.yaml if not",
        ),
        Rule("precision", "auto", "fixed", "bf16 or fp16 on a GPU, 32 bits on a CPU"),
    )
