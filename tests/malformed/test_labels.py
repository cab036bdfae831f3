"""`labels.json`, lists of images, and the folders of a data set."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.folder import write_folder
from malformed.pieces import Write, content, dangling, folder, loop, refusal, saved, text
from selfreg.data import open_source
from selfreg.data.label_files import read_labels
from selfreg.data.labels import Labels
from selfreg.data.pairs import read_list

CLASSES = ["sky", "road"]


def dumped(**values: Any) -> Write:
    return text(json.dumps({"classes": CLASSES, **values}))


RIGHT: dict[str, tuple[Write, Labels]] = {
    "byte order mark": (content(b"\xef\xbb\xbf" + json.dumps({"classes": CLASSES}).encode()), Labels(("sky", "road"))),
    "names of any language": (dumped(classes=["空", "Straße", "дорога"]), Labels(("空", "Straße", "дорога"))),
    "escaped names": (text('{"classes": ["\\u7a7a", "road"]}'), Labels(("空", "road"))),
    "254 classes": (dumped(classes=[f"c{n}" for n in range(254)]), Labels(tuple(f"c{n}" for n in range(254)))),
    "one class": (dumped(classes=["thing"]), Labels(("thing",))),
    "unknown keys": (dumped(author="me", licence={"name": "x"}), Labels(("sky", "road"))),
    "names that look like paths": (dumped(classes=["../sky", "/road"]), Labels(("../sky", "/road"))),
    "names that look like HTML": (dumped(classes=["<b>", "&amp;"]), Labels(("<b>", "&amp;"))),
    "tags of ids that look like paths": (dumped(image_labels={"../../x": ["sky"]}), Labels(("sky", "road"))),
    "a palette of more colours than classes": (dumped(palette=[[1, 2, 3]] * 5), Labels(("sky", "road"))),
}


@pytest.mark.parametrize("name", RIGHT)
def test_odd_labels_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / "labels.json"
    write, expected = RIGHT[name]
    write(path)
    assert read_labels(path).labels == expected


REFUSED: dict[str, tuple[Write, str]] = {
    "empty": (text(""), "invalid JSON"),
    "cut": (text('{"classes": ["sky", '), "invalid JSON"),
    "UTF-16": (content(json.dumps({"classes": CLASSES}).encode("utf-16")), "invalid JSON"),
    "Latin-1": (content('{"classes": ["Straße"]}'.encode("latin-1")), "invalid JSON"),
    "zeros": (content(bytes(100)), "invalid JSON"),
    "YAML": (text("classes: [sky, road]"), "invalid JSON"),
    "comments": (text('{"classes": ["sky"]} // mine'), "invalid JSON"),
    "nested 100,000 deep": (text("[" * 100_000), "invalid JSON"),
    "nested 100,000 deep in a value": (text('{"classes": ' + '{"a":' * 100_000), "invalid JSON"),
    "a number of 10,000 digits": (text('{"classes": ["a"], "void": ' + "9" * 10_000 + "}"), "invalid JSON"),
    "NaN": (text('{"classes": ["a"], "void": NaN}'), "NaN"),
    "infinity": (text('{"classes": ["a"], "void": -Infinity}'), "Infinity"),
    "classes twice": (text('{"classes": ["a"], "classes": ["b"]}'), "'classes' occurs twice"),
    "an image tagged twice": (text('{"classes": ["a"], "image_labels": {"x": [], "x": ["a"]}}'), "'x' occurs twice"),
    "list": (text('["sky"]'), "contains a list"),
    "number": (text("3"), "contains a int"),
    "null": (text("null"), "contains a NoneType"),
    "no classes": (text("{}"), "'classes'"),
    "classes of numbers": (dumped(classes=[1, 2]), "'classes'"),
    "classes by index": (dumped(classes={"0": "sky"}), "'classes'"),
    "empty classes": (dumped(classes=[]), "0 classes"),
    "255 classes": (dumped(classes=[f"c{number}" for number in range(255)]), "255 classes"),
    "a class twice": (dumped(classes=["a", "b", "a"]), "'a' is given twice"),
    "a class without name": (dumped(classes=["a", ""]), "printed"),
    "a class of two lines": (dumped(classes=["a", "b\nc"]), "printed"),
    "a class that moves the cursor": (dumped(classes=["a", "\x1b[2J"]), "printed"),
    "half a surrogate in a name": (text('{"classes": ["a", "\\ud800"]}'), "printed"),
    "void that is a class": (dumped(void=1), "void 1 is not free"),
    "void of 256": (dumped(void=256), "void 256 is not free"),
    "void below 0": (dumped(void=-1), "void -1 is not free"),
    "void of 2**80": (dumped(void=2**80), "is not free"),
    "void true": (dumped(void=True), "void is True"),
    "void in words": (dumped(void="255"), "void is '255'"),
    "void of a fraction": (dumped(void=254.5), "void is 254.5"),
    "void as a list": (dumped(void=[255] * 100_000), "void is [255, 255"),
    "palette of pairs": (dumped(palette=[[1, 2], [3, 4]]), "palette"),
    "palette of ragged rows": (dumped(palette=[[1, 2, 3], [4]]), "palette"),
    "palette of words": (dumped(palette=["red", "blue"]), "palette"),
    "palette of fractions": (dumped(palette=[[0.1, 0.2, 0.3], [0, 0, 0]]), "palette"),
    "palette above 255": (dumped(palette=[[0, 0, 256], [0, 0, 0]]), "palette"),
    "palette below 0": (dumped(palette=[[0, 0, -1], [0, 0, 0]]), "palette"),
    "palette of 2**80": (dumped(palette=[[0, 0, 2**80], [0, 0, 0]]), "palette"),
    "empty palette": (dumped(palette=[]), "palette"),
    "palette of one number": (dumped(palette=3), "palette"),
    "palette by class": (dumped(palette={"sky": [1, 2, 3]}), "palette"),
    "palette with null": (dumped(palette=[[0, 0, None], [0, 0, 0]]), "palette"),
    "tags as a list": (dumped(image_labels=["sky"]), "image_labels is a list"),
    "tags as a number": (dumped(image_labels=1), "image_labels is a int"),
    "tags of one word": (dumped(image_labels={"x": "sky"}), "give a list of class names"),
    "tags of numbers": (dumped(image_labels={"x": [0]}), "give a list of class names"),
    "tags of lists": (dumped(image_labels={"x": [["sky"]]}), "give a list of class names"),
    "tags of null": (dumped(image_labels={"x": None}), "give a list of class names"),
    "tag that is no class": (dumped(image_labels={"x": ["dog"]}), "tag 'dog' of image 'x' is no class"),
    "tag of an id of two lines": (dumped(image_labels={"x\ny": ["dog"]}), "is no class"),
    "folder": (folder, "no such file"),
    "dangling link": (dangling, "no such file"),
    "link to itself": (loop, "no such file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_broken_labels_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "labels.json"
    write, message = REFUSED[name]
    write(path)
    assert message in refusal(lambda: read_labels(path), path)


IMAGE = {"id": 1, "file_name": "a.jpg", "height": 2, "width": 3}
THING = {"id": 1, "name": "thing"}
SHAPE = {"id": 1, "image_id": 1, "category_id": 1, "area": 1, "segmentation": [[0, 0, 2, 0, 2, 2]]}


def coco(**values: Any) -> Write:
    return text(json.dumps({"images": [IMAGE], "categories": [THING], "annotations": [SHAPE], **values}))


INSTANCES: dict[str, tuple[Write, str]] = {
    "empty": (text(""), "invalid JSON"),
    "nested 100,000 deep": (text("[" * 100_000), "invalid JSON"),
    "list": (text("[]"), "contains a list"),
    "no images": (coco(images=[]), "the split is empty"),
    "images as numbers": (coco(images=[1]), "not a COCO instances file"),
    "images as a mapping": (coco(images={"a": 1}), "not a COCO instances file"),
    "an image without name": (coco(images=[{"id": 1, "height": 2, "width": 3}]), "not a COCO instances file"),
    "an image outside": (coco(images=[{**IMAGE, "file_name": "../../a.jpg"}]), "is not a valid image name"),
    "an image of 2**30 x 2**30": (coco(images=[{**IMAGE, "height": 2**30, "width": 2**30}]), "at most 536870912"),
    "an image of 2**80 rows": (coco(images=[{**IMAGE, "height": 2**80}]), "at most 536870912"),
    "an image of no rows": (coco(images=[{**IMAGE, "height": 0}]), "whole numbers from 1 on"),
    "a category of nobody": (
        coco(annotations=[{**SHAPE, "category_id": 7}]),
        "category_id 7, which is not in the list",
    ),
    "an instance without shape": (coco(annotations=[{"id": 1, "image_id": 1}]), "has no outline"),
    "a polygon of two corners": (coco(annotations=[{**SHAPE, "segmentation": [[0, 0, 1, 1]]}]), "three corners"),
    "a corner of NaN": (
        coco(annotations=[{**SHAPE, "segmentation": [[0, 0, 2, 0, 2, float("nan")]]}]),
        "a corner that is NaN or infinite",
    ),
    "run lengths of 2**40 pixels": (
        coco(annotations=[{**SHAPE, "iscrowd": 1, "segmentation": {"counts": [0, 2**40], "size": [2, 3]}}]),
        "run lengths that do not fill",
    ),
    "run lengths below 0": (
        coco(annotations=[{**SHAPE, "iscrowd": 1, "segmentation": {"counts": [12, -6], "size": [2, 3]}}]),
        "run lengths that do not fill",
    ),
}


@pytest.mark.parametrize("name", INSTANCES)
def test_broken_instances_of_coco_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "annotations" / "instances_train2014.json"
    (tmp_path / "train2014").mkdir()
    path.parent.mkdir()
    write, message = INSTANCES[name]
    write(path)
    (tmp_path / "train2014" / "a.jpg").write_bytes(saved(np.zeros((2, 3, 3), np.uint8), "JPEG"))

    def read() -> None:
        open_source("coco", tmp_path, "train").read(0)

    assert message in refusal(read, path)


LISTS: dict[str, tuple[Write, str]] = {
    "UTF-16": (content("a\nb\n".encode("utf-16")), "UTF-8"),
    "Latin-1": (content("Straße\n".encode("latin-1")), "UTF-8"),
    "a way out of the folder": (text("a\n../../b\n"), "'../../b' is not a valid image name"),
    "an absolute path": (text("/etc/passwd\n"), "'/etc/passwd' is not a valid"),
    "a zero byte": (text("a\0b\n"), "not a valid image name"),
    "a folder": (folder, "no such list"),
    "a link to itself": (loop, "no such list"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_broken_list_of_images_is_refused_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "train.txt"
    write, message = LISTS[name]
    write(path)
    assert message in refusal(lambda: read_list(path), path)


def _replace(place: str, write: Write) -> Callable[[Path], Path]:
    def change(root: Path) -> Path:
        path = root / place
        if path.is_dir():
            path.rename(root / "away")
        else:
            path.unlink(missing_ok=True)
        write(path)
        return path

    return change


FOLDERS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a link to itself for the images": (_replace("images/train", loop), "no such folder"),
    "a file for the images": (_replace("images/train", text("")), "no such folder"),
    "a file for the masks": (_replace("masks/train", text("")), "no such folder"),
    "a link to itself for the masks": (_replace("masks/train", loop), "no such folder"),
    "an empty split": (_replace("images/train", folder), "the split is empty"),
    "a folder for an image": (_replace("images/train/t0.jpg", folder), "no such image"),
    "a dangling link for an image": (_replace("images/train/t0.jpg", dangling), "no such image"),
    "a folder for a mask": (_replace("masks/train/t0.png", folder), "no such mask"),
    "a dangling link for a mask": (_replace("masks/train/t0.png", dangling), "no such mask"),
    "a link to itself for a mask": (_replace("masks/train/t0.png", loop), "no such mask"),
    "a missing mask": (_replace("masks/train/t0.png", str), "is missing"),
    "an image for a mask": (_replace("masks/train/t0.png", text("x")), "unreadable"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_broken_data_set_is_refused_by_name(tmp_path: Path, name: str) -> None:
    root = write_folder(tmp_path / "data")
    change, message = FOLDERS[name]
    path = change(root)

    def read() -> None:
        open_source("folder", root, "train").read(0)

    assert message in refusal(read, path)


@pytest.mark.parametrize(
    "name", [".t9.jpg.123.tmp.jpg", ".DS_Store", "._t0.jpg", "Thumbs.db", "t0.jpg.part", "notes.txt"]
)
def test_what_is_no_image_is_left_out(tmp_path: Path, name: str) -> None:
    root = write_folder(tmp_path / "data")
    (root / "images/train" / name).write_text("x", encoding="utf-8")
    (root / "masks/train" / f".{name}.png").write_text("x", encoding="utf-8")
    source = open_source("folder", root, "train")
    assert list(source.ids) == ["t0", "t1", "t2"]


def test_a_folder_that_links_to_its_own_parent_is_no_hang(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data")
    (root / "images/train/again").symlink_to(root / "images")
    (root / "masks/train/again").symlink_to(root / "masks")
    assert len(open_source("folder", root, "train")) == 3
