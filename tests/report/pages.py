"""Generated content of pages: a thin pole, a large animal, a strip of void."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from selfreg.report.content import Case

CLASSES = ("ground", "animal", "pole")


def palette() -> NDArray[np.uint8]:
    colours = np.random.default_rng(1).integers(0, 256, (256, 3)).astype(np.uint8)
    colours[:3] = (90, 140, 60), (150, 90, 40), (200, 200, 60)
    return colours


def photograph(seed: int, height: int = 90, width: int = 120) -> NDArray[np.uint8]:
    """Smooth colours that compress as a photograph does, unlike noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def label_map(seed: int, height: int = 90, width: int = 120) -> NDArray[np.uint8]:
    """Ground with one large animal, one thin pole and a strip of void at the top."""
    random = np.random.default_rng(seed)
    rows, columns = np.ogrid[:height, :width]
    label = np.zeros((height, width), np.uint8)
    middle = random.integers(width // 3, width // 2)
    label[((rows - height / 2) / (height / 4)) ** 2 + ((columns - middle) / (width / 5)) ** 2 < 1] = 1
    label[height // 3 : height // 3 * 2, width - 12 : width - 8] = 2
    label[: height // 15] = 255
    return label


def missed_pole(seed: int, found: bool, height: int = 90, width: int = 120) -> Case:
    """The first run misses the pole; the last finds it, or the other way round."""
    label = label_map(seed, height, width)
    without = np.where((label == 2) | (label == 255), 0, label).astype(np.uint8)
    perfect = np.where(label == 255, 0, label).astype(np.uint8)
    box = (height // 3, width - 12, height // 3 * 2, width - 8)
    predictions = (without, perfect) if found else (perfect, without)
    scores = ("0 % found", "100 % found") if found else ("100 % found", "0 % found")
    return Case(
        f"pole_{seed:03}",
        photograph(seed, height, width),
        label,
        predictions,
        "missed object",
        class_index=2,
        outline=label == 2,
        box=box,
        scores=scores,
        change=(1.0 if found else -0.8) - 0.001 * seed,
    )


def mislabelled_animal(seed: int) -> Case:
    """Both runs take a patch of the animal for a pole."""
    label = label_map(seed)
    perfect = np.where(label == 255, 0, label).astype(np.uint8)
    patch = np.zeros(label.shape, bool)
    patch[40:50, 40:55] = True
    patch &= label == 1
    wrong = np.where(patch, 2, perfect).astype(np.uint8)
    return Case(
        f"animal_{seed:03}",
        photograph(seed),
        label,
        (wrong, wrong),
        "mislabelled part",
        class_index=1,
        wrong_class=2,
        outline=patch,
        box=(40, 40, 50, 55),
        scores=("12 % wrong", "12 % wrong"),
    )


def overview(seed: int) -> Case:
    label = label_map(seed)
    perfect = np.where(label == 255, 0, label).astype(np.uint8)
    return Case(
        f"whole_{seed:03}",
        photograph(seed),
        label,
        (np.zeros_like(label), perfect),
        "overview",
        scores=("60 % right", "100 % right"),
        change=0.4,
    )
