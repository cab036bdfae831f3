"""Training data with masks from `selfreg pseudo` and image-level tags from the data set."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreg.data.class_order import check_same_classes, index_table
from selfreg.data.labels import Labels
from selfreg.data.masks import read_indices, read_mask
from selfreg.data.pictures import opened
from selfreg.data.reading import image_format_of, read_image_of_mask
from selfreg.data.source import Files, HasFiles, HasTags, Pair, Source
from selfreg.files import read_json
from selfreg.input_files import ANNOTATION_LIMIT, user_path

MASK_FOLDER = "pseudo"
CONFIDENCE_FOLDER = "confidence"
STATISTICS_FILE = "pseudo.json"


class PseudoLabels:
    """The images and tags of a source with the pseudo masks of a folder.

    Layout: `FOLDER/pseudo/ID.png` (class indices, 255 where uncertain) and `FOLDER/confidence/ID.png` (8-bit grey, 255
    for a confidence of 1). `FOLDER/pseudo.json` lists the class names of the indices under `class_names`: if the source
    has the same classes in another order, the masks are renumbered to the order of the source. The two kinds of
    supervision are separate: `read` returns generated masks, `tags` returns annotations by people.

    Args:
        source: Images, ids, classes and tags; its masks are never read.
        folder: Output of `selfreg pseudo`.

    Raises:
        ValueError: If the source has no tags or no files, the pseudo mask of an image is missing, or the pseudo masks
            have other classes than the source.
    """

    def __init__(self, source: Source, folder: str | Path) -> None:
        self.folder = user_path(folder)
        if not isinstance(source, HasTags) or not isinstance(source, HasFiles):
            raise ValueError(f"{type(source).__name__} has no image-level tags in files: pseudo masks need them")
        self._source: Any = source
        # in memory void is always 255, and so it is in the pseudo masks, whatever the data set has
        self.labels: Labels = replace(source.labels, void=255)
        self.ids: tuple[str, ...] = tuple(source.ids)
        missing = [image_id for image_id in self.ids if not self._mask_path(image_id).is_file()]
        if missing:
            raise ValueError(
                f"{self._mask_path(missing[0])}: no such pseudo mask ({len(missing)} of {len(self.ids)} missing): run "
                "`selfreg pseudo` with this configuration and --out of this folder"
            )
        names = _class_names(self.folder, self.labels.class_names)
        check_same_classes(self.labels.class_names, names, f"{self.folder}: the set of pseudo masks")
        self._stored_labels = replace(self.labels, class_names=tuple(names))
        self._table = index_table(names, self.labels.class_names)

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Pair:
        """Read the image at `index` and its pseudo mask, 255 where uncertain; errors as in `read_pair`."""
        path = self._mask_path(self.ids[index])
        mask = self._table[read_mask(path, self._stored_labels)]
        return read_image_of_mask(self._source.files(index).image, mask, path, image_format_of(self._source))

    def tags(self, index: int) -> NDArray[np.float32]:
        """Tags of the image at `index`, (K,) float32: 1 for each tagged class, and always for background."""
        tags: NDArray[np.float32] = self._source.tags(index)
        if self.labels.background is not None:
            tags[self.labels.background] = 1
        return tags

    def files(self, index: int) -> Files:
        """The image and the pseudo mask at `index`."""
        return Files(self._source.files(index).image, self._mask_path(self.ids[index]))

    def _mask_path(self, image_id: str) -> Path:
        return self.folder / MASK_FOLDER / f"{image_id}.png"


def _class_names(folder: Path, default: Sequence[str]) -> Sequence[str]:
    """The class names of the pseudo masks in a folder; those of the data, with a warning, where none are recorded."""
    path = folder / STATISTICS_FILE
    content = read_json(path, ANNOTATION_LIMIT) if path.is_file() else {}
    names = content.get("class_names") if isinstance(content, dict) else None
    if not names:
        warnings.warn(
            f"{path}: does not name the classes of the pseudo masks; they are taken to be those of the data, in the "
            "same order. Run `selfreg pseudo` again to record them",
            stacklevel=3,
        )
        return default
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: class_names must be a list of names; run `selfreg pseudo` again")
    return names


class WeightedPseudoLabels(PseudoLabels):
    """`PseudoLabels` with a confidence for each pixel: a `HasConfidence` source."""

    def confidence(self, index: int) -> NDArray[np.float32]:
        """Confidence of each pixel, (H, W) float32 in [0, 1].

        Raises:
            ValueError: If the file is missing, damaged or of another size than the mask.
        """
        path = self.folder / CONFIDENCE_FOLDER / f"{self.ids[index]}.png"
        values = read_indices(path)
        with opened(self._mask_path(self.ids[index]), "mask") as mask:  # the header alone
            size = mask.size
        if values.shape != (size[1], size[0]):
            raise ValueError(f"{path}: has another size than its pseudo mask: run `selfreg pseudo` again")
        return values.astype(np.float32) / np.float32(255)


def open_pseudo_labels(source: Source, folder: str | Path, *, confidence: bool = True) -> PseudoLabels:
    """Combine the images and tags of `source` with the pseudo masks of `folder`.

    Args:
        source: Images, ids, classes and tags.
        folder: Output of `selfreg pseudo`.
        confidence: Return a `HasConfidence` source.

    Raises:
        ValueError: As `PseudoLabels`.
    """
    return WeightedPseudoLabels(source, folder) if confidence else PseudoLabels(source, folder)
