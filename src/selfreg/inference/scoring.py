"""Index PNGs held against labels: every image's counts, in parallel, whoever made the predictions."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from selfreg.data import Labels, Pair, Source, read_image, read_mask
from selfreg.data.pairs import leads_out
from selfreg.evaluation import ImageResult, evaluate_image
from selfreg.inference.predict import IMAGE_SUFFIXES
from selfreg.workers import map_in_processes

# starting a process costs as much as scoring this many small images
_IMAGES_PER_PROCESS = 64


@dataclass(frozen=True)
class LabelFolder:
    """A folder of index PNGs as a `Source`, for predictions that come from elsewhere.

    `images` is the folder of the photographs, by the same names; without it they are grey. Raises ValueError where the
    folder holds no PNG.
    """

    folder: Path
    labels: Labels
    images: Path | None = None

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise ValueError(f"{self.folder}: no such folder")
        if not self.ids:
            raise ValueError(f"{self.folder}: holds no .png label maps")

    @cached_property
    def ids(self) -> Sequence[str]:
        """Names of the label maps without suffix, in order; those in subfolders included, hidden files left out."""
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*.png"))
        return sorted(str(path.with_suffix("")) for path in found if not path.name.startswith("."))

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Pair:
        """The photograph, or grey, and the label map."""
        name = self.ids[index]
        mask = read_mask(self.folder / f"{name}.png", self.labels)
        image = np.full((*mask.shape, 3), 200, np.uint8) if self.images is None else _read_beside(self.images, name)
        return Pair(image, mask)


def _read_beside(folder: Path, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    for suffix in IMAGE_SUFFIXES:
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return read_image(path)
    raise ValueError(f"{folder}: holds no photograph for {name}")


def prediction_path(folder: Path, image_id: str) -> Path:
    """Where the class map of an image lies. Raises ValueError for an id that leads out of the folder."""
    if leads_out(image_id):
        raise ValueError(f"{folder}: the image id {image_id!r} leads out of this folder; rename the image")
    return folder / f"{image_id}.png"


def read_prediction(folder: Path, image_id: str, labels: Labels) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A prediction (H, W) uint8; 255 means that nothing was predicted there. Raises ValueError for any other value."""
    return read_mask(prediction_path(folder, image_id), replace(labels, void=255))


def score_folder(source: Source, folder: Path, *, description: str = "scoring") -> list[ImageResult]:
    """Every image's counts, in the order of the source.

    Raises ValueError, before anything is counted, where a prediction is missing; and for one of another size than its
    label or with a value that is no class.
    """
    missing = [image_id for image_id in source.ids if not prediction_path(folder, image_id).is_file()]
    if missing:
        raise ValueError(
            f"{prediction_path(folder, missing[0])}: no such prediction ({len(missing)} of {len(source)} missing)"
        )
    processes = min(os.cpu_count() or 1, len(source) // _IMAGES_PER_PROCESS)
    scored = map_in_processes(
        partial(_score_one, source, folder), range(len(source)), processes=processes, chunk_size=4
    )
    return list(track(scored, description, total=len(source), console=Console(stderr=True), transient=True))


def _score_one(source: Source, folder: Path, index: int) -> ImageResult:
    label = source.read(index).mask
    image_id = source.ids[index]
    prediction = read_prediction(folder, image_id, source.labels)
    if prediction.shape != label.shape:
        raise ValueError(
            f"{prediction_path(folder, image_id)}: has size {prediction.shape[1]} x {prediction.shape[0]}, its label "
            f"{label.shape[1]} x {label.shape[0]}; predict at the size of the label"
        )
    return evaluate_image(prediction, label, source.labels.num_classes, background=source.labels.background)
