"""What a try leaves: tables, the page with the verdict, pictures, and the better network."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from selfreg.comparison.cases import choose_cases
from selfreg.comparison.compare import Comparison, compare_runs
from selfreg.comparison.page import write_comparison
from selfreg.files import write_json, write_text
from selfreg.inference.evaluate import evaluate_run
from selfreg.messages import say
from selfreg.report.pictures import contact_sheet
from selfreg.report.study_page import StudyPictures, write_study_page
from selfreg.report.tables import print_table
from selfreg.run import Run
from selfreg.study.pictures import pictures_of
from selfreg.study.results import StudyResult
from selfreg.study.study import arm_result
from selfreg.study.tables import make_tables, markdown, study_page
from selfreg.terminal import PlainConsole
from selfreg.trial.looks import FIRST_LOOK
from selfreg.trial.sequence import PRIMARY, Progress
from selfreg.trial.trainings import ARMS, FULL, IN_WORDS, StudyTrainings
from selfreg.trial.verdict import Asked, Verdict, reach_verdict

_CASES = 60
_PICTURE_ROWS = 4


def finish(
    trainings: StudyTrainings, progress: Progress, folder: Path, content: dict[str, Any], tell: Callable[[str], None]
) -> Verdict:
    """Write everything that a try leaves, and print the verdict.

    Args:
        trainings: The finished trainings.
        progress: Where the try stopped.
        folder: Folder of the try.
        content: Content of try.json.
        tell: Called with lines for the user.
    """
    result = collect(trainings, progress)
    place = os.path.relpath(folder)
    next_pair = progress.next_pair(float(content["expected_pair"]))
    question = content["question"]
    seconds = max(float(content["planned_seconds"]), float(content["spent_seconds"]))
    asked = Asked(question["data"], question["network"], question["seed"], place, seconds)
    verdict = reach_verdict(
        result,
        progress,
        name=content["name"],
        asked=asked,
        next_pair=next_pair,
        fewest_steps=content["fewest_steps"],
    )
    write_json(folder / "study.json", result.to_json())
    keep_better(trainings, progress, folder / "best", verdict.better)
    pictures = _write_pictures(trainings, progress, verdict, folder)
    _write_pages(result, verdict, asked, content, _disagreements(trainings, progress))
    console = PlainConsole()
    for table in make_tables(result):
        print_table(table, console)
    tell("finished")
    # not the console, which would wrap long lines
    say("", verdict.sentence, *(paragraph for paragraph in verdict.paragraphs if paragraph), "")
    say(f"page: {place}/index.html", f"pictures: {os.path.relpath(pictures)}, {place}/cases.png")
    say(f"configuration: {place}/try.yaml", f"network: {place}/best")
    return verdict


def collect(trainings: StudyTrainings, progress: Progress) -> StudyResult:
    """The results of the base and of `full` over the finished pairs, with the intervals of the last look."""
    arms = []
    for name in (progress.base, FULL):
        planned = [trainings.run(name, seed) for seed in range(progress.pairs)]
        measured = {run: dict(trainings.scores(name, seed)) for seed, run in enumerate(planned)}
        arms.append(arm_result(ARMS[name], planned, measured))
    run = Run.open(trainings.run(FULL, 0).folder)
    seeds = tuple(trainings.run(FULL, seed).seed for seed in range(progress.pairs))
    source = trainings.source
    names = tuple(source.labels.class_names)
    return StudyResult(
        run.config(), len(source), seeds, tuple(arms), {}, names, progress.confidence, _intervals(progress)
    )


def _intervals(progress: Progress) -> str:
    if not progress.levels:
        few = f"Fewer than {FIRST_LOOK} pairs"
        if progress.confidence is None:
            return f"{few}: differences have no interval, since one pair cannot show how trainings differ."
        return f"{few}: intervals of {progress.confidence:.0%}, Student's t over seeds and images, which are wide."
    looks = ", ".join(f"{1 - level:.1%} after {pairs}" for pairs, level in sorted(progress.levels.items()))
    return (
        f"Intervals: paired, Student's t over seeds and images, {looks} pairs: wider than 95 %, since results that are "
        "looked at repeatedly have several opportunities to mislead; those of mIoU together hold with 95 %. The "
        "verdict is about mIoU alone. The intervals of the other measures have the same width but are not corrected "
        "for their number."
    )


def keep_better(trainings: StudyTrainings, progress: Progress, folder: Path, arm: str) -> None:
    """Write the best training of an arm as a run of its own, and evaluate it."""
    seed = max(range(progress.pairs), key=lambda each: float(trainings.scores(arm, each)[PRIMARY][0]))
    run = Run.open(trainings.run(arm, seed).folder, allow_code=True)
    kept = Run(folder, allow_code=True)
    if Run.exists(folder):
        kept.extend(run.config())
    else:
        Run.create(folder, run.config(), run.info())
    kept.save_weights("last", run.network())
    kept.write_summary(run.summary() or {})
    evaluate_run(folder, allow_code=True)


def _disagreements(trainings: StudyTrainings, progress: Progress) -> StudyPictures:
    base, full = (
        {seed: Run.open(trainings.run(name, seed).folder, allow_code=True) for seed in range(progress.pairs)}
        for name in (progress.base, FULL)
    )
    return pictures_of((progress.base, FULL), base, full, trainings.source)


def _write_pages(
    result: StudyResult, verdict: Verdict, asked: Asked, content: dict[str, Any], pictures: StudyPictures
) -> None:
    folder, command = Path(asked.folder), asked.again()
    base, full = (arm.arm.name for arm in result.arms)
    rules = [f"{rule['option']}: {rule['value']} ({rule['kind']}: {rule['reason']})" for rule in content["rules"]]
    page = study_page(result, command, pictures)
    page = replace(
        page,
        title=f"Does self-regulation help on {content['name']}?",
        verdicts={base: {full: verdict.sentence}},
        notes=[
            *verdict.paragraphs,
            *page.notes,
            "Every kind of case, of the first pair of trainings: pictures.html beside this page.",
            f"How the try configured itself: {'; '.join(rules)}.",
        ],
        commands=[command, asked.use()],
    )
    write_study_page(page, folder / "index.html")
    lines = markdown(result, command).splitlines()
    write_text(folder / "study.md", "\n".join(["# Verdict", "", verdict.sentence, "", *verdict.paragraphs, "", *lines]))


def _write_pictures(trainings: StudyTrainings, progress: Progress, verdict: Verdict, folder: Path) -> Path:
    """The page and the picture of the first pair, which by itself decides nothing."""
    runs = [trainings.run(name, 0).folder for name in (progress.base, FULL)]
    found = compare_runs(runs, allow_code=True)
    names = (IN_WORDS[progress.base], IN_WORDS[FULL])
    found = replace(found, sides=[replace(side, name=name) for side, name in zip(found.sides, names, strict=True)])
    _write_sheet(found, folder / "cases.png")
    first = "" if progress.pairs == 1 else f"The first of {progress.pairs} pairs, which decides nothing by itself. "
    title, said = "The first pair of trainings", f"{first}{verdict.sentence}"
    return write_comparison(found, folder / "pictures.html", title=title, limit=_CASES, verdict=said)


def _write_sheet(found: Comparison, path: Path) -> None:
    cases = [case for case in choose_cases(found, limit=0, overviews=_PICTURE_ROWS) if case.kind == "overview"]
    contact_sheet(cases, path, run_names=[side.name for side in found.sides], palette=found.source.labels.palette)
