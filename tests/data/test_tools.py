"""Folders as tools leave them, taken as they are or through `selfreg import`: checked, trained on and evaluated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from fixtures import exports
from fixtures.exports import COLOURS, HEIGHT, WIDTH, save_image, scene
from fixtures.folder import photograph
from selfreg.data.kinds import open_source
from tiny import selfreg, untrained_run, write_config

CLASSES = ("background", *exports.CLASSES)
Settings = dict[str, Any]


def _save_mask(path: Path, mask: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def _colours(root: Path) -> Settings:
    """CVAT's colours in a folder of images and masks, with its list of labels."""
    for split, shift in (("train", 0), ("train", 1), ("val", 2)):
        save_image(root / "images" / split / f"{shift}.jpg", shift)
        _save_mask(root / "masks" / split / f"{shift}.png", exports.colours_of(scene(shift)))
    lines = [f"{name}:{red},{green},{blue}::" for name, (red, green, blue) in COLOURS.items()]
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "\n".join(lines), encoding="utf-8")
    return {}


def _suffixes(root: Path) -> Settings:
    """Masks beside the photographs, with a suffix, types in capitals, and classes.txt."""
    for split, shift in (("train", 0), ("train", 1), ("val", 2)):
        save_image(root / "images" / split / f"IMG {shift}.JPG", shift)
        _save_mask(root / "images" / split / f"IMG {shift}_mask.PNG", scene(shift))
    (root / "classes.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    return {"options": {"masks": {"folder": "images", "suffix": "_mask"}}}


def _nested(root: Path) -> Settings:
    """Folders of clips in the splits, one name in two of them, masks that begin at 1 with 0 as void."""
    for split, clip, shift in (("train", "köln/1", 0), ("train", "köln/2", 1), ("val", "bonn", 2)):
        save_image(root / "images" / split / clip / "0001.webp", shift)
        _save_mask(root / "masks" / split / clip / "0001.png", scene(shift) + np.uint8(1))
    (root / "labels.json").write_text('{"classes": ["background", "car", "road", "sign"]}', encoding="utf-8")
    return {"options": {"masks": {"map": {0: "void", 1: 0, 2: 1, 3: 2, 4: 3}}}}


def _sixteen_bits(root: Path) -> Settings:
    """TIFFs of 16 bits that use 12, as cameras write them."""
    for split, shift in (("train", 0), ("train", 1), ("val", 2)):
        path = root / "images" / split / f"{shift}.tiff"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, photograph(HEIGHT, WIDTH, shift).astype(np.uint16) * 16, photometric="rgb")
        _save_mask(root / "masks" / split / f"{shift}.png", scene(shift))
    (root / "classes.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    return {"range": [0, 4095]}


def _roboflow(root: Path) -> Settings:
    exports.write_roboflow(root.with_name("export"))
    assert selfreg("import", root.with_name("export"), root) == 0
    return {}


def _labelme(root: Path) -> Settings:
    exports.write_labelme(root.with_name("export"))
    assert selfreg("import", root.with_name("export"), root, "--val", "0.5") == 0
    return {}


TOOLS: dict[str, Callable[[Path], Settings]] = {
    "colours of CVAT": _colours,
    "suffixes beside the images": _suffixes,
    "clips in folders": _nested,
    "16 bits of a camera": _sixteen_bits,
    "YOLO of Roboflow": _roboflow,
    "Labelme": _labelme,
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_folder_of_a_tool_is_checked_trained_on_and_evaluated(tool: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    settings: Settings = {"kind": "folder", "root": str(root), "options": {}, **TOOLS[tool](root)}
    config = write_config(tmp_path, data={**settings, "crop_size": [32, 32]}, training={"batch_size": 2})
    assert selfreg("check-data", config) == 0
    source = open_source("folder", root, "val", **settings["options"])
    assert [name.strip("_") for name in source.labels.class_names] == list(CLASSES)
    if TOOLS[tool] in (_colours, _suffixes, _nested):  # the masks of imports are tested with the imports
        np.testing.assert_array_equal(source.read(0).mask, scene(2))
    assert selfreg("train", config, "--dry-run") == 0
    run = untrained_run(tmp_path / "run", source.labels.class_names, data={**settings, "crop_size": [32, 32]})
    assert selfreg("evaluate", run.folder) == 0
