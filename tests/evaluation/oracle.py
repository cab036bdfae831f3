"""A second, slow and plain reading of the definitions: loops over pixels and components, no shared code."""

from fractions import Fraction
from typing import Any

import numpy as np
from scipy import ndimage

EIGHT = np.ones((3, 3), dtype=bool)
NAMES = (
    *("small_objects", "small_objects_missed", "small_objects_missed_low"),
    *("parts", "parts_missed", "parts_missed_low"),
    *("large_objects", "large_objects_mislabelled", "large_objects_wrong"),
    *("interior_pixels", "mislabelled_pixels", "hole_pixels"),
    *("small_predictions", "hallucinated"),
)


def exact(share: float) -> Fraction:
    return Fraction(share).limit_denominator(10_000)


def components(codes: np.ndarray, valid: np.ndarray, classes: list[int]) -> list[tuple[int, np.ndarray]]:
    found = []
    for class_index in classes:
        ids, count = ndimage.label((codes == class_index) & valid, EIGHT)
        found += [(class_index, ids == index) for index in range(1, count + 1)]
    return found


def squared_distances(points: np.ndarray, targets: np.ndarray) -> Any:
    """Smallest squared distance of each point to a target pixel, brute force; -1 where there is no target."""
    if len(targets) == 0:
        return np.full(len(points), -1)
    return np.array([((points - target) ** 2).sum(1) for target in targets]).min(0)


def without_dents(
    component: np.ndarray, label: np.ndarray, minimum_area: int, large_area: Fraction, classes: list[int]
) -> np.ndarray:
    """The component and the specks in it: smaller than a unit, nothing else beside it, no large object itself."""
    shape = component.copy()
    for code in np.unique(label):
        ids, count = ndimage.label(label == code, EIGHT)
        for speck in (ids == index for index in range(1, count + 1)):
            ring = ndimage.binary_dilation(speck) & ~speck
            large = code in classes and int(speck.sum()) >= large_area
            if speck.sum() < minimum_area and not large and ring.any() and (component & ring).sum() == ring.sum():
                shape |= speck
    return shape


def parts_of(component: np.ndarray, shape: np.ndarray, width: float, minimum_area: int) -> list[np.ndarray]:
    points = np.argwhere(component)
    depth = squared_distances(points, np.argwhere(~shape))
    if depth[0] == -1:
        return []
    limit = exact(width) ** 2 * int(depth.max())
    core = points[[int(d) > limit for d in depth]]
    to_core = squared_distances(points, core)
    rest, far = np.zeros_like(component), np.zeros_like(component)
    for (row, column), distance in zip(points, to_core, strict=True):
        rest[row, column] = int(distance) > limit
        far[row, column] = int(distance) >= 4 * limit
    ids, count = ndimage.label(rest, EIGHT)
    limbs = [ids == index for index in range(1, count + 1)]
    return [limb for limb in limbs if limb.sum() >= minimum_area and (limb & far).any()]


def failure_counts(
    prediction: np.ndarray, label: np.ndarray, num_classes: int, void: int, background: int | None, t: Any
) -> dict[str, np.ndarray]:
    counts = {name: np.zeros(num_classes, dtype=np.int64) for name in NAMES}
    valid = label != void
    area_of_image = int(valid.sum())
    height, width = label.shape
    classes = [index for index in range(num_classes) if index != background]

    def count_unit(kind: str, class_index: int, unit: np.ndarray) -> None:
        right, area = int((prediction[unit] == class_index).sum()), int(unit.sum())
        counts[kind][class_index] += 1
        counts[f"{kind}_missed"][class_index] += right < exact(t.coverage) * area
        counts[f"{kind}_missed_low"][class_index] += right < exact(t.low_coverage) * area

    for class_index, component in components(label, valid, classes):
        area = int(component.sum())
        right = int((prediction[component] == class_index).sum())
        shape = without_dents(component, label, t.minimum_area, exact(t.large_object) * area_of_image, classes)
        if area <= exact(t.small_object) * area_of_image:
            if area >= t.minimum_area:
                count_unit("small_objects", class_index, component)
        else:
            for part in parts_of(component, shape, t.part_width, t.minimum_area):
                count_unit("parts", class_index, part)
        if area < exact(t.large_object) * area_of_image:
            continue
        if 2 * right < area:
            counts["large_objects_wrong"][class_index] += 1
            continue
        points = np.argwhere(component)
        depth = squared_distances(points, np.argwhere(~shape))
        margin = exact(t.margin) ** 2 * (height**2 + width**2)
        interior = np.zeros_like(component)
        for (row, column), distance in zip(points, depth, strict=True):
            interior[row, column] = distance == -1 or int(distance) > margin
        if not interior.any():
            continue
        counts["large_objects"][class_index] += 1
        counts["interior_pixels"][class_index] += interior.sum()
        least = max(t.minimum_area, exact(t.minimum_blob) * int(interior.sum()))
        mislabelled = False
        for wrong in range(num_classes):
            if wrong == class_index:
                continue
            ids, count = ndimage.label(interior & (prediction == wrong), EIGHT)
            blobs = [int((ids == index).sum()) for index in range(1, count + 1)]
            counted = sum(blob for blob in blobs if blob >= least)
            counts["hole_pixels" if wrong == background else "mislabelled_pixels"][class_index] += counted
            mislabelled |= counted > 0 and wrong != background
        counts["large_objects_mislabelled"][class_index] += mislabelled

    for class_index, component in components(prediction, valid, classes):
        area = int(component.sum())
        if t.minimum_area <= area <= exact(t.small_object) * area_of_image:
            counts["small_predictions"][class_index] += 1
            counts["hallucinated"][class_index] += 2 * int((label[component] == class_index).sum()) < area
    return counts


def boundary_iou(prediction: np.ndarray, label: np.ndarray, num_classes: int, void: int) -> np.ndarray:
    """Cheng et al. 2021, as their text says: erode each mask by a 3x3 square, d times, zeros around the image."""
    distance = max(1, round(0.02 * float(np.hypot(*label.shape))))
    result = np.full(num_classes, np.nan)
    for index in range(num_classes):
        bands = []
        for mask in (label == index, (prediction == index) & (label != void)):
            inner = ndimage.binary_erosion(mask, EIGHT, iterations=distance, border_value=0)
            bands.append(mask & ~inner)
        union = (bands[0] | bands[1]).sum()
        if union:
            result[index] = (bands[0] & bands[1]).sum() / union
    return result


def trimap_iou(prediction: np.ndarray, label: np.ndarray, num_classes: int, void: int) -> np.ndarray:
    """IoU over the valid pixels that have a pixel of another label within the square of half-width d."""
    height, width = label.shape
    distance = max(1, round(0.02 * float(np.hypot(height, width))))
    near = np.zeros(label.shape, dtype=bool)
    for row in range(height):
        for column in range(width):
            window = label[
                max(row - distance, 0) : row + distance + 1, max(column - distance, 0) : column + distance + 1
            ]
            near[row, column] = (window != label[row, column]).any()
    near &= label != void
    result = np.full(num_classes, np.nan)
    for index in range(num_classes):
        union = (near & ((label == index) | (prediction == index))).sum()
        if union:
            result[index] = (near & (label == index) & (prediction == index)).sum() / union
    return result
