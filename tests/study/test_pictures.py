"""The images that a study shows: the arms differ on them most, and with every seed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from selfreg.data import Labels, Scenes
from selfreg.inference.scoring import LabelFolder
from selfreg.seals import digest_of_array
from selfreg.study import pictures
from selfreg.study.pictures import disagreements
from tiny import selfreg, untrained_run

PIXELS = 10
# correct pixels of each image, of 10, by seed and side
CORRECT = {
    "small gain": [(5, 6), (5, 6)],
    "large but inconsistent": [(0, 10), (6, 5)],
    "large gain": [(2, 8), (4, 8)],
    "loss": [(9, 5), (9, 7)],
    "equal with one seed": [(3, 9), (3, 3)],
    "void": [(0, 0), (0, 0)],
}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelFolder:
    """A folder of label maps, and runs whose class maps are right in as many pixels as `CORRECT` says."""
    for name in CORRECT:
        label = np.full((1, PIXELS), 255 if name == "void" else 1, np.uint8)
        Image.fromarray(label).save(tmp_path / f"{name}.png")

    class Trained:
        def __init__(self, run: Any) -> None:
            self.seed, self.side = run

        @classmethod
        def of(cls, run: Any) -> "Trained":
            return cls(run)

        def class_map(self, source: LabelFolder, index: int, _pixels: str | None = None) -> NDArray[np.uint8]:
            correct = CORRECT[source.ids[index]][self.seed][self.side]
            return np.array([[1] * correct + [0] * (PIXELS - correct)], np.uint8)

    monkeypatch.setattr(pictures, "_Trained", Trained)
    return LabelFolder(tmp_path, Labels(("a", "b"), 255))


def chosen(source: LabelFolder, **options: Any) -> list[Any]:
    runs: list[Any] = [{seed: (seed, side) for seed in (0, 1)} for side in (0, 1)]
    return disagreements(runs[0], runs[1], source, **options)


def test_images_are_ranked_by_the_smallest_difference_of_all_seeds(source: LabelFolder) -> None:
    assert [case.image_id for case in chosen(source)] == ["large gain", "small gain", "loss"]
    assert [case.image_id for case in chosen(source, per_side=1)] == ["large gain", "loss"]


def test_predictions_are_those_of_the_seed_with_the_median_difference(source: LabelFolder) -> None:
    first = chosen(source)[0]
    assert first.scores == ("20.0 to 40.0 % correct", "80.0 % correct")
    assert first.change == pytest.approx(0.4)
    assert [int((prediction == 1).sum()) for prediction in first.predictions] == [4, 8]


def test_without_a_common_seed_there_are_no_pictures(source: LabelFolder) -> None:
    runs: list[Any] = [{0: (0, 0)}, {1: (1, 1)}]
    assert disagreements(runs[0], runs[1], source) == []


def test_predictions_that_are_not_kept_any_more_are_not_shown(tmp_path: Path) -> None:
    data = {"kind": "scenes", "options": {"length": 4, "evaluation_length": 2, "size": [64, 96]}}
    scenes = Scenes("val", 2, (64, 96))
    runs = [untrained_run(tmp_path / name, scenes.labels.class_names, data=data) for name in ("base", "full")]
    assert all(selfreg("evaluate", run.folder) == 0 for run in runs)
    kept = pictures._Trained.of(runs[0])
    image = scenes.read(0).image
    assert kept.class_map(scenes, 0, digest_of_array(image)) is not None
    assert kept.class_map(scenes, 0, digest_of_array(255 - image)) is None
    next(runs[1].prediction_folder("val", "last").glob("*.png")).unlink()
    assert disagreements({0: runs[0]}, {0: runs[1]}, scenes) == []
