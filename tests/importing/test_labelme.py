"""Shapes of Labelme, and what its annotations may lack."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fixtures.exports import HEIGHT, WIDTH, labelme_content, save_image
from selfreg.importing.items import Export
from selfreg.importing.labelme import read_labelme


def write(root: Path, shapes: list[dict[str, Any]], **values: Any) -> None:
    save_image(root / "0.png")
    content = labelme_content("0.png", shapes) | values
    (root / "0.json").write_text(json.dumps(content), encoding="utf-8")


def mask_of(export: Export) -> NDArray[np.uint8]:
    return export.images[0].paint((HEIGHT, WIDTH))


def centres() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    return x, y


def encoded(values: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def test_a_circle_is_given_by_centre_and_rim(tmp_path: Path) -> None:
    write(tmp_path, [{"label": "a", "points": [[30, 20], [30, 30]], "shape_type": "circle"}])
    x, y = centres()
    expected = (x - 30) ** 2 + (y - 20) ** 2 < 100
    assert np.count_nonzero((mask_of(read_labelme(tmp_path, "background")) == 1) ^ expected) <= 4


def test_a_line_is_ten_pixels_wide_and_told(tmp_path: Path) -> None:
    write(tmp_path, [{"label": "a", "points": [[10, 20], [50, 20]], "shape_type": "line"}])
    export = read_labelme(tmp_path, "background")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[15:25, 10:50] = 1
    np.testing.assert_array_equal(mask_of(export), expected)
    assert export.notes == ["1 lines and points were drawn 10 pixels wide, as Labelme does"]


def test_a_mask_is_put_at_its_corner(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2, (6, 9)).astype(np.uint8)
    shape = {"label": "a", "points": [[4, 3], [12, 8]], "shape_type": "mask", "mask": encoded(values * 255)}
    write(tmp_path, [shape])
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[3:9, 4:13] = values
    np.testing.assert_array_equal(mask_of(read_labelme(tmp_path, "background")), expected)


def test_background_and_ignored_labels_are_no_objects(tmp_path: Path) -> None:
    left = [[0, 0], [20, HEIGHT]]
    middle, right = [[20, 0], [40, HEIGHT]], [[40, 0], [60, HEIGHT]]
    shapes = [
        {"label": label, "points": points, "shape_type": "rectangle"}
        for label, points in (("car", left), ("_background_", middle), ("__ignore__", right))
    ]
    write(tmp_path, shapes)
    export = read_labelme(tmp_path, "background")
    assert export.class_names == ("background", "car")
    np.testing.assert_array_equal(mask_of(export)[0], np.repeat([1, 0, 255], 20))


def test_classes_are_those_of_labels_txt(tmp_path: Path) -> None:
    write(tmp_path, [{"label": "car", "points": [[0, 0], [9, 0], [9, 9]], "shape_type": "polygon"}])
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ntruck\ncar\n", encoding="utf-8")
    export = read_labelme(tmp_path, "background")
    assert export.class_names == ("background", "truck", "car")
    assert mask_of(export).max() == 2
    (tmp_path / "labels.txt").write_text("truck\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"labels\.txt: lacks the label 'car'"):
        read_labelme(tmp_path, "background")


def test_an_embedded_image_stands_in_for_a_missing_file(tmp_path: Path) -> None:
    write(tmp_path, [{"label": "a", "points": [[0, 0], [9, 0], [9, 9]]}])
    data = (tmp_path / "0.png").read_bytes()
    write(tmp_path, [], imagePath="..\\pictures\\0.png", imageData=base64.b64encode(data).decode())
    beside = read_labelme(tmp_path, "background").images[0].image
    assert beside == tmp_path / "0.png"
    (tmp_path / "0.png").unlink()
    embedded = read_labelme(tmp_path, "background").images[0].image
    assert callable(embedded)
    assert embedded() == data


def test_an_image_outside_of_the_export_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "export", [], imagePath="../secret.png")
    (tmp_path / "export/0.png").rename(tmp_path / "secret.png")
    with pytest.raises(ValueError, match=r"0\.json: its image '\.\./secret\.png' is missing"):
        read_labelme(tmp_path / "export", "background")


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown shape": ({"points": [[0, 0]], "shape_type": "cuboid"}, "shape 1 (a) is a 'cuboid'"),
    "two corners": ({"points": [[0, 0], [1, 1]], "shape_type": "polygon"}, "a polygon with 2 points; it needs 3"),
    "no points": ({"shape_type": "polygon"}, "'points' is not a list of coordinates"),
    "words": ({"points": [["a", "b"]] * 3, "shape_type": "polygon"}, "'points' is not a list of coordinates"),
    "NaN": ({"points": [[0, float("nan")]] * 3, "shape_type": "polygon"}, "'points' is not a list of coordinates"),
    "a mask that is none": ({"points": [[0, 0]], "shape_type": "mask", "mask": "eA=="}, "a mask that is not a PNG"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_shape_is_refused_with_its_file(tmp_path: Path, fault: str) -> None:
    shape, message = FAULTS[fault]
    write(tmp_path, [{"label": "a", **shape}])
    with pytest.raises(ValueError) as error:
        read_labelme(tmp_path, "background")
    assert str(error.value).startswith(f"{tmp_path / '0.json'}: shape 1 (a)")
    assert message in str(error.value)


@pytest.mark.parametrize("size", [(0, 5), (2**20, 2**20), ("a", 3), (-4, -4)])
def test_a_size_that_cannot_be_is_refused(tmp_path: Path, size: tuple[Any, Any]) -> None:
    write(tmp_path, [], imageHeight=size[0], imageWidth=size[1])
    with pytest.raises(ValueError, match=r"0\.json: invalid image size of .* pixels"):
        read_labelme(tmp_path, "background")
