import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.folder import patches, write_folder
from selfreg.data import Folder, Labels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "set", void=11)


def test_pairs_come_sorted_with_void_as_255(root: Path) -> None:
    folder = Folder(root, "train")
    assert folder.ids == ("t0", "t1", "t2")
    assert len(folder) == 3
    assert folder.labels == Labels(("sky", "road", "car"), 11)
    image, mask = folder.read(1)
    written = patches(24, 32, [0, 1, 2, 11], seed=1)
    assert image.shape == (24, 32, 3)
    np.testing.assert_array_equal(mask, np.where(written == 11, 255, written))


def test_jpg_jpeg_and_png_are_images_in_any_case(root: Path) -> None:
    images = root / "images" / "train"
    (images / "t0.jpg").rename(images / "t0.JPG")
    (images / "t1.jpg").rename(images / "t1.jpeg")
    Image.open(images / "t2.jpg").save(images / "t2.png")
    (images / "t2.jpg").unlink()
    (images / ".hidden.jpg").write_text("", encoding="utf-8")
    folder = Folder(root, "train")
    assert folder.ids == ("t0", "t1", "t2")
    assert folder.read(2).image.shape == (24, 32, 3)


def test_a_missing_mask_is_named_before_anything_is_read(root: Path) -> None:
    (root / "masks" / "train" / "t1.png").unlink()
    with pytest.raises(ValueError, match=r"masks/train/t1.png: the mask of t1.jpg is missing"):
        Folder(root, "train")


def test_a_mask_without_an_image_is_a_warning(root: Path) -> None:
    (root / "images" / "train" / "t1.jpg").unlink()
    with pytest.warns(UserWarning, match=r"t1.png: a mask without an image \(1 such\)"):
        assert len(Folder(root, "train")) == 2


def test_an_empty_or_unknown_split_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match=r"images/test: no such folder.*splits found: train, val"):
        Folder(root, "test")
    (root / "images" / "test").mkdir()
    with pytest.raises(ValueError, match=r"images/test: the split is empty"):
        Folder(root, "test")


def test_two_images_of_one_id_are_refused(root: Path) -> None:
    shutil.copy(root / "images" / "train" / "t0.jpg", root / "images" / "train" / "t0.jpeg")
    with pytest.raises(ValueError, match="shares its id"):
        Folder(root, "train")


def test_faults_inside_files_are_named_when_read(root: Path) -> None:
    Image.fromarray(np.full((24, 32), 7, dtype=np.uint8)).save(root / "masks" / "train" / "t0.png")
    Image.fromarray(np.zeros((5, 5), dtype=np.uint8)).save(root / "masks" / "train" / "t1.png")
    folder = Folder(root, "train")
    with pytest.raises(ValueError, match="t0.png: mask holds 7"):
        folder.read(0)
    with pytest.raises(ValueError, match="t1.png: mask is 5x5"):
        folder.read(1)


def test_tags_come_from_the_label_file_and_never_from_masks(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", extra={"image_labels": {"t0": ["car", "sky"], "t1": []}})
    shutil.rmtree(root / "masks")
    with pytest.raises(ValueError, match=r"labels.json: no tags for 't2'"):
        Folder(root, "train", tags_only=True)
    folder = Folder(root, "train", tags_only=True, must_exist=False)
    assert folder.tags(0).tolist() == [1, 0, 1]
    assert folder.tags(0).dtype == np.float32
    assert folder.tags(1).tolist() == [0, 0, 0]
    assert (folder.read(0).mask == 255).all()
    assert folder.files(0).mask is None
    with pytest.raises(ValueError, match=r"labels.json: no tags for 't2'"):
        folder.tags(2)
    with pytest.raises(ValueError, match=r"masks/train: no such folder"):
        Folder(root, "train")
