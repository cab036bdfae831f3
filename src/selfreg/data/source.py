"""The interface of data sets: pairs of an image and its mask."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from selfreg.data.labels import Labels


class Pair(NamedTuple):
    """One image and its mask.

    Attributes:
        image: (H, W, C) uint8 (RGB if C is 3), or uint16 for images with a value range.
        mask: (H, W) uint8 with classes 0..K-1 and void 255.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


class Source(Protocol):
    """A split of a data set: `Folder`, `Scenes`, a named data set, or any object with these four members."""

    @property
    def labels(self) -> Labels:
        """Class names, void and palette."""

    @property
    def ids(self) -> Sequence[str]:
        """Name of each image, unique in the split; predictions are named after it."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Pair:
        """Read the image and mask at `index` of 0..len-1."""


@runtime_checkable
class HasTags(Protocol):
    """A source with image-level tags: which classes an image contains."""

    def tags(self, index: int) -> NDArray[np.float32]:
        """Tags of the image at `index`, (K,) float32: 1 if the image contains the class, otherwise 0."""


@runtime_checkable
class HasConfidence(Protocol):
    """A source of generated masks with the confidence of each pixel."""

    def confidence(self, index: int) -> NDArray[np.float32]:
        """Confidence of the mask at `index`, (H, W) float32 in [0, 1]."""


class Files(NamedTuple):
    """The files of one item; `mask` is None if the mask has no file."""

    image: Path
    mask: Path | None


@runtime_checkable
class HasFiles(Protocol):
    """A source whose items are stored in files."""

    def files(self, index: int) -> Files:
        """The files of the item at `index`."""


class UnreadFile(NamedTuple):
    """A file of a data set that is not read, and the reason."""

    path: Path
    reason: str


@runtime_checkable
class HasUnreadFiles(Protocol):
    """A source that lists files in its folders that are not read."""

    @property
    def unread(self) -> Sequence[UnreadFile]:
        """The files, with the reasons."""


def item_name(source: Source, index: int) -> str:
    """Name of an item in messages: the path of its image, or its id if it has no file."""
    return str(source.files(index).image) if isinstance(source, HasFiles) else source.ids[index]
