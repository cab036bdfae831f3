"""`selfreg study`: arms times seeds, trained, measured, and held against the base and against MEA alone.

DIR/ARM/arm.yaml       the arm's whole configuration
DIR/ARM/seed-S/        a run like any other
DIR/ARM/seed-S.log     what its process printed
DIR/study.json, study.md, index.html
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from selfreg.config import Config, dump_config, load_config
from selfreg.data import Source
from selfreg.files import locked, write_json, write_text
from selfreg.opening import open_split, open_training_split
from selfreg.report.study_page import write_study_page
from selfreg.run import Run
from selfreg.study.arms import StudyArm, load_arm, parse_arms
from selfreg.study.results import ArmResult, StudyResult
from selfreg.study.runner import PlannedRun, find_places, train_all
from selfreg.study.score_cache import digest_of_source, kept_scores
from selfreg.study.tables import markdown, print_study, study_page


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
    """Train every arm (see `parse_arms`) with every seed, measure, print and write the tables; False if a run failed.

    With `as_json` the numbers are printed as JSON, and the tables go to the standard error.

    Seeds count up from the configuration's own. A study that was cut off, or is to have more arms or seeds, goes on:
    runs that have ended are kept. Raises ValueError, before anything is trained, for a configuration other than that
    with which the runs in `folder` were started.
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
    with locked(folder, "running a study"):
        for arm in parsed:
            write_text(planned[arm][0].config_path, dump_config(configs[arm]))
        console = Console(stderr=as_json)
        # seed by seed, so that a study cut off has whole pairs
        order = [planned[arm][index] for index in range(seeds) for arm in parsed]
        failures = train_all(order, places, console)
        data = digest_of_source(source)
        results = tuple(_measure(arm, planned[arm], source, data) for arm in parsed)
        result = StudyResult(study, len(source), all_seeds, results, failures)
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


def _measure(arm: StudyArm, planned: Sequence[PlannedRun], source: Source, data: str) -> ArmResult:
    """Predict (where not done yet) and score the runs of an arm that have ended."""
    scores, seconds, curves = {}, {}, []
    for each in planned:
        if not each.finished:
            continue
        # its network is that of the study's own configuration
        run = Run.open(each.folder, allow_code=True)
        scores[each.seed] = kept_scores(each, run, source, data)
        summary = run.summary() or {}
        if not summary.get("resumed"):
            seconds[each.seed] = float(summary["seconds"])
        curves.append(run.history("val/miou"))
    epochs = sorted({epoch for curve in curves for epoch in curve})
    curve = {epoch: float(np.mean([each[epoch] for each in curves if epoch in each])) for epoch in epochs}
    return ArmResult(arm, scores, seconds, curve)


def _report(result: StudyResult, folder: Path, html: Path, console: Console, command: str) -> None:
    print_study(result, console)
    write_json(folder / "study.json", result.to_json())
    write_text(folder / "study.md", markdown(result, command))
    write_study_page(study_page(result, command), html)
    console.print(f"\ntable: {os.path.relpath(folder / 'study.md')}\npage: {os.path.relpath(html)}", soft_wrap=True)


def _command(config_path: Path, arms: str, seeds: int, overrides: Sequence[str]) -> str:
    sets = "".join(f" --set {override}" for override in overrides)
    return f"selfreg study {config_path} --arms {arms} --seeds {seeds}{sets}"
