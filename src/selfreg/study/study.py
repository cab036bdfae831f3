"""`selfreg study`: arms times seeds, trained, measured, and held against the base and against MEA alone.

DIR/ARM/arm.yaml       the arm's whole configuration
DIR/ARM/seed-S/        a run like any other
DIR/ARM/seed-S.log     what its process printed
DIR/ARM/.seed-S.claim  held by the process that trains or measures the run
DIR/study.json, study.md, index.html
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from selfreg.config import Config, dump_config, load_config
from selfreg.data import Source
from selfreg.evaluation.scores import Floats
from selfreg.files import is_locked, output_folder, write_json, write_text
from selfreg.input_files import read_text
from selfreg.opening import open_split, open_training_split
from selfreg.report.study_page import write_study_page
from selfreg.run import Run
from selfreg.study.arms import StudyArm, load_arm, parse_arms
from selfreg.study.planned import PlannedRun
from selfreg.study.results import ArmResult, StudyResult
from selfreg.study.runner import find_places, train_all
from selfreg.study.score_cache import digest_of_source, kept_scores
from selfreg.study.tables import markdown, print_study, study_page

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
    """Train every arm with every seed, measure the runs, print and write the tables.

    Seeds count up from the configuration's own. A study that was cut off, or is to have more arms or seeds, goes on:
    runs that have ended are kept. Several processes, on several machines, may run the same study in one folder: each
    run is trained by one of them, and all of them write the same tables when every run has ended.

    Args:
        config_path: The study's configuration.
        folder: Where the study is kept.
        arms: Arms as `parse_arms` reads them.
        seeds: Number of trainings of each arm.
        overrides: `section.key=value`, for all arms.
        jobs: Runs at a time.
        html: Where the page goes; `folder/index.html` if not given.
        as_json: Print the numbers as JSON, and the tables to the standard error.

    Returns:
        False if a run failed.

    Raises:
        ValueError: Before anything is trained, for a configuration other than that with which the runs in `folder`
            were started, or that another process is training now.
    """
    if seeds < 1:
        raise ValueError(f"--seeds {seeds}: at least one")
    study = load_config(config_path, overrides)
    parsed = parse_arms(arms)
    configs = {arm: load_arm(config_path, overrides, arm) for arm in parsed}
    all_seeds = tuple(range(study.seed, study.seed + seeds))
    source = _open(study)
    places = find_places(study, jobs)
    planned = {arm: [_plan(folder, arm, configs[arm], seed) for seed in all_seeds] for arm in parsed}
    console = Console(stderr=as_json)
    # seed by seed, so that a study cut off has whole pairs
    order = [planned[arm][index] for index in range(seeds) for arm in parsed]
    with output_folder(folder):
        _write_configs(planned, configs)
        failures = train_all(order, places, console)
        scores = _measure_all(order, source)
        results = tuple(_arm_result(arm, planned[arm], scores) for arm in parsed)
        result = StudyResult(study, len(source), all_seeds, results, failures, tuple(source.labels.class_names))
        _report(result, folder, html or folder / "index.html", console, _command(config_path, arms, seeds, overrides))
    if as_json:
        print(json.dumps(result.to_json(), indent=2, allow_nan=False))
    return not failures


def _open(study: Config) -> Source:
    open_training_split(study)
    source = open_split(study, study.data.val_split)
    if len(source) < 2:
        raise ValueError(f"data.val_split {study.data.val_split}: holds one image; intervals need two or more")
    return source


def _plan(folder: Path, arm: StudyArm, config: Config, seed: int) -> PlannedRun:
    # the trainer refuses other configurations too, but only once earlier runs have cost their time
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


def _write_configs(planned: Mapping[StudyArm, Sequence[PlannedRun]], configs: Mapping[StudyArm, Config]) -> None:
    """Write each arm's configuration; refuse to replace one that another process is training with."""
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


def _measure_all(runs: Sequence[PlannedRun], source: Source) -> dict[PlannedRun, dict[str, Floats]]:
    """Predict (where not done yet) and score the runs that have ended; each is left to the process that has it."""
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
                # its network is that of the study's own configuration
                scores[run] = kept_scores(run, Run.open(run.folder, allow_code=True), source, data)
        if held_elsewhere:
            time.sleep(_SECONDS_BETWEEN_CLAIMS)
        todo = held_elsewhere
    return scores


def _arm_result(
    arm: StudyArm, planned: Sequence[PlannedRun], measured: Mapping[PlannedRun, dict[str, Floats]]
) -> ArmResult:
    scores, seconds, curves, depths = {}, {}, [], []
    for each in planned:
        if each not in measured:
            continue
        run = Run.open(each.folder)
        scores[each.seed] = measured[each]
        summary = run.summary() or {}
        if not summary.get("resumed"):
            seconds[each.seed] = float(summary["seconds"])
        curves.append(run.history("val/miou"))
        depths.append(run.miou_by_depth())
    epochs = sorted({epoch for curve in curves for epoch in curve})
    curve = {epoch: float(np.mean([each[epoch] for each in curves if epoch in each])) for epoch in epochs}
    by_depth = tuple(float(np.mean(values)) for values in zip(*depths, strict=True))
    return ArmResult(arm, scores, seconds, curve, by_depth)


def _report(result: StudyResult, folder: Path, html: Path, console: Console, command: str) -> None:
    print_study(result, console)
    write_json(folder / "study.json", result.to_json())
    write_text(folder / "study.md", markdown(result, command))
    write_study_page(study_page(result, command), html)
    console.print(f"\ntable: {os.path.relpath(folder / 'study.md')}\npage: {os.path.relpath(html)}", soft_wrap=True)


def _command(config_path: Path, arms: str, seeds: int, overrides: Sequence[str]) -> str:
    sets = "".join(f" --set {override}" for override in overrides)
    return f"selfreg study {config_path} --arms {arms} --seeds {seeds}{sets}"
