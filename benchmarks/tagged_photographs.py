"""A small data set of photographs with image-level tags and without masks, for benchmarks of `selfreg pseudo`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("background", "red", "green", "blue")

SECTIONS: dict[str, Any] = {
    "classifier": {
        "backbone": "test_resnet",
        "crop_size": [64, 64],
        "epochs": 2,
        "batch_size": 2,
        "optimizer": "adamw",
        "learning_rate": 3e-3,
    },
    "cam": {"scales": [1.0]},
    "refinement": [{"name": "pamr", "options": {"iterations": 2, "dilations": [1, 2]}}],
}
"""Sections of a configuration that makes pseudo masks of them within seconds."""


def write_tagged_photographs(root: Path) -> Path:
    """Write six photographs, each with a bright square in one channel and the tag that belongs to it.

    Args:
        root: Folder of the data set.

    Returns:
        `root`.
    """
    (root / "images" / "train").mkdir(parents=True)
    generator, tags = np.random.default_rng(1), {}
    for number in range(6):
        pixels = generator.integers(110, 150, (64, 96, 3), dtype=np.uint8)
        pixels[16:48, 24:56, number % 3] = 230
        Image.fromarray(pixels).save(root / "images" / "train" / f"photo{number}.png")
        tags[f"photo{number}"] = [CLASSES[1 + number % 3]]
    content = {"classes": CLASSES, "void": 255, "image_labels": tags}
    (root / "labels.json").write_text(json.dumps(content), encoding="utf-8")
    return root
