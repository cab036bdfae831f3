"""COCO annotations of other tools than COCO's own: every kind of segmentation, whatever the other fields say."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from numpy.typing import NDArray
from PIL import Image

from selfreg.data import open_source
from selfreg.data.outlines import decode_counts, fill_polygon, parse_counts

HEIGHT, WIDTH = 40, 60


def write_instances(
    root: Path, annotations: list[dict[str, Any]], names: tuple[str, ...] = ("0.jpg",), category: str = "thing"
) -> Path:
    for index, name in enumerate(names):
        path = root / "train2014" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90 + 60 * index, np.uint8)).save(path)
    content = {
        "images": [{"id": i, "file_name": n, "height": HEIGHT, "width": WIDTH} for i, n in enumerate(names)],
        "categories": [{"id": 7, "name": category}],
        "annotations": [{"id": 1 + i, "category_id": 7, "image_id": 0, **a} for i, a in enumerate(annotations)],
    }
    (root / "annotations").mkdir()
    path = root / "annotations/instances_train2014.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def rectangle() -> NDArray[np.bool_]:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[10:20, 15:40] = True
    return mask


def plain_runs(mask: NDArray[np.bool_], *, even: bool = False) -> dict[str, Any]:
    flat = np.concatenate([[False], mask.T.ravel(), [False]])
    edges = np.flatnonzero(np.diff(flat.astype(int)))
    counts = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
    return {"counts": counts + [0] * (even and len(counts) % 2), "size": list(mask.shape)}


def compressed_runs(mask: NDArray[np.bool_]) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"counts": encoded["counts"].decode(), "size": list(mask.shape)}


SEGMENTATIONS: dict[str, Any] = {
    "run lengths": plain_runs(rectangle()),
    "an even number of run lengths": plain_runs(rectangle(), even=True),
    "compressed run lengths": compressed_runs(rectangle()),
    "a polygon": [[15, 10, 40, 10, 40, 20, 15, 20]],
    "two polygons": [[15, 10, 30, 10, 30, 20, 15, 20], [30, 10, 40, 10, 40, 20, 30, 20]],
}


@pytest.mark.parametrize("is_crowd", [{}, {"iscrowd": 0}, {"iscrowd": 1}], ids=["no iscrowd", "0", "1"])
@pytest.mark.parametrize("kind", SEGMENTATIONS)
def test_a_segmentation_is_decoded_by_its_type_whatever_iscrowd_says(
    tmp_path: Path, kind: str, is_crowd: dict[str, int]
) -> None:
    write_instances(tmp_path, [{"segmentation": SEGMENTATIONS[kind], **is_crowd}])
    mask = open_source("coco", tmp_path, "train").read(0).mask
    np.testing.assert_array_equal(mask, rectangle())
    assert mask.sum() == 250


def test_a_small_object_lies_on_a_large_one_whatever_their_area_fields_say(tmp_path: Path) -> None:
    large = {"segmentation": [[0, 0, 60, 0, 60, 40, 0, 40]], "area": 1.0}
    small = {"segmentation": compressed_runs(rectangle()), "area": 1e9, "category_id": 8}
    path = write_instances(tmp_path, [small, large])
    content = json.loads(path.read_text(encoding="utf-8"))
    content["categories"].append({"id": 8, "name": "small"})
    path.write_text(json.dumps(content), encoding="utf-8")
    np.testing.assert_array_equal(open_source("coco", tmp_path, "train").read(0).mask, 1 + rectangle())


def test_two_images_of_one_name_in_two_folders_are_two_images(tmp_path: Path) -> None:
    write_instances(tmp_path, [{"segmentation": SEGMENTATIONS["a polygon"], "image_id": 1}], ("a/1.jpg", "b/1.jpg"))
    source = open_source("coco", tmp_path, "train")
    assert list(source.ids) == ["a/1", "b/1"]
    assert [source.read(index).mask.sum() for index in range(2)] == [0, 250]
    assert [source.read(index).image[0, 0, 0] for index in range(2)] == [90, 150]


def test_two_images_of_one_id_are_refused(tmp_path: Path) -> None:
    write_instances(tmp_path, [], ("1.jpg", "1.png"))
    with pytest.raises(ValueError, match=r"instances_train2014\.json: two images have the name '1'"):
        open_source("coco", tmp_path, "train")


@pytest.mark.parametrize("name", ["background", "_background_", "Background"])
def test_a_category_that_is_the_background_is_no_object(tmp_path: Path, name: str) -> None:
    write_instances(tmp_path, [{"segmentation": SEGMENTATIONS["a polygon"]}], category=name)
    source = open_source("coco", tmp_path, "train")
    assert source.labels.class_names == ("background",)
    assert not source.read(0).mask.any()


MALFORMED: dict[str, tuple[Any, str]] = {
    "too few runs": ({"counts": [3, 2], "size": [HEIGHT, WIDTH]}, "run lengths that do not fill 60 x 40 pixels"),
    "too many runs": ({"counts": [0, 10**6], "size": [HEIGHT, WIDTH]}, "run lengths that do not fill"),
    "halves of pixels": ({"counts": [0.5, 2399.5], "size": [HEIGHT, WIDTH]}, "not integers"),
    "of another size": ({"counts": [2400], "size": [60, 40]}, "run lengths of size [60, 40]"),
    "without a size": ({"counts": [2400]}, "run lengths of size None"),
    "text that breaks off": ({"counts": "abc", "size": [HEIGHT, WIDTH]}, "cannot be decoded"),
    "text of other letters": ({"counts": "\u00e9!", "size": [HEIGHT, WIDTH]}, "cannot be decoded"),
    "text too short": ({"counts": "32", "size": [HEIGHT, WIDTH]}, "run lengths that do not fill"),
    "no text": ({"counts": "", "size": [HEIGHT, WIDTH]}, "cannot be decoded"),
    "nothing": ([], "an empty segmentation"),
    "a flat list": ([15, 10, 40, 10, 40, 20], "neither polygons nor run lengths"),
    "half a corner": ([[15, 10, 40, 10, 40, 20, 15]], "half a corner"),
    "null": (None, "neither polygons nor run lengths"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_segmentation_is_refused_with_file_and_annotation(tmp_path: Path, name: str) -> None:
    segmentation, message = MALFORMED[name]
    path = write_instances(tmp_path, [{"segmentation": segmentation}])
    with pytest.raises(ValueError) as error:
        open_source("coco", tmp_path, "train").read(0)
    assert str(error.value).startswith(f"{path}: an")
    assert message in str(error.value)


@pytest.mark.parametrize("seed", range(20))
def test_compressed_run_lengths_agree_with_pycocotools(seed: int) -> None:
    generator = np.random.default_rng(seed)
    height, width = (int(side) for side in generator.integers(1, 90, 2))
    mask = generator.random((height, width)) < generator.choice([0.02, 0.5, 0.98])
    runs = compressed_runs(mask)
    np.testing.assert_array_equal(decode_counts(parse_counts(runs["counts"]), height, width), mask)


def test_a_size_that_the_image_does_not_have_takes_no_memory(tmp_path: Path) -> None:
    path = write_instances(tmp_path, [{"segmentation": SEGMENTATIONS["a polygon"]}])
    content = json.loads(path.read_text(encoding="utf-8"))
    content["images"][0].update(height=20_000, width=20_000)
    path.write_text(json.dumps(content), encoding="utf-8")
    source = open_source("coco", tmp_path, "train")
    tracemalloc.start()
    with pytest.raises(ValueError, match="20000x20000"):
        source.read(0)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_a_polygon_of_a_few_thousand_tall_edges_takes_little_memory() -> None:
    corners = np.array([[index % 1900, 2000 * (index % 2)] for index in range(1500)], dtype=np.float64)
    mask = np.zeros((2000, 2000), dtype=np.uint8)
    tracemalloc.start()
    fill_polygon(mask, corners, 1)
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()


@pytest.mark.parametrize("seed", range(5))
def test_bands_of_rows_make_no_difference_to_a_polygon(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    corners = np.random.default_rng(seed).uniform(-10, 80, (9, 2))
    whole, banded = np.zeros((70, 50), dtype=np.uint8), np.zeros((70, 50), dtype=np.uint8)
    fill_polygon(whole, corners, 3)
    monkeypatch.setattr("selfreg.data.outlines._CROSSINGS_AT_ONCE", 150)
    fill_polygon(banded, corners, 3)
    assert whole.any()
    np.testing.assert_array_equal(whole, banded)


def test_an_annotation_without_a_segmentation_is_named(tmp_path: Path) -> None:
    write_instances(tmp_path, [{"bbox": [1, 1, 5, 5]}])
    with pytest.raises(ValueError, match="annotation 1 has no outline, maybe a box alone"):
        open_source("coco", tmp_path, "train")


@pytest.mark.parametrize("image_id", ["0", 99])
def test_annotations_of_no_image_are_refused_instead_of_left_out(tmp_path: Path, image_id: Any) -> None:
    write_instances(tmp_path, [{"segmentation": SEGMENTATIONS["a polygon"], "image_id": image_id}])
    with pytest.raises(ValueError, match=f"1 annotations belong to no image.* annotation 1 with image_id {image_id!r}"):
        open_source("coco", tmp_path, "train")


@pytest.mark.parametrize("category", ["7", 8])
def test_an_unknown_category_is_named_with_its_annotation(tmp_path: Path, category: Any) -> None:
    write_instances(tmp_path, [{"segmentation": SEGMENTATIONS["a polygon"], "category_id": category}])
    with pytest.raises(ValueError, match=f"annotation 1 has category_id {category!r}, which is not in the list"):
        open_source("coco", tmp_path, "train")


@pytest.mark.parametrize(
    ("height", "right"), [(40, True), (40.0, True), (40.5, False), (0, False), (float("nan"), False)]
)
def test_sizes_are_whole_numbers_and_never_cut_to_them(tmp_path: Path, height: Any, right: bool) -> None:
    path = write_instances(tmp_path, [{"segmentation": SEGMENTATIONS["a polygon"]}])
    content = json.loads(path.read_text())
    content["images"][0]["height"] = height
    path.write_text(json.dumps(content))
    if right:
        assert (open_source("coco", tmp_path, "train").read(0).mask == rectangle()).all()
    else:
        with pytest.raises(ValueError, match=f"image '0.jpg' has height {height!r} and width 60"):
            open_source("coco", tmp_path, "train")


def test_photographs_that_the_annotations_do_not_list_are_named(tmp_path: Path) -> None:
    path = write_instances(tmp_path, [], ("0.jpg", "a/1.jpg"))
    content = json.loads(path.read_text())
    del content["images"][1]
    path.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"a/1\.jpg: not listed in instances_train2014\.json"):
        open_source("coco", tmp_path, "train")
