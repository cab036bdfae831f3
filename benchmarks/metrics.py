"""Time the metrics on one core, each beside what it is measured against: ``python benchmarks/metrics.py``.

The maps are generated: a street of nineteen classes, 1024 x 2048, with regions and objects of all sizes, and a
prediction of it with bent contours, lost objects and wrong patches. Times are those of the one thread that works (CPU
time), so that other work on the machine disturbs them little.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Map = NDArray[np.uint8]

NUM_CLASSES, VOID = 19, 255
ROAD, SIDEWALK, BUILDING, VEGETATION, SKY = 0, 1, 2, 8, 10


def smooth_noise(generator: np.random.Generator, height: int, width: int, scale: int) -> NDArray[np.float64]:
    """Noise of mean 0 and variance 1 that changes over about ``scale`` pixels."""
    coarse = generator.standard_normal((height // scale + 4, width // scale + 4))
    fine = ndimage.zoom(coarse, scale, order=3)[:height, :width]
    return np.asarray((fine - fine.mean()) / fine.std())


def draw_street(generator: np.random.Generator, height: int = 1024, width: int = 2048) -> Map:
    """A label map: layered ground, ragged buildings and trees, and two hundred objects from 20 pixels upward."""
    rows, columns = np.mgrid[:height, :width] / height
    ragged = 0.02 * smooth_noise(generator, height, width, 64) + 0.004 * smooth_noise(generator, height, width, 8)
    label = np.full((height, width), BUILDING, dtype=np.uint8)
    label[rows + 3 * ragged < 0.18 + 0.1 * np.sin(3 * columns)] = SKY
    label[(smooth_noise(generator, height, width, 128) > 0.8) & (rows < 0.6)] = VEGETATION
    label[rows + ragged > 0.58] = SIDEWALK
    label[(rows + ragged > 0.56) & (np.abs(columns - 1) < 1.9 * (rows - 0.42))] = ROAD
    for _ in range(200):
        size = float(np.exp(generator.uniform(np.log(4), np.log(300))))
        tall = float(np.exp(generator.uniform(-1, 2.5)))
        top, left = generator.uniform(0.35, 0.8) * height, generator.uniform(0, 1) * width
        half_height, half_width = size * tall**0.5 / 2, max(size / tall**0.5 / 2, 1.5)
        box = (
            slice(max(int(top - half_height), 0), int(top + half_height) + 2),
            slice(max(int(left - half_width), 0), int(left + half_width) + 2),
        )
        y, x = np.mgrid[box]
        power = generator.choice([2, 8])
        inside = ((y - top) / half_height) ** power + ((x - left) / half_width) ** power < 1
        patch = label[box]
        patch[inside[: patch.shape[0], : patch.shape[1]]] = generator.integers(3, NUM_CLASSES)
    label[int(0.93 * height) :, width // 8 : -width // 8] = VOID
    label[smooth_noise(generator, height, width, 32) > 2.6] = VOID
    return label


def spoil(generator: np.random.Generator, label: Map) -> Map:
    """A prediction of ``label``: contours off by a few pixels, a fifth of the small regions lost, wrong patches."""
    height, width = label.shape
    rows, columns = np.mgrid[:height, :width]
    bent = [
        np.clip(grid + 3 * smooth_noise(generator, height, width, 16), 0, limit - 1).astype(np.intp)
        for grid, limit in ((rows, height), (columns, width))
    ]
    prediction = np.where(label == VOID, ROAD, label)[bent[0], bent[1]]
    patches = smooth_noise(generator, height, width, 64) > 1.8
    prediction[patches] = (prediction[patches] + 1 + (columns[patches] // 256) % 5) % NUM_CLASSES
    smoothed = ndimage.median_filter(prediction, size=15)
    blurred = smooth_noise(generator, height, width, 128) > 0.8
    return np.where(blurred, smoothed, prediction).astype(np.uint8)


def time_pairs(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> tuple[float, float, float]:
    """CPU seconds of both (the best round of each) and how many times faster ours is (median over rounds in turn)."""
    ours(), theirs()
    times = np.zeros((rounds, 2))
    for row in times:
        for column, call in enumerate((ours, theirs)):
            start = time.thread_time()
            call()
            row[column] = time.thread_time() - start
    best_ours, best_theirs = times.min(0)
    return float(best_ours), float(best_theirs), float(np.median(times[:, 1] / times[:, 0]))


def label_class_by_class(label: Map) -> int:
    """What a component labeller for one mask at a time has to do."""
    total = 0
    for index in range(NUM_CLASSES):
        _, count = ndimage.label(label == index, np.ones((3, 3)))
        total += count
    return total


def bands_class_by_class(label: Map, distance: int) -> list[NDArray[np.bool_]]:
    """The bands of Boundary IoU by one erosion of each class."""
    size = 2 * distance + 1
    masks = [label == index for index in range(NUM_CLASSES)]
    return [mask & ~ndimage.minimum_filter(mask, size, mode="constant") for mask in masks]


def main() -> None:
    """Print one line for each comparison, then the time of all metrics on one image."""
    import torch
    from torchmetrics.classification import MulticlassJaccardIndex

    from selfreg.evaluation import ConfusionMatrix, boundary_counts, evaluate_image, failure_counts
    from selfreg.evaluation.maps import compact
    from selfreg.evaluation.regions import contour_band, find_components

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each comparison")
    rounds: int = parser.parse_args().rounds
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    label = draw_street(generator)
    prediction = spoil(generator, label)

    labels, predictions = (torch.from_numpy(maps).long() for maps in (label, prediction))
    confusion = ConfusionMatrix(NUM_CLASSES)
    jaccard = MulticlassJaccardIndex(NUM_CLASSES, ignore_index=VOID)
    maps = compact(prediction, label, NUM_CLASSES)
    distance = round(0.02 * float(np.hypot(*label.shape)))
    comparisons: list[tuple[str, Callable[[], Any], Callable[[], Any], int]] = [
        (
            "confusion update (int64) / torchmetrics MulticlassJaccardIndex",
            lambda: confusion.update(predictions, labels),
            lambda: jaccard.update(predictions, labels),
            rounds,
        ),
        (
            "components of all classes at once / one class at a time",
            lambda: find_components(maps.label, (NUM_CLASSES,)),
            lambda: label_class_by_class(label),
            rounds,
        ),
        (
            "contour bands of all classes at once / one erosion per class",
            lambda: contour_band(maps.label, distance),
            lambda: bands_class_by_class(label, distance),
            3,
        ),
    ]
    print(f"One pair of maps, {label.shape[1]} x {label.shape[0]}, {NUM_CLASSES} classes, one thread")
    for name, ours, theirs, times in comparisons:
        best_ours, best_theirs, ratio = time_pairs(ours, theirs, times)
        print(f"{name}: {1e3 * best_ours:.1f} ms / {1e3 * best_theirs:.1f} ms, {ratio:.1f} times faster")
    counts = {
        "boundary counts": lambda: boundary_counts(prediction, label, NUM_CLASSES),
        "failure counts": lambda: failure_counts(prediction, label, NUM_CLASSES),
        "all metrics of the image": lambda: evaluate_image(prediction, label, NUM_CLASSES),
    }
    for name, call in counts.items():
        seconds, _, _ = time_pairs(call, lambda: None, rounds)
        print(f"{name}: {1e3 * seconds:.0f} ms")


if __name__ == "__main__":
    main()
