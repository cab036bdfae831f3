"""`selfreg pseudo`: runs the stages in order, each kept on disk; then writes masks, scores and the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import nn

from selfreg.config import Config, dump_config
from selfreg.config.weak import AffinityOptions
from selfreg.files import locked, write_json, write_text
from selfreg.opening import device_of
from selfreg.terminal import PlainConsole
from selfreg.weak.affinity import affinity_refinement
from selfreg.weak.cam import write_activation_maps
from selfreg.weak.classifier import input_statistics, load_classifier, train_classifier
from selfreg.weak.page import write_pseudo_page
from selfreg.weak.pseudo_masks import MaskStatistics, read_pseudo_mask, write_masks
from selfreg.weak.refine import ReadScores, check_options, read_from, refinement, write_refined
from selfreg.weak.scores import class_map, with_background
from selfreg.weak.scoring import MaskOf, StageScore, count_pairs, open_scoring_source, score_of, sweep_thresholds
from selfreg.weak.stages import data_key, key_of, make_stage
from selfreg.weak.tagged import TaggedImages, open_tagged


@dataclass(frozen=True)
class PseudoResult:
    """Result of `selfreg pseudo`.

    Attributes:
        folder: The output folder.
        statistics: What the masks contain.
        scores: Scores of the stages by name ("CAM", each refinement, "pseudo"); empty if there are no true masks.
        sweep: Score of the CAMs by background threshold; empty unless asked for.
        not_scored: Why there are no scores; empty if there are.
    """

    folder: Path
    statistics: MaskStatistics
    scores: dict[str, StageScore]
    sweep: dict[float, StageScore]
    not_scored: str

    def to_json(self) -> dict[str, Any]:
        """Return void share and scores as plain data; undefined numbers are None."""
        return {
            "images": self.statistics.images,
            "void_share": self.statistics.void_share,
            "scores": {title: score.to_json() for title, score in self.scores.items()},
            "sweep": {str(threshold): score.to_json() for threshold, score in self.sweep.items()},
            "not_scored": self.not_scored,
        }


@dataclass(frozen=True)
class _Level:
    """The scores after one stage: its title, its key, and the function that reads the scores of an image."""

    title: str
    key: str
    read: ReadScores


def make_pseudo_masks(config: Config, folder: Path, *, sweep: bool = False) -> PseudoResult:
    """Make pseudo masks from the tags of the training split; finished parts are kept and not made again.

    No true mask is read before everything is made; then the stages are scored if there are true masks.

    Args:
        config: The whole configuration.
        folder: Output folder.
        sweep: Score the CAMs at several background thresholds too.

    Raises:
        ValueError: Before time is spent, for data without tags, options that do not fit, or a folder in use by another
            process.
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
    """Run the stages that are missing; return a reader of the activation maps, and the scores after each stage."""
    device = device_of(config)
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
    statistics: MaskStatistics,
    activation: ReadScores,
    levels: Sequence[_Level],
    sweep: bool,
) -> PseudoResult:
    """Score the stages. True masks are read only here; if they are faulty, only the scores are missing."""
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


def print_result(result: PseudoResult, console: PlainConsole | None = None) -> None:
    """Print the scores of the stages, the sweep if there is one, and where the masks are."""
    console = console or PlainConsole()
    if result.scores:
        table = Table("stage", "mIoU", "coverage", "mIoU, void as missed", title="against the true masks, %")
        for title, score in result.scores.items():
            table.add_row(title, *_percent(score.miou, score.coverage, score.miou_of_all))
        console.print(table)
    else:
        console.print(f"not scored: {result.not_scored}", soft_wrap=True)
    if result.sweep:
        table = Table("cam.background_threshold", "mIoU of the CAMs")
        for threshold, score in result.sweep.items():
            table.add_row(f"{threshold:g}", *_percent(score.miou))
        console.print(table)
    statistics = result.statistics
    for line in (
        f"{result.folder / 'pseudo'}: {statistics.images} masks, {statistics.void_share:.1%} void, "
        f"{len(statistics.lost_tags)} images lack a class of their tags",
        f"page: {result.folder / 'index.html'}",
        f"train on them: selfreg train CONFIG --set data.pseudo={result.folder}",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def _percent(*values: float) -> list[str]:
    return ["-" if math.isnan(value) else f"{100 * value:.1f}" for value in values]
