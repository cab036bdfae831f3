"""Class order: use a data set whose classes have another order than those of a network, by name."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from selfreg.data.labels import IGNORE_INDEX, INVALID, Labels
from selfreg.data.reading import image_format_of
from selfreg.data.source import HasConfidence, HasFiles, HasTags, HasUnreadFiles, Pair, Source


class ReorderedClasses:
    """A source whose class indices are renumbered to another order of the same class names.

    Masks, tags and the palette are renumbered; images, ids, files and confidences are unchanged.

    Args:
        source: Image-mask pairs.
        class_names: Names of the source's classes in the new order.
    """

    def __init__(self, source: Source, class_names: Sequence[str]) -> None:
        self._source = source
        names = source.labels.class_names
        self._old_index = np.array([names.index(name) for name in class_names])
        self._table = index_table(names, class_names)
        palette = source.labels.palette.copy()
        palette[: len(names)] = palette[self._old_index]
        # void is always 255 in memory
        background = None if source.labels.background is None else int(self._table[source.labels.background])
        self.labels = Labels(tuple(class_names), IGNORE_INDEX, palette, background)
        self.ids: Sequence[str] = source.ids
        self.image_format = image_format_of(source)
        # set only if the source has them: the presence of these methods tells what a source supports
        if isinstance(source, HasFiles):
            self.files = source.files
        if isinstance(source, HasUnreadFiles):
            self.unread = source.unread
        if isinstance(source, HasConfidence):
            self.confidence = source.confidence
        if isinstance(source, HasTags):
            self._source_tags = source.tags
            self.tags = self._tags

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int) -> Pair:
        """The image and mask at `index` of 0..len-1, the mask renumbered."""
        image, mask = self._source.read(index)
        return Pair(image, self._table[mask])

    def _tags(self, index: int) -> NDArray[np.float32]:
        tags: NDArray[np.float32] = self._source_tags(index)[self._old_index]
        return tags


def index_table(found: Sequence[str], wanted: Sequence[str]) -> NDArray[np.uint8]:
    """The index in `wanted` of each index in `found`, (256,) uint8; 255 stays 255, other values become 254."""
    table = np.full(256, INVALID, dtype=np.uint8)
    table[: len(found)] = [wanted.index(name) for name in found]
    table[IGNORE_INDEX] = IGNORE_INDEX
    return table


def in_class_order(source: Source, class_names: Sequence[str], owner: str) -> Source:
    """Return a source with its classes in the given order, compared by name.

    Args:
        source: Image-mask pairs.
        class_names: Class names in the new order.
        owner: What has these classes, for the error message, such as "runs/camvid: the run".

    Returns:
        `source` itself if the order is the same.

    Raises:
        ValueError: If the two sets of names differ.
    """
    found, wanted = tuple(source.labels.class_names), tuple(class_names)
    if found == wanted:
        return source
    check_same_classes(found, wanted, owner)
    return ReorderedClasses(source, wanted)


def check_same_classes(found: Sequence[str], wanted: Sequence[str], owner: str) -> None:
    """Raise ValueError, naming the differences, unless both have the same class names in any order."""
    missing = [name for name in wanted if name not in found]
    strange = [name for name in found if name not in wanted]
    if missing or strange:
        parts = [
            f"{what} {_listed(names)}"
            for what, names in (("the data lack", missing), ("the data also have", strange))
            if names
        ]
        raise ValueError(
            f"{owner} has {len(wanted)} classes, the data have {len(found)}: {', '.join(parts)}; "
            "set data.root to data with the same class names"
        )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
