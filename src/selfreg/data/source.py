"""What every data set offers: pairs of an image and its mask, in memory alike wherever they come from."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from selfreg.data.labels import Labels


class Pair(NamedTuple):
    """One image and its mask.

    `image` is (H, W, 3) uint8 RGB; `mask` is (H, W) uint8 with classes 0..K-1 and void as 255.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


class Source(Protocol):
    """A split of a data set: `Folder`, `Scenes`, the named data sets, or any object with these four members."""

    @property
    def labels(self) -> Labels:
        """Class names, void and palette."""

    @property
    def ids(self) -> Sequence[str]:
        """One name for each image, unique in the split: what predictions are called after."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Pair:
        """The image and mask at `index` of 0..len-1."""


@runtime_checkable
class HasTags(Protocol):
    """A source that knows which classes an image holds without looking at its mask."""

    def tags(self, index: int) -> NDArray[np.float32]:
        """(K,) float32: 1 where the image holds the class, else 0."""


@runtime_checkable
class HasConfidence(Protocol):
    """A source whose masks were made by a machine that says how sure it was."""

    def confidence(self, index: int) -> NDArray[np.float32]:
        """(H, W) float32 of 0..1, on the grid of the mask."""


class Files(NamedTuple):
    """The files behind one item; `mask` is None where no file of its own holds it."""

    image: Path
    mask: Path | None


@runtime_checkable
class HasFiles(Protocol):
    """A source whose items lie in files."""

    def files(self, index: int) -> Files:
        """The files of the item at `index`."""


class UnreadFile(NamedTuple):
    """A file of a data set that is not read, and why."""

    path: Path
    reason: str


@runtime_checkable
class HasUnreadFiles(Protocol):
    """A source that lists the files of its folders that it does not read."""

    @property
    def unread(self) -> Sequence[UnreadFile]:
        """The files, with the reasons."""


def item_name(source: Source, index: int) -> str:
    """What people know an item by: the path of its image, or its id where it lies in no file."""
    return str(source.files(index).image) if isinstance(source, HasFiles) else source.ids[index]
