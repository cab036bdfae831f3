"""`selfreg try`: configure a study, run as many pairs of trainings as the budget and the question need, give a verdict.

DIR/try.yaml      the configuration, for `selfreg train` and `selfreg study`
DIR/try.json      budget, rules, looks and verdict
DIR/data/         the imported data set, if an export was given
DIR/ARM/seed-S/   ordinary runs, as in a study
DIR/best/         the better network as an evaluated run
DIR/index.html    page of the study with the verdict; study.json and study.md as of a study
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from selfreg.config import dump_config, load_config
from selfreg.files import locked, read_json, write_json, write_text
from selfreg.input_files import user_path
from selfreg.messages import one_line, say
from selfreg.study.study import open_evaluated_split
from selfreg.trial.budget import Budget, budget_text, parse_budget
from selfreg.trial.data import find_data, inspect_data
from selfreg.trial.measuring import choose_network, find_device, measure_cost
from selfreg.trial.outcome import finish
from selfreg.trial.rules import choose_schedule, describe_rules, make_config, tries_class_weights
from selfreg.trial.sequence import Progress, conduct
from selfreg.trial.trainings import BALANCED, PLAIN, StudyTrainings
from selfreg.trial.verdict import Verdict

_SAFETY = 0.9
"""Share of the time that the schedule uses: a machine may be slower later than while it was measured."""

_KEPT = ("name", "rules", "candidates", "expected_pair", "reserve")
"""Keys that `_configure` writes and later commands read."""


class _State:
    """What is kept in try.json, so that a try continues."""

    def __init__(self, path: Path, question: dict[str, Any]) -> None:
        self.path = path
        self.question = question
        self.content: dict[str, Any] = read_json(path) if path.exists() else {"question": question}
        known = self.content.get("question", {})
        for key, value in question.items():
            if known.get(key) != value:
                raise ValueError(
                    f"{path}: this folder holds a try with {key} {known.get(key)}, now {value}; use another --out"
                )

    def progress(self) -> Progress:
        """Where an earlier command stopped. Raises ValueError if the file was changed to something else."""
        kept = self.content.get("progress", Progress().to_json())
        missing = [key for key in _KEPT if key not in self.content]
        missing += [key for key in Progress().to_json() if key not in kept]
        try:
            if missing:
                raise ValueError(f"{missing[0]} is missing")
            return TypeAdapter(Progress).validate_python(kept)
        except ValueError as error:
            raise ValueError(
                f"{self.path}: is not what a try has written ({one_line(error, first=True)}); use another --out"
            ) from None

    def write(self, **values: Any) -> None:
        self.content.update(values)
        write_json(self.path, self.content)


def run_try(target: Path | None, folder: Path, *, budget: str, network: str | None = None, seed: int = 0) -> Verdict:
    """Answer whether self-regulation helps on a data set, within a time.

    An interrupted try continues, and a larger budget adds trainings. The budget is that of all commands together.

    Args:
        target: Folder of a data set or of the export of a labelling tool; None for generated scenes.
        folder: Output folder.
        budget: Time as in `parse_budget`.
        network: Name of the network; chosen by the device if it is None.
        seed: Seed of the first pair.

    Returns:
        The verdict.

    Raises:
        ValueError: If the data have errors, the budget is too short, or the folder holds another try.
    """
    seconds = parse_budget(budget)
    if target is not None and not user_path(target).exists():
        raise ValueError(f"{target}: no such folder; give the folder of a data set or of an unpacked export")
    data = None if target is None else str(user_path(target).resolve())
    question: dict[str, Any] = {"data": data, "network": network, "seed": seed}
    with locked(folder, "trying"):
        state = _State(folder / "try.json", question)
        clock = Budget(seconds, spent=float(state.content.get("spent_seconds", 0.0)))

        def tell(line: str) -> None:
            state.write(spent_seconds=round(clock.spent, 1), budget_seconds=seconds)
            say(f"[{clock.text} left] {line}")

        return _answer(target, folder, state, clock, tell)


def _answer(target: Path | None, folder: Path, state: _State, budget: Budget, tell: Callable[[str], None]) -> Verdict:
    config_path = folder / "try.yaml"
    if "schedule" not in state.content or not config_path.exists():
        _configure(target, folder, state, budget, tell)
    else:
        tell(f"continuing the try in {folder}")
    content = state.content
    trainings = StudyTrainings(folder, config_path, open_evaluated_split(load_config(config_path)), tell)
    progress = state.progress()
    if progress.pairs and not progress.known and budget.seconds > content.get("planned_seconds", 0.0):
        progress.begin_budget()
    state.write(planned_seconds=budget.seconds)
    conduct(
        trainings,
        budget,
        progress,
        candidates=tuple(content["candidates"]),
        expected_pair=float(content["expected_pair"]),
        reserve=float(content["reserve"]),
        keep=lambda now: state.write(progress=now.to_json(), spent_seconds=round(budget.spent, 1)),
        tell=tell,
    )
    if not progress.pairs:
        longer = budget_text(1.5 * budget.seconds)
        raise ValueError(f"--budget: spent before the first pair was finished; --budget {longer} continues from here")
    verdict = finish(trainings, progress, folder, content, tell)
    state.write(verdict=verdict.to_json(), spent_seconds=round(budget.spent, 1))
    return verdict


def _configure(target: Path | None, folder: Path, state: _State, budget: Budget, tell: Callable[[str], None]) -> None:
    """Look at the data and the device, decide, and write try.yaml."""
    place = find_data(target, folder)
    for note in place.notes:
        tell(note)
    facts = inspect_data(place, folder, state.question["seed"])
    tell(f"{place.name}: {facts.num_train} training images, {facts.num_val} validation images")
    chosen = choose_network(state.question["network"], facts)
    cost, device = measure_cost(facts, chosen, find_device())
    schedule = choose_schedule(facts, chosen, cost, _SAFETY * budget.left)
    rules = describe_rules(facts, chosen, schedule, device)
    for rule in rules:
        tell(rule.line)
    config = make_config(facts, chosen, device, schedule.short_side, schedule.steps)
    write_text(folder / "try.yaml", dump_config(config))
    state.write(
        name=place.name,
        facts=asdict(facts),
        cost=asdict(cost),
        rules=[asdict(rule) for rule in rules],
        schedule=asdict(schedule),
        candidates=[PLAIN, BALANCED] if tries_class_weights(facts) else [PLAIN],
        expected_pair=round(cost.pair(facts, schedule.short_side, schedule.steps), 1),
        reserve=round(cost.ending(facts, schedule.short_side), 1),
    )


def default_folder(target: Path | None) -> Path:
    """Output folder if none is given: `runs/try-NAME`."""
    name = "scenes"
    if target is not None:
        with suppress(OSError):
            name = user_path(target).resolve().name
    return Path("runs") / f"try-{name}"
