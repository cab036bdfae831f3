"""`selfreg pseudo`: the stages in their order, each kept on disk, then the masks, the scores and the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from selfreg.config import Config, dump_config
from selfreg.config.weak import AffinityOptions
from selfreg.files import locked, write_json, write_text
from selfreg.weak.affinity import affinity_refinement
from selfreg.weak.cam import write_activation_maps
from selfreg.weak.classifier import input_statistics, load_classifier, train_classifier
from selfreg.weak.page import write_pseudo_page
from selfreg.weak.pseudo_masks import Statistics, read_pseudo_mask, write_masks
from selfreg.weak.refine import ReadScores, check_options, read_from, refinement, write_refined
from selfreg.weak.scores import class_map, with_background
from selfreg.weak.scoring import MaskOf, StageScore, count_pairs, open_scoring_source, score_of, sweep_thresholds
from selfreg.weak.stages import data_key, key_of, make_stage
from selfreg.weak.tagged import TaggedImages, open_tagged


@dataclass(frozen=True)
class PseudoResult:
    """What `selfreg pseudo` made: the folder, what the masks hold, and the scores of the stages where masks exist.

    scores: "CAM", each refinement by its name, "pseudo". sweep: the score of the CAMs by background threshold, empty
    unless asked for. not_scored: why there are no scores, "" where there are.
    """

    folder: Path
    statistics: Statistics
    scores: dict[str, StageScore]
    sweep: dict[float, StageScore]
    not_scored: str

    def to_json(self) -> dict[str, Any]:
        """Void share and scores as JSON has them, the same wherever they lie: what is not defined is null."""
        return {
            "images": self.statistics.images,
            "void_share": self.statistics.void_share,
            "scores": {title: score.to_json() for title, score in self.scores.items()},
            "sweep": {str(threshold): score.to_json() for threshold, score in self.sweep.items()},
            "not_scored": self.not_scored,
        }


@dataclass(frozen=True)
class _Level:
    """The scores after one stage: its name for people, its key, and how the scores of an image are read."""

    title: str
    key: str
    read: ReadScores


def make_pseudo_masks(config: Config, folder: Path, *, sweep: bool = False) -> PseudoResult:
    """Go from the tags of the training split to pseudo masks in `folder`; what was made before is not made again.

    No mask is read until everything is made; then the stages are scored, if there are masks. Raises ValueError, before
    time is spent, for data without tags, options that do not fit and a folder that another process works in.
    """
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    tagged = open_tagged(config)
    for step in config.refinement:
        check_options(step)
    with locked(folder, "making pseudo masks"):
        write_text(folder / "config.yaml", dump_config(config))
        activation, levels = _run_stages(config, tagged, folder)
        key = key_of(levels[-1].key, config.pseudo.model_dump())
        statistics = write_masks(folder, key, tagged, levels[-1].read, config.pseudo)
        result = _scored(config, tagged, folder, statistics, activation, levels, sweep)
        write_json(folder / "scores.json", result.to_json())
        write_pseudo_page(folder / "index.html", tagged, folder, statistics, result.scores, result.not_scored)
    return result


def _run_stages(config: Config, tagged: TaggedImages, folder: Path) -> tuple[ReadScores, list[_Level]]:
    """Make what is missing; return how activation maps are read, and the scores after each stage."""
    device = _device(config)
    statistics = input_statistics(config)
    classifier = make_stage(
        folder, "classifier", data_key(tagged), config.seed, config.classifier.model_dump(mode="json"), statistics
    )
    options = config.cam.model_dump(exclude={"background_threshold"})
    cam = make_stage(folder, "cam", classifier.key, options)

    def network() -> nn.Module:
        train_classifier(config, tagged, classifier, device)
        return load_classifier(config, tagged, classifier, device)

    if not cam.done:
        cam.for_each(tagged.ids, ".npz", write_activation_maps(tagged, network(), config.cam, statistics, device))
    activation = read_from(cam.folder, tagged.ids)
    threshold = config.cam.background_threshold
    levels = [_Level("CAM", key_of(cam.key, threshold), _first_scores(tagged, activation, threshold))]
    for number, step in enumerate(config.refinement, 1):
        stage = make_stage(folder, f"{number}-{step.name}", levels[-1].key, step.model_dump(mode="json"))
        before = levels[-1]
        if not stage.done and step.name == "affinity":
            affinity = AffinityOptions.model_validate(step.options)
            trained = make_stage(folder, f"{number}-affinity_network", before.key, config.seed, affinity.training())
            refine = affinity_refinement(
                affinity, tagged, before.read, trained, network, statistics, config.seed, device
            )
            stage.for_each(tagged.ids, ".npz", write_refined(tagged, before.read, refine))
        elif not stage.done:
            stage.for_each(tagged.ids, ".npz", write_refined(tagged, before.read, refinement(step, device)))
        levels.append(_Level(step.name, stage.key, read_from(stage.folder, tagged.ids)))
    return activation, levels


def _first_scores(tagged: TaggedImages, activation: ReadScores, threshold: float) -> ReadScores:
    def read(index: int) -> Any:
        height, width = tagged.image(index).shape[:2]
        return with_background(activation(index), (height, width), tagged.background, threshold)

    return read


def _scored(
    config: Config,
    tagged: TaggedImages,
    folder: Path,
    statistics: Statistics,
    activation: ReadScores,
    levels: Sequence[_Level],
    sweep: bool,
) -> PseudoResult:
    """Only here are masks read; whatever is wrong with them costs the scores and nothing else."""
    source = open_scoring_source(config)
    if isinstance(source, str):
        return PseudoResult(folder, statistics, {}, {}, source)
    masks: dict[str, MaskOf] = {level.title: _mask_of(level.read) for level in levels}
    masks["pseudo"] = lambda index: read_pseudo_mask(folder, tagged.ids[index], tagged.labels)
    try:
        scores = {title: score_of(count_pairs(source, mask_of, f"scoring {title}")) for title, mask_of in masks.items()}
        swept = {}
        if sweep and tagged.background is not None:
            swept = sweep_thresholds(source, activation, tagged.background)
    except ValueError as error:
        return PseudoResult(folder, statistics, {}, {}, str(error))
    return PseudoResult(folder, statistics, scores, swept, "")


def _mask_of(read: ReadScores) -> MaskOf:
    return lambda index: class_map(read(index))


def _device(config: Config) -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() and config.training.accelerator != "cpu" else "cpu")


def print_result(result: PseudoResult, console: Console | None = None) -> None:
    """The scores of the stages, the sweep if there is one, and where the masks are."""
    console = console or Console()
    if result.scores:
        table = Table("stage", "mIoU", "coverage", "mIoU, void as missed", title="against the true masks, %")
        for title, score in result.scores.items():
            table.add_row(title, *_percent(score.miou, score.coverage, score.miou_of_all))
        console.print(table)
    else:
        console.print(f"not scored: {result.not_scored}", markup=False, soft_wrap=True)
    if result.sweep:
        table = Table("cam.background_threshold", "mIoU of the CAMs")
        for threshold, score in result.sweep.items():
            table.add_row(f"{threshold:g}", *_percent(score.miou))
        console.print(table)
    statistics = result.statistics
    console.print(
        f"{result.folder / 'pseudo'}: {statistics.images} masks, {statistics.void_share:.1%} void, "
        f"{len(statistics.lost_tags)} images lack a class that they are tagged with\n"
        f"page: {result.folder / 'index.html'}\n"
        f"train on them: selfreg train CONFIG --set data.pseudo={result.folder}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _percent(*values: float) -> list[str]:
    return ["-" if math.isnan(value) else f"{100 * value:.1f}" for value in values]
