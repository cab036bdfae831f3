import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfreg.checking.findings import Finding, group_findings
from selfreg.data.label_files import read_labels
from selfreg.data.labels import INVALID, Labels, full_palette, voc_palette
from selfreg.data.masks import value_table
from selfreg.importing.items import classes_and_background


def write(path: Path, **content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_voc_palette_has_the_known_colours_and_256_distinct_ones() -> None:
    palette = voc_palette()
    assert palette[0].tolist() == [0, 0, 0]
    assert palette[1].tolist() == [128, 0, 0]  # aeroplane
    assert palette[15].tolist() == [192, 128, 128]  # person
    assert palette[20].tolist() == [0, 64, 128]  # tvmonitor
    assert palette[255].tolist() == [224, 224, 192]  # the contour
    assert len(np.unique(palette, axis=0)) == 256


def test_full_palette_keeps_the_given_colours_and_whitens_void() -> None:
    palette = full_palette([(1, 2, 3), (4, 5, 6)])
    assert palette[:2].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert palette[255].tolist() == [255, 255, 255]
    assert palette[2].tolist() == voc_palette()[2].tolist()


def test_table_maps_void_to_255_and_marks_the_rest() -> None:
    table = Labels(("a", "b"), void=11).table()
    assert table[:2].tolist() == [0, 1]
    assert table[11] == 255
    assert table[255] == INVALID
    assert np.count_nonzero(table == INVALID) == 256 - 3


@pytest.mark.parametrize(
    ("names", "void", "message"),
    [
        ((), None, "0 classes"),
        (("a", "a"), None, "'a' is given twice"),
        (("a", "b"), 1, "void 1 is not free"),
        (("a",), 300, "void 300 is not free"),
    ],
)
def test_labels_that_cannot_be_are_refused(names: tuple[str, ...], void: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Labels(names, void)


@pytest.mark.timeout(30)
def test_names_beyond_number_are_refused_at_once() -> None:
    many = [str(number) for number in range(200_000)]
    with pytest.raises(ValueError, match="200000 classes"):
        Labels(tuple(many))
    with pytest.raises(ValueError, match=r"masks\.map: 256 is not a value"):
        value_table(dict.fromkeys(range(200000), 0), Labels(("a",)))
    with pytest.raises(ValueError, match="200000 classes"):
        classes_and_background(many, "void", Path("classes.txt"))
    findings = [Finding("warning", "file", "train", name, f"{name}: not an image: not used") for name in many[:20_000]]
    assert group_findings(findings)[0].count == 20_000


def test_suffix_of_the_mask_folder_chooses_the_keys(tmp_path: Path) -> None:
    path = write(
        tmp_path / "labels.json",
        classes=["a", "b"],
        void=9,
        palette=[[1, 1, 1], [2, 2, 2]],
        image_labels={"x": ["b"]},
        classes_objects=["background", "b", "c"],
        image_labels_objects={"x": ["c", "b"]},
    )
    plain, objects = read_labels(path), read_labels(path, "masks_objects")
    assert plain.labels == Labels(("a", "b"), 9)
    assert plain.tags == {"x": (1,)}
    assert plain.labels.palette[1].tolist() == [2, 2, 2]
    assert objects.labels == Labels(("background", "b", "c"), 9)
    assert objects.tags == {"x": (1, 2)}
    assert objects.labels.palette[1].tolist() == voc_palette()[1].tolist()


def test_another_folder_of_masks_without_keys_of_its_own_shares_the_plain_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "labels.json", classes=["a", "b"], void=None, image_labels={"x": ["a"]})
    pseudo = read_labels(path, "masks_pseudo")
    assert pseudo.labels == Labels(("a", "b"))
    assert pseudo.tags == {"x": (0,)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "'classes'"),
        ({"classes": "sky"}, "'classes'"),
        ({"classes": ["a"], "void": "none"}, "void is 'none'"),
        ({"classes": ["a"], "void": 0}, "void 0 is not free"),
        ({"classes": ["a"], "palette": [[1, 2]]}, "palette"),
        ({"classes": ["a"], "image_labels": {"x": ["dog"]}}, "tag 'dog' of image 'x'"),
    ],
)
def test_bad_label_files_are_refused_by_name(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "labels.json", **content)
    with pytest.raises(ValueError, match=message) as error:
        read_labels(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_or_broken_json_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_labels(tmp_path / "labels.json")
    (tmp_path / "labels.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="invalid JSON"):
        read_labels(tmp_path / "labels.json")
