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
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from selfreg.config import dump_config, load_config
from selfreg.files import locked, read_json, write_json, write_text
from selfreg.input_files import user_path
from selfreg.messages import one_line, say
from selfreg.study.study import open_evaluated_split
from selfreg.trial.budget import Budget, budget_text, parse_budget
from selfreg.trial.changes import digest_of_data, digest_of_export
from selfreg.trial.data import Place, find_data, import_data, inspect_data
from selfreg.trial.looks import MOST_PAIRS
from selfreg.trial.measuring import choose_network, plan_trainings
from selfreg.trial.outcome import finish
from selfreg.trial.rules import (
    Rule,
    describe_rules,
    fewest_steps,
    make_config,
    tries_class_weights,
)
from selfreg.trial.sequence import Progress, conduct
from selfreg.trial.trainings import BALANCED, PLAIN, StudyTrainings
from selfreg.trial.verdict import Verdict

LARGEST_SEED = 2**32 - 1 - MOST_PAIRS
"""Seeds count up from that of the first pair."""

_SAFETY = 0.9
"""Share of the time that the schedule uses: a machine may be slower later than while it was measured."""


class _Kept(TypedDict):
    """What `_configure` writes and later commands read."""

    name: str
    rules: list[Rule]
    candidates: Annotated[list[Literal["base", "balanced"]], Field(min_length=1)]
    expected_pair: Annotated[float, Field(ge=0)]
    reserve: Annotated[float, Field(ge=0)]
    fewest_steps: Annotated[int, Field(ge=0)]
    data_digest: str


class _State:
    """What is kept in try.json, so that a try continues."""

    def __init__(self, path: Path, question: dict[str, Any]) -> None:
        self.path = path
        self.question = question
        if not path.exists():
            _require_empty(path.parent)
        self.content: dict[str, Any] = read_json(path) if path.exists() else {"question": question}
        known = self.content.get("question")
        if not isinstance(known, dict):
            raise self._damaged("question is missing")
        for key in self._decided():
            if known.get(key) != question[key]:
                raise ValueError(
                    f"{path}: this folder holds a try with {key} {known.get(key)}, now {question[key]}; use another "
                    "--out"
                )
        self.content["question"] = question

    def _decided(self) -> list[str]:
        """The parts of the question that cannot change any more: none before something was made for them."""
        if "schedule" in self.content:
            return list(self.question)
        return ["data"] if "export_digest" in self.content else []

    def number(self, key: str) -> float:
        """A number that was kept, 0 if there is none. Raises ValueError if the file was changed to something else."""
        value = self.content.get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise self._damaged(f"{key} is {value!r}")
        return float(value)

    def progress(self) -> Progress:
        """Where an earlier command stopped. Raises ValueError if the file was changed to something else."""
        kept = self.content.get("progress", Progress().to_json())
        try:
            missing = [key for key in Progress().to_json() if key not in kept]
            if missing:
                raise ValueError(f"{missing[0]} is missing")
            if kept["pairs"] and not kept["base"]:
                raise ValueError("pairs without a base")
            TypeAdapter(_Kept).validate_python(self.content)
            return TypeAdapter(Progress).validate_python(kept)
        except (ValueError, TypeError) as error:
            raise self._damaged(one_line(error, first=True)) from None

    def require_same(self, key: str, digest: str, name: str) -> None:
        """Keep the digest of the data with this name, or raise ValueError if another one is kept."""
        if self.content.setdefault(key, digest) != digest:
            raise ValueError(
                f"{name}: has changed since the try in {self.path.parent} read it, and its trainings and scores belong "
                "to the data as they were; use another --out"
            )

    def _damaged(self, reason: str) -> ValueError:
        return ValueError(f"{self.path}: is not what a try has written ({reason}); use another --out")

    def write(self, **values: Any) -> None:
        self.content.update(values)
        write_json(self.path, self.content)


def _require_empty(folder: Path) -> None:
    """Raise ValueError if a try that begins in the folder would meet other files."""
    others = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    if others:
        raise ValueError(f"{folder}: holds no try, but {others[0]}; give a new folder as --out")


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
        ValueError: If the data have errors or have changed since the try began, the budget is too short, an option is
            out of range, or the folder holds another try or other files.
    """
    seconds = parse_budget(budget)
    if target is not None and not user_path(target).is_dir():
        what = "is a file" if user_path(target).exists() else "no such folder"
        raise ValueError(f"{target}: {what}; give the folder of a data set or of an unpacked export")
    data = None if target is None else str(user_path(target).resolve())
    if network == "":
        raise ValueError("--network: is empty; leave it out to have the network chosen")
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"--seed {seed}: give a number of 0 to {LARGEST_SEED}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; give a new folder as --out")
    question: dict[str, Any] = {"data": data, "network": network, "seed": seed}
    with locked(folder, "trying"):
        state = _State(folder / "try.json", question)
        clock = Budget(seconds, spent=state.number("spent_seconds"))

        def tell(line: str) -> None:
            state.write(spent_seconds=round(clock.spent, 1), budget_seconds=seconds)
            say(f"[{clock.text} left] {line}")

        return _answer(target, folder, state, clock, tell)


def _answer(target: Path | None, folder: Path, state: _State, budget: Budget, tell: Callable[[str], None]) -> Verdict:
    config_path = folder / "try.yaml"
    place = find_data(target, folder)
    if place.export is not None:
        state.require_same("export_digest", digest_of_export(place.export, folder), place.name)
    state.write()
    for note in import_data(place):
        tell(note)
    if "schedule" not in state.content or not config_path.exists():
        _configure(place, folder, state, budget, tell)
    else:
        # a record without a digest is damaged, not new
        state.progress()
        state.require_same("data_digest", digest_of_data(place), place.name)
        tell(f"continuing the try in {folder}")
    content, progress = state.content, state.progress()
    trainings = StudyTrainings(folder, config_path, open_evaluated_split(load_config(config_path)), tell)
    trainings.require_finished(progress.base, progress.pairs)
    if progress.pairs and not progress.known and budget.seconds > state.number("planned_seconds"):
        progress.begin_budget()
    state.write(planned_seconds=budget.seconds, progress=progress.to_json())
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
        needed = budget.spent + float(content["expected_pair"]) + float(content["reserve"])
        longer = budget_text(max(1.5 * budget.seconds, needed))
        raise ValueError(f"--budget: spent before the first pair was finished; --budget {longer} continues from here")
    verdict = finish(trainings, progress, folder, content, tell)
    state.write(verdict=verdict.to_json(), spent_seconds=round(budget.spent, 1))
    return verdict


def _configure(place: Place, folder: Path, state: _State, budget: Budget, tell: Callable[[str], None]) -> None:
    """Look at the data and the device, decide, and write try.yaml."""
    facts = inspect_data(place, folder, state.question["seed"], tell)
    tell(f"{place.name}: {facts.num_train} training images, {facts.num_val} validation images")
    chosen = choose_network(state.question["network"], facts)
    schedule, cost, device = plan_trainings(facts, chosen, lambda: _SAFETY * budget.left)
    rules = describe_rules(facts, chosen, schedule, device)
    for rule in rules:
        tell(rule.line)
    config = make_config(facts, chosen, device, schedule.short_side, schedule.steps)
    state.require_same("data_digest", digest_of_data(place), place.name)
    write_text(folder / "try.yaml", dump_config(config))
    state.write(
        name=place.name,
        facts=asdict(facts),
        cost=asdict(cost),
        rules=[asdict(rule) for rule in rules],
        schedule=asdict(schedule),
        fewest_steps=fewest_steps(facts, chosen),
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
