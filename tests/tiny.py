"""A configuration small enough to train in seconds, and the command called as users call it."""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from processes import WARM
from selfreg.cli import main
from selfreg.config import parse_config
from selfreg.data import Labels, Pair, Scenes
from selfreg.opening import build_from_config
from selfreg.run import Run
from selfreg.run_info import RunInfo
from selfreg.study import runner

TINY: dict[str, Any] = {
    "seed": 3,
    "data": {
        "kind": "scenes",
        "options": {"length": 8, "evaluation_length": 4, "size": [64, 96]},
        "crop_size": [64, 64],
        "scale": [0.8, 1.25],
    },
    "network": {
        "name": "smp:FPN/tu-test_efficientnet",
        "options": {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
    },
    "training": {"epochs": 2, "batch_size": 4, "workers": 0, "threads": 1, "accelerator": "cpu", "learning_rate": 1e-3},
}

QUICK_TO_EXPORT: dict[str, Any] = {
    "name": "smp:Unet/tu-test_resnet",
    "options": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
}
"""A network that is traced in less than half of the time that that of `TINY` takes."""


def write_config(folder: Path, **sections: dict[str, Any]) -> Path:
    """Write the tiny configuration, some of its keys replaced, and return its path."""
    content = {key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()}
    for section, values in sections.items():
        content[section] = {**content.get(section, {}), **values}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def untrained_run(folder: Path, class_names: Sequence[str], **sections: dict[str, Any]) -> Run:
    """Make a run of the tiny configuration, whole sections of it replaced, with random weights and no training."""
    config = parse_config({**TINY, **sections}, origin="test")
    labels = Labels(tuple(class_names))
    palette = tuple((int(red), int(green), int(blue)) for red, green, blue in labels.palette)
    run = Run.create(folder, config, RunInfo(labels.class_names, palette, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), {}))
    run.save_weights("last", build_from_config(config, labels.num_classes, pretrained=False))
    return run


def selfreg(*arguments: str | Path) -> int:
    """Call the command in this process; return its exit status.

    Trainings that a study starts begin warm, and a scene that was painted for a command before is not painted again.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scenes, "read", _read_painted)
        patch.setattr(runner, "subprocess", WARM)
        # the command sets it for good, which is undone here: other processes of the tests need what it forbids
        patch.setenv("PYTHONSAFEPATH", "1")
        patch.setattr(sys, "argv", ["selfreg", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


_read_scene = Scenes.read


def _read_painted(scenes: Scenes, index: int) -> Pair:
    if not 0 <= index < len(scenes):
        return _read_scene(scenes, index)
    image, mask = _paint(scenes.split, *scenes.size, scenes.seed, index)
    return Pair(image.copy(), mask.copy())


@functools.lru_cache(maxsize=1000)
def _paint(split: str, height: int, width: int, seed: int, index: int) -> Pair:
    return _read_scene(Scenes(split, index + 1, (height, width), seed), index)
