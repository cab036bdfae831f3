"""Score index PNGs, of a run or from anywhere, against labels: the counts of every image, in parallel."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selfreg.data import Labels, Pair, Source, index_table, read_image, read_mask
from selfreg.data.label_counts import label_fault
from selfreg.evaluation import ImageResult, evaluate_image
from selfreg.inference.predict import IMAGE_SUFFIXES, prediction_path
from selfreg.terminal import progress_over
from selfreg.workers import map_in_processes

# starting a process costs as much as scoring this many small images
_IMAGES_PER_PROCESS = 64


@dataclass(frozen=True)
class LabelFolder:
    """A folder of label maps as a `Source`, to score predictions that come from elsewhere.

    Args:
        folder: Index PNGs, in subfolders too.
        labels: Class names, void value and palette.
        images: Folder of the photographs, by the same names; without it they are grey.

    Raises:
        ValueError: If the folder is missing or holds no PNG.
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
        """Relative paths of the label maps without suffix, sorted; hidden files are left out."""
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*.png"))
        return sorted(path.with_suffix("").as_posix() for path in found if not path.name.startswith("."))

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Pair:
        """The photograph (grey without `images`) and the label map."""
        name = self.ids[index]
        mask = read_mask(self.folder / f"{name}.png", self.labels)
        image = np.full((*mask.shape, 3), 200, np.uint8) if self.images is None else _read_beside(self.images, name)
        return Pair(image, mask)


def _read_beside(folder: Path, name: str) -> NDArray[np.uint8]:
    for suffix in IMAGE_SUFFIXES:
        path = folder / f"{name}{suffix}"
        if path.is_file():
            return read_image(path)
    raise ValueError(f"{folder}: holds no photograph for {name}")


def read_prediction(
    folder: Path, image_id: str, labels: Labels, class_names: Sequence[str] | None = None
) -> NDArray[np.uint8]:
    """Read a class map.

    Args:
        folder: Folder of index PNGs.
        image_id: Name of the image.
        labels: The classes of the result.
        class_names: The class names that the PNG's indices stand for, the same set in any order; those of `labels` by
            default.

    Returns:
        (H, W) uint8 class indices of `labels`; 255 where nothing was predicted.

    Raises:
        ValueError: If the file is missing or unreadable, or holds any other value.
    """
    values = read_mask(prediction_path(folder, image_id), replace(labels, void=255))
    if class_names is None or tuple(class_names) == tuple(labels.class_names):
        return values
    return index_table(class_names, labels.class_names)[values]


def score_folder(
    source: Source, folder: Path, *, class_names: Sequence[str] | None = None, description: str = "scoring"
) -> list[ImageResult]:
    """Every image's counts, in the order of the source.

    Args:
        source: The images with their labels.
        folder: Index PNGs, named by the ids of the images.
        class_names: The class names that the indices of the PNGs stand for; those of `source` by default.
        description: What the progress bar says.

    Raises:
        ValueError: Before anything is counted, if a prediction is missing; for a prediction of another size than its
            label or with a value that is no class; and if the labels can tell nothing (see `label_fault`).
    """
    missing = [image_id for image_id in source.ids if not prediction_path(folder, image_id).is_file()]
    if missing:
        raise ValueError(
            f"{prediction_path(folder, missing[0])}: no such prediction ({len(missing)} of {len(source)} missing)"
        )
    processes = min(os.cpu_count() or 1, len(source) // _IMAGES_PER_PROCESS)
    scored = map_in_processes(
        partial(_score_one, source, folder, class_names), range(len(source)), processes=processes, chunk_size=4
    )
    results = list(progress_over(scored, description, total=len(source)))
    _refuse_misread_labels(source, results)
    return results


def _refuse_misread_labels(source: Source, results: Sequence[ImageResult]) -> None:
    """Refuse labels that make every prediction right, such as binary masks whose objects are read as void."""
    if np.count_nonzero(sum(result.pixels.labelled for result in results)) > 1:
        return
    # the results do not count void, so the labels are read again in this rare case
    masks = (source.read(index).mask for index in range(len(source)))
    pixels = np.sum([np.bincount(mask.ravel(), minlength=256) for mask in masks], axis=0)
    fault = label_fault(pixels, source.labels, "the labels")
    if fault is not None:
        raise ValueError(fault)


def _score_one(source: Source, folder: Path, class_names: Sequence[str] | None, index: int) -> ImageResult:
    label = source.read(index).mask
    image_id, labels = source.ids[index], source.labels
    prediction = read_prediction(folder, image_id, labels, class_names)
    if prediction.shape != label.shape:
        raise ValueError(
            f"{prediction_path(folder, image_id)}: has size {prediction.shape[1]} x {prediction.shape[0]}, its label "
            f"{label.shape[1]} x {label.shape[0]}; predict at the size of the label"
        )
    return evaluate_image(prediction, label, labels.num_classes, background=labels.background)
