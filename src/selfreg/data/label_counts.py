"""What the labels of a whole split say: whether a network can learn anything from them."""

import numpy as np
from numpy.typing import NDArray

from selfreg.data.labels import IGNORE_INDEX, Labels


def label_fault(pixels: NDArray[np.int64], labels: Labels, split: str) -> str | None:
    """Tell labels that cannot be meant.

    Args:
        pixels: Pixels of each value in memory (0..K-1, void 255), (256,) int64, over the split.
        labels: The classes.
        split: Name of the split, for the message.

    Returns:
        One line, or None if the split has at least two classes, or one class and no void. One class and void, as
        masks of 0 and 255 have with void 255, is a binary mask whose objects are void: the only class left is right
        everywhere.
    """
    present = np.flatnonzero(pixels[: labels.num_classes])
    if not len(present):
        return f"{split}: no pixel is labelled, all are void: check `void` of labels.json and the option masks.map"
    if len(present) > 1 or not pixels[IGNORE_INDEX]:
        return None
    index = int(present[0])
    name = labels.class_names[index]
    if labels.void is None or labels.num_classes != 2:
        remedy = "check `void`, the list of classes and the option masks.map"
    else:
        other = labels.class_names[1 - index]
        values = sorted(((index, index), (labels.void, 1 - index)))
        shown = ", ".join(f"{value}: {target}" for value, target in values)
        remedy = f"if {labels.void} is the class {other!r}, set data.options.masks: {{map: {{{shown}}}}}"
    return f"{split}: all labelled pixels are {name!r}, all others are void, as if binary masks were misread: {remedy}"


def absent_classes(pixels: NDArray[np.int64], labels: Labels) -> list[str]:
    """Names of the classes without a pixel."""
    return [name for index, name in enumerate(labels.class_names) if not pixels[index]]
