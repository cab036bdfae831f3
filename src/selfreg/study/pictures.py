"""The pictures of a study: images on which an arm differs from its control most, and with every seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from selfreg.data import IGNORE_INDEX, Source, image_format_of
from selfreg.inference.kept_maps import inputs_of, is_kept
from selfreg.inference.predict import prediction_path
from selfreg.inference.scoring import read_prediction
from selfreg.report.content import Case
from selfreg.report.study_page import StudyPictures
from selfreg.run import Run
from selfreg.seals import digest_of_array

PICTURES_PER_SIDE = 4
"""Largest number of images on which the arm is better, and of images on which it is worse."""


@dataclass(frozen=True)
class _Trained:
    """A run, and what its kept class maps depend on."""

    run: Run
    inputs: str

    @classmethod
    def of(cls, run: Run) -> "_Trained":
        return cls(run, inputs_of(run, "last", run.config().validation))

    def class_map(self, source: Source, index: int, pixels: str | None = None) -> NDArray[np.uint8] | None:
        """The kept class map of an image; None if it was not computed for these pixels, which are not checked if None.

        Args:
            source: The validation split.
            index: Index of the image.
            pixels: `digest_of_array` of the photograph.
        """
        folder = self.run.prediction_folder(self.run.config().data.val_split, "last")
        if pixels is not None and not is_kept(prediction_path(folder, source.ids[index]), self.inputs, pixels):
            return None
        return read_prediction(folder, source.ids[index], source.labels, self.run.info().class_names)


def pictures_of(
    names: tuple[str, str], control: Mapping[int, Run], arm: Mapping[int, Run], source: Source
) -> StudyPictures:
    """The images on which two arms disagree (see `disagreements`), as the section of a page."""
    cases = disagreements(control, arm, source)
    return StudyPictures(names, cases, source.labels.class_names, source.labels.palette)


def disagreements(
    control: Mapping[int, Run], arm: Mapping[int, Run], source: Source, per_side: int = PICTURES_PER_SIDE
) -> list[Case]:
    """Choose the images on which two arms differ most and most consistently.

    Runs are paired by seed. Each pair has a difference in the share of correct pixels of an image. An image counts if
    the difference has the same sign with every seed, and is ranked by the smallest absolute difference of all seeds.
    The predictions shown are those of the seed with the median difference (the lower one of two).

    Args:
        control: Runs of the control by seed.
        arm: Runs of the arm by seed.
        source: The validation split on which the runs were measured.
        per_side: Largest number of images on which the arm is better, and of images on which it is worse.

    Returns:
        Overviews of the images, those on which the arm is better first; none if a prediction is no longer in the
        folders of the runs.
    """
    seeds = [seed for seed in control if seed in arm]
    pairs = [(_Trained.of(control[seed]), _Trained.of(arm[seed])) for seed in seeds]
    shares = _correct_shares(pairs, source) if pairs else None
    if shares is None:
        return []
    differences = shares[:, :, 1] - shares[:, :, 0]
    smallest = np.abs(differences).min(axis=1)
    better = [index for index in np.argsort(-smallest) if (differences[index] > 0).all()][:per_side]
    worse = [index for index in np.argsort(-smallest) if (differences[index] < 0).all()][:per_side]
    return [_case(pairs, source, int(index), shares[index]) for index in (*better, *worse)]


def _correct_shares(pairs: Sequence[tuple[_Trained, _Trained]], source: Source) -> NDArray[np.float64] | None:
    """Share of correct pixels (images, seeds, 2); NaN for images without labels, None if a prediction is missing."""
    shares = np.full((len(source), len(pairs), 2), np.nan)
    for index in range(len(source)):
        image, mask = source.read(index)
        pixels, valid = digest_of_array(image), mask != IGNORE_INDEX
        for position, pair in enumerate(pairs):
            for side, trained in enumerate(pair):
                found = trained.class_map(source, index, pixels)
                if found is None:
                    return None
                if valid.any():
                    shares[index, position, side] = (found == mask)[valid].mean()
    return shares


def _case(pairs: Sequence[tuple[_Trained, _Trained]], source: Source, index: int, shares: NDArray[np.float64]) -> Case:
    """An image with the predictions of the median pair; `shares` are (seeds, 2)."""
    differences = shares[:, 1] - shares[:, 0]
    median = int(np.argsort(differences)[(len(differences) - 1) // 2])
    image, mask = source.read(index)
    maps = [trained.class_map(source, index) for trained in pairs[median]]
    return Case(
        image_id=source.ids[index],
        image=image_format_of(source).to_rgb(image),
        label=mask,
        predictions=tuple(found for found in maps if found is not None),
        kind="overview",
        scores=tuple(_range(100 * shares[:, side]) for side in range(2)),
        change=float(differences[median]),
    )


def _range(values: NDArray[np.float64]) -> str:
    low, high = f"{values.min():.1f}", f"{values.max():.1f}"
    return f"{low} % correct" if low == high else f"{low} to {high} % correct"
