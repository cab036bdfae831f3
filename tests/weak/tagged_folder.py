"""A generated data set of tagged photographs: coloured discs on grey, a class for each colour, masks to score with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

CLASSES = ("background", "red", "green", "blue")
COLOURS = ((128, 128, 128), (220, 40, 40), (40, 200, 60), (50, 70, 220))

CONFIG: dict[str, Any] = {
    "seed": 3,
    "data": {"kind": "folder", "crop_size": [64, 64], "scale": [0.8, 1.25]},
    "network": {
        "name": "smp:FPN/tu-test_efficientnet",
        "options": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
    },
    "training": {"epochs": 1, "batch_size": 4, "workers": 0, "threads": 1, "accelerator": "cpu", "learning_rate": 1e-3},
    "classifier": {
        "backbone": "test_resnet",
        "crop_size": [64, 64],
        "epochs": 6,
        "batch_size": 4,
        "optimizer": "adamw",
        "learning_rate": 3e-3,
    },
    "cam": {"scales": [1.0, 2.0]},
    "refinement": [{"name": "pamr", "options": {"iterations": 2, "dilations": [1, 2]}}],
}


def write_tagged_folder(root: Path, *, train: int = 8, val: int = 4, size: tuple[int, int] = (64, 96)) -> Path:
    """Write the data set and return its root; every fifth image shows nothing, every third two discs."""
    tags: dict[str, list[str]] = {}
    for split, length in (("train", train), ("val", val)):
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True)
        for number in range(length):
            image_id = f"{split}{number}"
            image, mask = _draw(number, size)
            Image.fromarray(image).save(root / "images" / split / f"{image_id}.png")
            Image.fromarray(mask).save(root / "masks" / split / f"{image_id}.png")
            tags[image_id] = [CLASSES[index] for index in np.unique(mask) if index not in (0, 255)]
    content = {"classes": CLASSES, "void": 255, "image_labels": tags}
    (root / "labels.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def write_weak_config(folder: Path, root: Path, /, **sections: Any) -> Path:
    """Write the tiny configuration for the data set, some of its keys replaced, and return its path."""
    content = {**CONFIG, "data": {**CONFIG["data"], "root": str(root)}}
    for section, values in sections.items():
        content[section] = {**content.get(section, {}), **values} if isinstance(values, dict) else values
    path = folder / "weak.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def _draw(number: int, size: tuple[int, int]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    generator = np.random.default_rng(number)
    mask = np.zeros(size, dtype=np.uint8)
    rows, columns = np.mgrid[: size[0], : size[1]]
    discs = 0 if number % 5 == 4 else 1 + (number % 3 == 2)
    for disc in range(discs):
        row, column = generator.uniform(16, size[0] - 16), generator.uniform(16, size[1] - 16)
        mask[(rows - row) ** 2 + (columns - column) ** 2 < 196] = 1 + (number + disc) % 3
    noise = generator.normal(0, 12, (*size, 3))
    image = (np.array(COLOURS)[mask] + noise).clip(0, 255).astype(np.uint8)
    mask[0, :] = 255
    return image, mask
