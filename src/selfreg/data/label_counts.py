"""Checks of the labels of a whole split: whether a network can learn from them."""

import numpy as np
from numpy.typing import NDArray

from selfreg.data.labels import IGNORE_INDEX, Labels


def label_fault(pixels: NDArray[np.int64], labels: Labels, split: str) -> str | None:
    """Describe labels that are certainly misread.

    Args:
        pixels: Pixels of each value in memory (0..K-1, void 255) over the split, (256,) int64.
        labels: The classes.
        split: Name of the split, for the message.

    Returns:
        One line, or None if the split has at least two classes, or one class and no void. One class and void are what
        binary masks of 0 and 255 look like if 255 is read as void: the objects are void, and predicting the only class
        left is always correct.
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
    """Names of the classes without any pixel."""
    return [name for index, name in enumerate(labels.class_names) if not pixels[index]]
