"""`selfreg study`: train arms with several seeds, evaluate them, and compare them with the base and with `mea`.

DIR/ARM/arm.yaml       the arm's whole configuration
DIR/ARM/seed-S/        an ordinary run
DIR/ARM/seed-S.log     output of its process
DIR/ARM/.seed-S.claim  locked by the process that trains or evaluates the run
DIR/study.json, study.md, index.html
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from selfreg.config import Config, dump_config, load_config
from selfreg.data import Source
from selfreg.evaluation.scores import Floats
from selfreg.files import is_locked, output_folder, write_json, write_text
from selfreg.input_files import read_text
from selfreg.messages import command_line, say
from selfreg.opening import open_split, open_training_split
from selfreg.report.study_page import StudyPictures, subject_of, write_study_page
from selfreg.run import Run
from selfreg.study.arms import StudyArm, load_arm, parse_arms
from selfreg.study.pictures import pictures_of
from selfreg.study.planned import PlannedRun
from selfreg.study.results import ArmResult, StudyResult
from selfreg.study.runner import find_places, train_all
from selfreg.study.score_cache import digest_of_source, kept_scores
from selfreg.study.tables import markdown, print_study, study_page
from selfreg.terminal import PlainConsole

_SECONDS_BETWEEN_CLAIMS = 1.0


def run_study(
    config_path: Path,
    folder: Path,
    *,
    arms: str,
    seeds: int,
    overrides: Sequence[str] = (),
    jobs: int = 1,
    html: Path | None = None,
    as_json: bool = False,
) -> bool:
    """Train every arm with every seed, evaluate the runs, print and write the tables.

    Seeds count up from the one of the configuration. Runs that have finished are kept, so an interrupted study
    continues and arms or seeds can be added. Several processes on several machines may run the same study in one
    folder: each run is trained by one of them, and all of them write the same tables when every run has ended.

    Args:
        config_path: The study's configuration.
        folder: Folder of the study.
        arms: Arms as in `parse_arms`.
        seeds: Number of trainings of each arm.
        overrides: `section.key=value`, for all arms.
        jobs: Number of simultaneous runs.
        html: Path of the page; `folder/index.html` by default.
        as_json: Print the numbers as JSON, and the tables to the standard error.

    Returns:
        False if a run failed.

    Raises:
        ValueError: Before anything is trained, if the configuration differs from the one with which the runs in
            `folder` were started, or with which another process is training now.
    """
    if seeds < 1:
        raise ValueError(f"--seeds {seeds}: give at least 1")
    study = load_config(config_path, overrides)
    parsed = parse_arms(arms)
    configs = {arm: load_arm(config_path, overrides, arm) for arm in parsed}
    all_seeds = tuple(range(study.seed, study.seed + seeds))
    source = open_evaluated_split(study)
    places = find_places(study, jobs)
    planned = {arm: [plan_run(folder, arm, configs[arm], seed) for seed in all_seeds] for arm in parsed}
    console = PlainConsole(stderr=as_json)
    # seed by seed, so that an interrupted study has complete pairs
    order = [planned[arm][index] for index in range(seeds) for arm in parsed]
    with output_folder(folder):
        write_configs(planned, configs)
        failures = train_all(order, places, console)
        scores = measure_all(order, source)
        results = tuple(arm_result(arm, planned[arm], scores) for arm in parsed)
        result = StudyResult(study, len(source), all_seeds, results, failures, tuple(source.labels.class_names))
        command = _command(config_path, arms, seeds, overrides)
        _report(result, _pictures(planned, scores, source), folder, html or folder / "index.html", console, command)
    if as_json:
        say(*json.dumps(result.to_json(), indent=2, allow_nan=False).splitlines())
    return not failures


def open_evaluated_split(study: Config) -> Source:
    """Open the training split, to see that it can be opened, and return the validation split.

    Raises:
        ValueError: If a split cannot be opened, or there are too few validation images for intervals.
    """
    open_training_split(study)
    source = open_split(study, study.data.val_split)
    if len(source) < 2:
        raise ValueError(f"data.val_split {study.data.val_split}: has one image, but intervals need two or more")
    return source


def plan_run(folder: Path, arm: StudyArm, config: Config, seed: int) -> PlannedRun:
    """Name the files of a run in the folder of a study.

    Raises:
        ValueError: If the run was started with another configuration.
    """
    # the trainer rejects other configurations too, but only after earlier runs have been trained
    from selfreg.training.resuming import refuse_other_config

    planned = PlannedRun(
        f"{arm.name} seed {seed}",
        folder / arm.folder_name / f"seed-{seed}",
        folder / arm.folder_name / "arm.yaml",
        seed,
    )
    if Run.exists(planned.folder):
        refuse_other_config(Run.open(planned.folder), config.model_copy(update={"seed": seed}))
    return planned


def write_configs(planned: Mapping[StudyArm, Sequence[PlannedRun]], configs: Mapping[StudyArm, Config]) -> None:
    """Write each arm's configuration, unless another process is training with a different one."""
    for arm, runs in planned.items():
        path, text = runs[0].config_path, dump_config(configs[arm])
        if path.exists() and read_text(path, errors="replace") != text:
            busy = [claim for claim in path.parent.glob(".seed-*.claim") if is_locked(claim)]
            if busy:
                raise ValueError(
                    f"{path}: another process trains this arm with another configuration; wait for it or use another "
                    "--out"
                )
        write_text(path, text)


def measure_all(runs: Sequence[PlannedRun], source: Source) -> dict[PlannedRun, dict[str, Floats]]:
    """Predict (if needed) and score the runs that have ended; runs claimed by another process are left to it."""
    scores = {}
    data = digest_of_source(source)
    todo = [run for run in runs if run.finished]
    while todo:
        held_elsewhere = []
        for run in todo:
            held = run.claim()
            if held is None:
                held_elsewhere.append(run)
                continue
            with held:
                # its network comes from the study's configuration
                scores[run] = kept_scores(run, Run.open(run.folder, allow_code=True), source, data)
        if held_elsewhere:
            time.sleep(_SECONDS_BETWEEN_CLAIMS)
        todo = held_elsewhere
    return scores


def arm_result(
    arm: StudyArm, planned: Sequence[PlannedRun], measured: Mapping[PlannedRun, dict[str, Floats]]
) -> ArmResult:
    """Collect what is known of the measured runs of an arm."""
    scores, seconds, curves, depths = {}, {}, [], []
    for each in planned:
        if each not in measured:
            continue
        run = Run.open(each.folder)
        scores[each.seed] = measured[each]
        summary = run.summary() or {}
        if not summary.get("resumed") and "seconds" in summary:  # runs of earlier versions lack it
            seconds[each.seed] = float(summary["seconds"])
        curves.append(run.history("val/miou"))
        depths.append(run.miou_by_depth())
    epochs = sorted({epoch for curve in curves for epoch in curve})
    curve = {epoch: float(np.mean([each[epoch] for each in curves if epoch in each])) for epoch in epochs}
    # no curve where the logs of a run lack the exits
    complete = len(set(map(len, depths))) == 1
    by_depth = tuple(float(np.mean(values)) for values in zip(*depths, strict=True)) if complete else ()
    return ArmResult(arm, scores, seconds, curve, by_depth)


def _pictures(
    planned: Mapping[StudyArm, Sequence[PlannedRun]], measured: Mapping[PlannedRun, object], source: Source
) -> StudyPictures | None:
    """The images on which the arm of the page's first verdict differs most from the first arm."""
    arms = list(planned)
    names = [arm.name for arm in arms]
    if len(arms) < 2:
        return None
    chosen = (arms[0], arms[names.index(subject_of(names))])
    control, arm = (
        {run.seed: Run.open(run.folder, allow_code=True) for run in planned[each] if run in measured} for each in chosen
    )
    return pictures_of((chosen[0].name, chosen[1].name), control, arm, source)


def _report(
    result: StudyResult, pictures: StudyPictures | None, folder: Path, html: Path, console: PlainConsole, command: str
) -> None:
    print_study(result, console)
    write_json(folder / "study.json", result.to_json())
    write_text(folder / "study.md", markdown(result, command))
    write_study_page(study_page(result, command, pictures), html)
    console.print()
    console.print(f"table: {os.path.relpath(folder / 'study.md')}", soft_wrap=True)
    console.print(f"page: {os.path.relpath(html)}", soft_wrap=True)


def _command(config_path: Path, arms: str, seeds: int, overrides: Sequence[str]) -> str:
    sets = [word for override in overrides for word in ("--set", override)]
    return command_line("selfreg", "study", config_path, "--arms", arms, "--seeds", seeds, *sets)
