"""The photographs and image-level tags of weak supervision, and their foreground classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfreg.config import Config
from selfreg.data import Labels, Pair, Source, image_format_of, read_image
from selfreg.opening import open_tagged_split


@dataclass(frozen=True)
class TaggedImages:
    """A split of images with image-level tags; masks are never read through it.

    Attributes:
        source: The split.
        background: Index of the background class, which is never a tag; None if the data have none.
        tags: (N, K) float32, 0 or 1.
    """

    source: Source
    background: int | None
    tags: NDArray[np.float32]

    @property
    def labels(self) -> Labels:
        """Class names and palette of the data."""
        return self.source.labels

    @property
    def ids(self) -> tuple[str, ...]:
        """One name for each image."""
        return tuple(self.source.ids)

    @property
    def foreground(self) -> list[int]:
        """Indices of the classes that the classifier distinguishes, in order."""
        return [index for index in range(self.labels.num_classes) if index != self.background]

    def classes_of(self, index: int) -> list[int]:
        """Return the foreground classes of an image's tags."""
        return [class_index for class_index in self.foreground if self.tags[index, class_index] > 0]

    def image(self, index: int) -> NDArray[np.uint8]:
        """The photograph at `index`, (H, W, 3) uint8."""
        source: Any = self.source
        image_format = image_format_of(source)
        return image_format.to_rgb(read_image(source.files(index).image, image_format))

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class ForegroundTags:
    """`TaggedImages` as the source of a `TrainingSet`: void masks, and tags of the foreground classes only."""

    tagged: TaggedImages

    @property
    def labels(self) -> Labels:
        """Class names and palette of the data."""
        return self.tagged.labels

    @property
    def ids(self) -> tuple[str, ...]:
        """One name for each image."""
        return self.tagged.ids

    def read(self, index: int) -> Pair:
        """The photograph, and a mask that is void throughout."""
        image = self.tagged.image(index)
        return Pair(image, np.full(image.shape[:2], 255, dtype=np.uint8))

    def tags(self, index: int) -> NDArray[np.float32]:
        """(foreground classes,) float32 of 0 and 1."""
        tags: NDArray[np.float32] = self.tagged.tags[index, self.tagged.foreground]
        return tags

    def __len__(self) -> int:
        return len(self.tagged)


def open_tagged(config: Config) -> TaggedImages:
    """Open the training split of a configuration with its tags.

    Raises:
        ValueError: For data without tags, fewer than two foreground classes, or a split in which no image has a tag.
    """
    if config.data.bands != 3:
        raise ValueError(f"data.bands is {config.data.bands}: pseudo masks are made from images with 3 bands")
    source: Any = open_tagged_split(config)
    names = source.labels.class_names
    tags = np.stack([source.tags(index) for index in range(len(source))])
    tagged = TaggedImages(source, source.labels.background, tags)
    if len(tagged.foreground) < 2:
        raise ValueError(f"the data have the classes {', '.join(names)}: a classifier needs two besides background")
    if not tags[:, tagged.foreground].any():
        raise ValueError(f"no image of the split {config.data.train_split} has a tag: list them in image_labels")
    return tagged
