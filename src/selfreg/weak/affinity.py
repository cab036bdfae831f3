"""The affinity stage: learns class boundaries from seeds, for the random walk."""

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from selfreg.config.weak import AffinityOptions
from selfreg.data import normalise
from selfreg.files import whole_file
from selfreg.regulation import MultiExit
from selfreg.weak.classifier import InputStatistics
from selfreg.weak.pseudo_masks import uncertain_to_void
from selfreg.weak.refine import ReadScores, Refine
from selfreg.weak.refinement import AffinityNetwork, load_affinity, train_affinity, walk_within_boundaries
from selfreg.weak.scores import VOID, Scores, class_map, confidence_map
from selfreg.weak.stages import Stage, restored
from selfreg.weak.tagged import TaggedImages


def affinity_refinement(
    options: AffinityOptions,
    tagged: TaggedImages,
    before: ReadScores,
    stage: Stage,
    classifier: Callable[[], nn.Module],
    statistics: InputStatistics,
    seed: int,
    device: torch.device,
) -> Refine:
    """Train the affinity network if it is not trained yet, and return the random walk between its boundaries.

    An interrupted stage continues from its last epoch, bit for bit.

    Args:
        options: Options of the refinement `affinity`.
        tagged: The images.
        before: Reads the scores from which the seeds are made.
        stage: Where the network is kept.
        classifier: Returns the trained classifier; the affinity network uses its backbone, unchanged.
        statistics: Mean and standard deviation of the input.
        seed: Seed of weights and order.
        device: Where the network computes.

    Returns:
        A function of an image (H, W, 3) uint8 and scores (C, H, W) that returns refined scores (C, H, W).

    Raises:
        ValueError: As `train_affinity` does.
    """
    network = _train_or_load(options, tagged, before, stage, classifier_backbone(classifier()), statistics, seed)

    def refine(image: NDArray[Any], scores: Tensor) -> Tensor:
        boundaries = network.boundaries(normalise(image, *statistics).to(device))
        return walk_within_boundaries(
            scores, boundaries, radius=options.radius, power=options.power, log2_steps=options.log2_steps
        )

    return refine


def classifier_backbone(classifier: nn.Module) -> nn.Module:
    """Return the backbone of a classifier with or without exits."""
    network = classifier.network if isinstance(classifier, MultiExit) else classifier
    return network.get_submodule("backbone")


class SeedImages(Dataset[tuple[Tensor, Tensor]]):
    """Normalised images (3, H, W) with seeds (H, W) uint8: 0 background, k + 1 for class k, 255 uncertain."""

    def __init__(self, tagged: TaggedImages, scores: ReadScores, certain: float, statistics: InputStatistics) -> None:
        self.tagged, self.scores, self.certain, self.statistics = tagged, scores, certain, statistics

    def __len__(self) -> int:
        return len(self.tagged)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        seeds = seeds_of(self.scores(index), self.tagged.background, self.certain)
        return normalise(self.tagged.image(index), *self.statistics), seeds


def seeds_of(scores: Scores, background: int | None, certain: float) -> Tensor:
    """Return the seeds of an image, the pixels of at least the confidence `certain`: (H, W) uint8, see `SeedImages`."""
    confidence = confidence_map(scores)
    mask = torch.from_numpy(uncertain_to_void(class_map(scores), confidence, certain))
    seeds = mask + 1
    seeds[mask == VOID] = VOID
    if background is not None:
        seeds[mask == background] = 0
    return seeds


def _train_or_load(
    options: AffinityOptions,
    tagged: TaggedImages,
    before: ReadScores,
    stage: Stage,
    backbone: nn.Module,
    statistics: InputStatistics,
    seed: int,
) -> AffinityNetwork:
    path = stage.path("affinity.pt")
    state = restored(path, _checked) if path.exists() else None
    if stage.done and state is not None:
        return load_affinity(state, backbone)

    def save(_epochs: int, reached: dict[str, Any]) -> None:
        with whole_file(path) as temporary:
            torch.save(reached, temporary)

    network = train_affinity(
        SeedImages(tagged, before, options.certain, statistics),
        backbone,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        seed=seed,
        crop_size=options.crop_size,
        batch_size=options.batch_size,
        on_epoch=save,
        state=state,
    )
    stage.finish()
    return network


def _checked(state: dict[str, Any]) -> dict[str, Any]:
    kinds = {"epochs": int, "branch": dict, "optimizer": dict, "losses": list}
    wrong = [key for key, kind in kinds.items() if not isinstance(state[key], kind)]
    if wrong:
        raise ValueError(f"a wrong {wrong[0]}")
    return state
