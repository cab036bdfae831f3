"""Checked pairs of prediction and label in the smallest integer type, and counts of their pixels."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer[Any]]

CHUNK = 1 << 17
"""Pixels that `confusion_matrix` takes at a time: what they need stays in the processor's cache."""


class Maps(NamedTuple):
    """A prediction and its label with the same coding: classes are 0..K-1, void is K.

    Both maps have the same shape and an unsigned dtype. The prediction is void wherever the label is, since metrics
    ignore these pixels.
    """

    prediction: IntArray
    label: IntArray
    num_classes: int


def check_classes(num_classes: int, ignore_index: int) -> None:
    """Raise ValueError if `num_classes` is below 1 or `ignore_index` is one of the classes."""
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}; it must be at least 1")
    if 0 <= ignore_index < num_classes:
        raise ValueError(
            f"ignore_index {ignore_index} is also a class (0 to {num_classes - 1}); give void another value, say 255"
        )


def check_shapes(prediction: IntArray, label: IntArray) -> None:
    """Raise ValueError if a prediction and its label differ in shape."""
    if prediction.shape != label.shape:
        raise ValueError(
            f"prediction {prediction.shape} and label {label.shape} differ in shape; resize the prediction to the label"
        )


def compact(prediction: Any, label: Any, num_classes: int, ignore_index: int = 255) -> Maps:
    """Check a prediction against its label and convert both to the coding of `Maps`.

    Args:
        prediction: Integer array or CPU tensor of class indices; `ignore_index` means that nothing was predicted.
        label: Ground truth of the same shape; `ignore_index` marks unlabelled pixels.
        num_classes: Number of classes K.
        ignore_index: Value that counts as no class.

    Raises:
        ValueError: If the shapes differ, the values are not integers, or a value is out of range.
    """
    check_classes(num_classes, ignore_index)
    predicted, labelled = np.asarray(prediction), np.asarray(label)
    check_shapes(predicted, labelled)
    code = np.min_scalar_type(num_classes)
    labelled = _encode(labelled, "label", num_classes, ignore_index, code)
    predicted = _encode(predicted, "prediction", num_classes, ignore_index, code)
    predicted = np.maximum(predicted, (labelled == num_classes) * code.type(num_classes))
    return Maps(predicted, labelled, num_classes)


def _encode(values: IntArray, name: str, num_classes: int, ignore_index: int, code: np.dtype[Any]) -> IntArray:
    if values.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {values.dtype}, not integers; give class indices (the argmax of logits)")
    if values.size == 0:
        return values.astype(code)
    lowest, highest = values.min(), values.max()
    if lowest >= 0 and highest < num_classes:
        return values.astype(code)
    if lowest >= 0 and highest <= np.iinfo(code).max:
        values = values.astype(code)  # one byte per pixel instead of eight
    void = values == ignore_index
    outside = values >= num_classes
    outside |= values < 0
    outside ^= void
    if outside.any():
        found = np.unique(values[outside])
        raise ValueError(
            f"{name} holds {', '.join(map(str, found[:5]))}; "
            f"it must hold 0 to {num_classes - 1}, or {ignore_index} for void"
        )
    encoded = values.astype(code)
    np.copyto(encoded, num_classes, where=void)
    return encoded


def check_image(maps: Maps) -> None:
    """Raise ValueError unless the maps are those of one image of shape (H, W) that is not empty."""
    if maps.label.ndim != 2 or maps.label.size == 0:
        raise ValueError(f"label has shape {maps.label.shape}; give one image at a time, (H, W)")


def pair_counts(prediction: IntArray, label: IntArray, num_classes: int) -> NDArray[np.int64]:
    """Count the pixels of each pair of label and prediction.

    Returns:
        (K + 1, K + 1) int64: rows are labels, columns predictions; the last row and column are void.
    """
    size = num_classes + 1
    index = label.astype(np.min_scalar_type(size * size - 1))
    index *= index.dtype.type(size)
    index += prediction.astype(index.dtype, copy=False)
    return np.bincount(index.ravel(), minlength=size * size).reshape(size, size)


def confusion_matrix(prediction: Any, label: Any, num_classes: int, ignore_index: int = 255) -> NDArray[np.int64]:
    """Count pixels by label (row) and prediction (column).

    Args:
        prediction: Class indices, integers of any shape; `ignore_index` is allowed only where the label is void.
        label: Ground truth of the same shape; pixels with `ignore_index` are not counted.
        num_classes: Number of classes K.
        ignore_index: Value that counts as no class.

    Returns:
        (K, K) int64.

    Raises:
        ValueError: If the shapes differ or a value is out of range.
    """
    check_classes(num_classes, ignore_index)
    predicted, labelled = np.asarray(prediction), np.asarray(label)
    check_shapes(predicted, labelled)
    predicted, labelled = predicted.ravel(), labelled.ravel()
    counts = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    for start in range(0, max(labelled.size, 1), CHUNK):
        piece = slice(start, start + CHUNK)
        counts += pair_counts(*compact(predicted[piece], labelled[piece], num_classes, ignore_index))
    if counts[:num_classes, num_classes].any():
        raise ValueError(
            f"prediction holds {ignore_index} at {int(counts[:num_classes, num_classes].sum())} labelled pixels; "
            f"it must hold 0 to {num_classes - 1} there"
        )
    return counts[:num_classes, :num_classes]
