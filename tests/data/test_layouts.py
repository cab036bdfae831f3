"""Every label of every official layout, compared with decoders that share no code with the library's."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from torchvision import datasets

import fixtures.layouts as layouts
from fixtures.folder import patches, write_folder
from selfreg.data import Source, TrainingSet, open_source
from selfreg.data.ade20k import ADE20K_LABELS
from selfreg.data.cityscapes import CITYSCAPES_LABELS
from selfreg.data.outlines import fill_polygon
from selfreg.data.pascal_context import CONTEXT_CLASSES
from selfreg.data.voc import VOC_LABELS, trainaug_ids


def assert_masks(source: Source, truth: dict[str, NDArray[np.uint8]]) -> None:
    assert list(source.ids) == sorted(truth)
    for index, image_id in enumerate(source.ids):
        image, mask = source.read(index)
        np.testing.assert_array_equal(mask, truth[image_id], err_msg=image_id)
        assert image.shape == (*mask.shape, 3)
        assert set(np.unique(mask)) <= {*range(source.labels.num_classes), 255}


@pytest.mark.parametrize("split", ["train", "val", "trainval", "trainaug"])
def test_voc_with_sbd(tmp_path: Path, split: str) -> None:
    truth = layouts.write_voc(tmp_path)
    for root in (tmp_path, tmp_path / "VOCdevkit", tmp_path / "VOCdevkit/VOC2012"):
        assert_masks(open_source("voc", root, split), truth[split])


def test_voc_agrees_with_torchvision(tmp_path: Path) -> None:
    layouts.write_voc(tmp_path)
    ours = open_source("voc", tmp_path, "train")
    theirs = datasets.VOCSegmentation(tmp_path, year="2012", image_set="train")
    for index in range(len(theirs)):
        np.testing.assert_array_equal(ours.read(index).mask, np.array(theirs[index][1]))
    ours = open_source("voc", tmp_path, "trainaug")
    (tmp_path / "benchmark_RELEASE/dataset/train_noval.txt").write_text("s1\ns2\n", encoding="utf-8")
    sbd = datasets.SBDataset(tmp_path / "benchmark_RELEASE/dataset", "train_noval", mode="segmentation")
    for index in range(2):
        np.testing.assert_array_equal(ours.read(index).mask, np.array(sbd[index][1]))


def test_trainaug_never_holds_an_image_of_voc_val() -> None:
    assert trainaug_ids(["a", "b"], ["v", "w"], ["b", "v", "c"], ["w", "d"]) == ["a", "b", "c", "d"]


def test_a_list_of_trainaug_that_overlaps_val_is_refused(tmp_path: Path) -> None:
    layouts.write_voc(tmp_path)
    path = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/trainaug.txt"
    path.write_text("v1\nv3\n", encoding="utf-8")
    with pytest.raises(ValueError, match="contains 'v3' of val"):
        open_source("voc", tmp_path, "trainaug")


def test_trainaug_without_sbd_asks_for_it(tmp_path: Path) -> None:
    layouts.write_voc(tmp_path)
    (tmp_path / "benchmark_RELEASE").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="give its folder 'dataset' as sbd"):
        open_source("voc", tmp_path, "trainaug")
    assert len(open_source("voc", tmp_path, "trainaug", sbd=str(tmp_path / "elsewhere/dataset"))) == 4


def test_voc_val_never_falls_back_to_sbd(tmp_path: Path) -> None:
    layouts.write_voc(tmp_path)
    (tmp_path / "VOCdevkit/VOC2012/SegmentationClass/v3.png").unlink()
    with pytest.raises(ValueError, match=r"SegmentationClass/v3.png: this mask.*is missing"):
        open_source("voc", tmp_path, "val")


def test_voc_tags_come_from_xml_and_need_no_mask(tmp_path: Path) -> None:
    layouts.write_voc(tmp_path)
    for path in (tmp_path / "VOCdevkit/VOC2012/SegmentationClass").iterdir():
        path.unlink()
    source: Any = open_source("voc", tmp_path, "trainaug", tags_only=True)
    found = {source.ids[i]: np.flatnonzero(source.tags(i)).tolist() for i in range(len(source))}
    assert found == {"s1": [3, 7], "s2": [15], "v1": [1, 15], "v2": [12]}
    assert (source.read(0).mask == 255).all()
    assert TrainingSet(source, (8, 8), with_tags=True).with_tags


def test_voc_with_pseudo_masks(tmp_path: Path) -> None:
    truth = layouts.write_voc(tmp_path)["trainaug"]
    pseudo = {name: np.where(values == 255, 0, values).astype(np.uint8) for name, values in truth.items()}
    for name, values in pseudo.items():
        layouts.write_png(tmp_path / f"pseudo/{name}.png", values)
    assert_masks(open_source("voc", tmp_path, "trainaug", masks=str(tmp_path / "pseudo")), pseudo)


@pytest.mark.parametrize("split", ["train", "val"])
def test_cityscapes(tmp_path: Path, split: str) -> None:
    truth = layouts.write_cityscapes(tmp_path)
    assert_masks(open_source("cityscapes", tmp_path, split), truth[split])


def test_cityscapes_classes_agree_with_torchvision() -> None:
    evaluated = sorted((c.train_id, c.name, c.color) for c in datasets.Cityscapes.classes if 0 <= c.train_id < 255)
    assert CITYSCAPES_LABELS.class_names == tuple(name for _, name, _ in evaluated)
    np.testing.assert_array_equal(CITYSCAPES_LABELS.palette[:19], [colour for _, _, colour in evaluated])


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("split", ["train", "val"])
def test_pascal_context(tmp_path: Path, split: str, background: bool) -> None:
    truth = layouts.write_pascal_context(tmp_path, CONTEXT_CLASSES)[split]
    if not background:
        truth = {name: np.where(values == 0, 255, values.astype(int) - 1) for name, values in truth.items()}
    source = open_source("pascal_context", tmp_path, split, background=background)
    assert source.labels.num_classes == (60 if background else 59)
    assert_masks(source, truth)


def test_pascal_context_misses_a_name_in_the_list(tmp_path: Path) -> None:
    layouts.write_pascal_context(tmp_path, CONTEXT_CLASSES)
    path = tmp_path / "labels.txt"
    path.write_text(path.read_text(encoding="utf-8").replace(": bedclothes", ": sheets"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"labels.txt: no number for 'bedclothes'"):
        open_source("pascal_context", tmp_path, "train")


def painted(annotations: list[dict[str, Any]], image_id: int) -> NDArray[np.uint8]:
    """COCO's instances pixel by pixel: crowds below, then from the largest to the smallest."""
    index = {1: 1, 18: 2, 90: 3}
    mask = np.zeros((30, 40), dtype=np.uint8)
    mine = [a for a in annotations if a["image_id"] == image_id]
    centres = np.array([(x + 0.5, y + 0.5) for y in range(30) for x in range(40)])
    for annotation in sorted(mine, key=lambda a: (-a["iscrowd"], -a["area"])):
        shape = annotation["segmentation"]
        if annotation["iscrowd"]:
            runs = [value for number, count in enumerate(shape["counts"]) for value in [number % 2 == 1] * count]
            inside = np.array([[runs[x * 30 + y] for x in range(40)] for y in range(30)])
        else:
            outlines = [Outline(np.reshape(part, (-1, 2)), closed=False) for part in shape]
            inside = np.any([outline.contains_points(centres) for outline in outlines], axis=0).reshape(30, 40)
        mask[inside] = index[annotation["category_id"]]
    return mask


@pytest.mark.parametrize(("split", "offset"), [("train", 0), ("val", 100)])
def test_coco(tmp_path: Path, split: str, offset: int) -> None:
    annotations = layouts.write_coco(tmp_path)[split]
    source = open_source("coco", tmp_path, split)
    assert source.labels.class_names == ("background", "person", "dog", "toothbrush")
    truth = {f"COCO_{split}2014_{i + offset:012d}": painted(annotations, i + offset) for i in (3, 5, 7)}
    assert_masks(source, truth)
    assert [len(np.unique(mask)) for mask in truth.values()] == [3, 1, 4]


def test_coco_tags(tmp_path: Path) -> None:
    layouts.write_coco(tmp_path)
    source: Any = open_source("coco", tmp_path, "train", tags_only=True)
    assert [np.flatnonzero(source.tags(i)).tolist() for i in range(3)] == [[1, 2], [], [1, 2, 3]]
    assert (source.read(2).mask == 255).all()


@pytest.mark.parametrize("seed", range(20))
def test_polygons_agree_with_matplotlib(seed: int) -> None:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(-5, 35, (int(generator.integers(3, 12)), 2))
    mask = np.zeros((30, 28), dtype=np.uint8)
    fill_polygon(mask, corners, 9)
    centres = np.array([(x + 0.5, y + 0.5) for y in range(30) for x in range(28)])
    # even-odd, the rule for outlines that cross themselves: count the crossings of a ray by hand
    nexts = np.roll(corners, -1, axis=0)
    inside = np.zeros(len(centres), dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, nexts, strict=True):
        for number, (x, y) in enumerate(centres):
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                inside[number] ^= True
    np.testing.assert_array_equal(mask.ravel() == 9, inside)


def test_polygons_agree_with_pycocotools_up_to_the_outline() -> None:
    coco_mask = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(0)
    angles = np.sort(generator.uniform(0, 2 * np.pi, 30))
    radius = generator.uniform(60, 90, 30)
    corners = np.stack([100 + radius * np.cos(angles), 100 + radius * np.sin(angles)], axis=1)
    ours = np.zeros((200, 200), dtype=np.uint8)
    fill_polygon(ours, corners, 1)
    theirs = coco_mask.decode(coco_mask.frPyObjects([corners.ravel().tolist()], 200, 200))[:, :, 0]
    apart = np.count_nonzero(ours != theirs)
    outline = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1).sum()
    assert apart < 0.5 * outline
    assert abs(int(ours.sum()) - int(theirs.sum())) < 0.25 * outline


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": [[1.0, 1.0, 2.0, 2.0]]}, "annotation 1 has a polygon of fewer than three corners"),
        ({"segmentation": {"counts": "abc", "size": [30, 40]}}, "annotation 1 has compressed run lengths"),
    ],
)
def test_coco_outlines_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    layouts.write_coco(tmp_path)
    path = tmp_path / "annotations/instances_train2014.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["annotations"][0].update(change)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        open_source("coco", tmp_path, "train")


@pytest.mark.parametrize("split", ["train", "val"])
def test_ade20k(tmp_path: Path, split: str) -> None:
    truth = layouts.write_ade20k(tmp_path)
    assert_masks(open_source("ade20k", tmp_path, split), truth[split])
    assert_masks(open_source("ade20k", tmp_path / "ADEChallengeData2016", split), truth[split])
    assert ADE20K_LABELS.num_classes == 150
    assert ADE20K_LABELS.class_names[12] == "person"
    assert ADE20K_LABELS.palette[12].tolist() == [150, 5, 61]


@pytest.mark.parametrize("split", ["train", "val"])
def test_camvid(tmp_path: Path, split: str) -> None:
    truth = layouts.write_camvid(tmp_path)
    assert_masks(open_source("camvid", tmp_path, split), truth[split])


def test_folder(tmp_path: Path) -> None:
    source = open_source("folder", write_folder(tmp_path / "set"), "val")
    assert_masks(source, {f"v{i}": patches(24, 32, [0, 1, 2, 255], 100 + i) for i in range(2)})


def test_scenes_hold_no_void_and_only_their_classes() -> None:
    source = open_source("scenes", None, "train", length=3, size=(40, 60))
    for index in range(3):
        assert source.read(index).mask.max() < 9


WRITERS: dict[str, Any] = {
    "voc": layouts.write_voc,
    "cityscapes": layouts.write_cityscapes,
    "ade20k": layouts.write_ade20k,
    "camvid": layouts.write_camvid,
    "coco": layouts.write_coco,
    "pascal_context": lambda root: layouts.write_pascal_context(root, CONTEXT_CLASSES),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_missing_file_is_named_when_the_set_is_opened(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](tmp_path)
    source: Any = open_source(kind, tmp_path, "train")
    image, mask = source.files(0)
    gone = mask or image
    gone.unlink()
    with pytest.raises(ValueError, match="is missing") as error:
        open_source(kind, tmp_path, "train")
    assert str(gone) in str(error.value)
    assert len(open_source(kind, tmp_path, "train", must_exist=False)) == len(source)


@pytest.mark.parametrize("kind", [*WRITERS, "folder"])
def test_a_wrong_root_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match=str(tmp_path)):
        open_source(kind, tmp_path / "nothing", "train")


@pytest.mark.parametrize(("kind", "suffix"), [("voc", ".png"), ("cityscapes", ".png"), ("pascal_context", ".mat")])
def test_a_truncated_mask_is_named(tmp_path: Path, kind: str, suffix: str) -> None:
    WRITERS[kind](tmp_path)
    source: Any = open_source(kind, tmp_path, "train")
    mask = source.files(0).mask
    assert mask.suffix == suffix
    mask.write_bytes(mask.read_bytes()[:-60])
    with pytest.raises(ValueError, match="unreadable or truncated mask") as error:
        source.read(0)
    assert str(mask) in str(error.value)


def test_voc_names_and_colours() -> None:
    assert VOC_LABELS.num_classes == 21
    assert VOC_LABELS.palette[8].tolist() == [64, 0, 0]


def test_two_images_of_one_name_in_two_cities_are_refused(tmp_path: Path) -> None:
    layouts.write_cityscapes(tmp_path)
    images = tmp_path / "leftImg8bit" / "train"
    shutil.copy(images / "aachen/aachen_000000_000019_leftImg8bit.png", images / "ulm")
    with pytest.raises(ValueError, match=r"shares its id with .*aachen/aachen_000000"):
        open_source("cityscapes", tmp_path, "train")


def test_files_of_a_named_data_set_that_are_not_read_are_named(tmp_path: Path) -> None:
    layouts.write_cityscapes(tmp_path)
    (tmp_path / "leftImg8bit/train/ulm/ulm_000009_leftImg8bit.jpg").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"ulm_000009_leftImg8bit.jpg: not an image of this data set"):
        assert len(open_source("cityscapes", tmp_path, "train")) == 3


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("camvid", "trainannot/lost.png"),
        ("ade20k", "annotations/training/lost.png"),
        ("cityscapes", "gtFine/train/ulm/lost_gtFine_labelIds.png"),
    ],
)
def test_a_mask_of_a_named_data_set_without_an_image_is_named(kind: str, place: str, tmp_path: Path) -> None:
    getattr(layouts, f"write_{kind}")(tmp_path)
    home = tmp_path / "ADEChallengeData2016"
    path = (home if home.is_dir() else tmp_path) / place
    path.write_bytes(b"")
    with pytest.warns(UserWarning, match=rf"{path.name}: a mask without an image \(1 such\)"):
        open_source(kind, tmp_path, "train")


def test_an_image_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    layouts.write_voc(tmp_path)
    path = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt"
    path.write_text("v1\nv2\nv1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"train.txt: 'v1' is listed more than once"):
        open_source("voc", tmp_path, "train")
