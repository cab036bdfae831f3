"""Pseudo masks as training data: the machine's masks, a person's tags, and how sure the machine was."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.folder import write_folder
from selfreg.data import Folder, PseudoLabels, Scenes, TrainingSet, open_pseudo_labels
from selfreg.data.loader import Draw
from selfreg.files import write_json


@pytest.fixture
def source(tmp_path: Path) -> Folder:
    extra = {"image_labels": {name: ["road"] for name in ("t0", "t1", "t2")}}
    classes = ("background", "road", "car")
    root = write_folder(tmp_path / "set", classes=classes, void=None, extra=extra)
    return Folder(root, "train", tags_only=True)


@pytest.fixture
def folder(tmp_path: Path, source: Folder) -> Path:
    for name in ("pseudo", "confidence"):
        (tmp_path / "made" / name).mkdir(parents=True)
    for number, image_id in enumerate(source.ids):
        mask = np.full((24, 32), 2, dtype=np.uint8)
        mask[:, :16] = 255
        Image.fromarray(mask).save(tmp_path / "made" / "pseudo" / f"{image_id}.png")
        sure = np.full((24, 32), 51 * (number + 1), dtype=np.uint8)
        Image.fromarray(sure).save(tmp_path / "made" / "confidence" / f"{image_id}.png")
    write_json(tmp_path / "made" / "pseudo.json", {"class_names": list(source.labels.class_names)})
    return tmp_path / "made"


def test_masks_come_from_the_folder_and_tags_from_the_source(source: Folder, folder: Path) -> None:
    labels = open_pseudo_labels(source, folder)
    image, mask = labels.read(1)
    assert np.array_equal(image, source.read(1).image)
    assert np.unique(mask).tolist() == [2, 255]
    # car is in the mask and no tag, road is a tag and not in the mask; background is in every image
    assert labels.tags(1).tolist() == [1, 1, 0]
    assert labels.files(1).mask == folder / "pseudo" / "t1.png"


def test_void_is_255_even_where_the_data_have_no_void(source: Folder, folder: Path) -> None:
    assert source.labels.void is None
    assert open_pseudo_labels(source, folder).labels.void == 255


def test_a_crop_carries_tags_and_confidence(source: Folder, folder: Path) -> None:
    labels = open_pseudo_labels(source, folder)
    item = TrainingSet(labels, (24, 32), scale=(1, 1), with_tags=True)[Draw(1, 0)]
    assert item["tags"].tolist() == [1, 1, 0]
    assert item["confidence"].unique().tolist() == pytest.approx([0.4])
    without = TrainingSet(open_pseudo_labels(source, folder, confidence=False), (24, 32), with_tags=True)
    assert "confidence" not in without[Draw(1, 0)]


def test_masks_are_renumbered_by_name_where_the_data_list_their_classes_in_another_order(
    source: Folder, folder: Path
) -> None:
    write_json(folder / "pseudo.json", {"class_names": ["car", "background", "road"]})
    mask = open_pseudo_labels(source, folder).read(0).mask
    # index 2 of the masks on disk is road, which is index 1 of the data
    assert np.unique(mask).tolist() == [1, 255]


@pytest.mark.parametrize("names", [["background", "road"], ["background", "road", "bus"]])
def test_masks_of_other_classes_are_refused(source: Folder, folder: Path, names: list[str]) -> None:
    write_json(folder / "pseudo.json", {"class_names": names})
    with pytest.raises(ValueError, match=r"made: the set of pseudo masks has \d classes, the data have 3: .*'car'"):
        open_pseudo_labels(source, folder)


def test_masks_whose_classes_are_not_recorded_give_a_warning(source: Folder, folder: Path) -> None:
    (folder / "pseudo.json").unlink()
    with pytest.warns(UserWarning, match=r"pseudo\.json: does not name the classes"):
        assert np.unique(open_pseudo_labels(source, folder).read(0).mask).tolist() == [2, 255]


def test_a_missing_mask_is_named_before_anything_is_read(source: Folder, folder: Path) -> None:
    (folder / "pseudo" / "t1.png").unlink()
    with pytest.raises(ValueError, match=r"t1\.png: no such pseudo mask \(1 of 3 missing\)"):
        PseudoLabels(source, folder)


def test_a_confidence_of_another_size_is_refused(source: Folder, folder: Path) -> None:
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(folder / "confidence" / "t0.png")
    with pytest.raises(ValueError, match=r"t0\.png: has another size than its pseudo mask"):
        TrainingSet(open_pseudo_labels(source, folder), (24, 32))[Draw(0, 0)]


def test_a_source_without_files_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="pseudo masks need them"):
        open_pseudo_labels(Scenes("train", 2), folder)
