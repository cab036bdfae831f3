from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from fixtures.folder import photograph
from selfreg.checking.duplicates import NEAR_BITS
from selfreg.checking.inspection import guess_palette, object_sizes, perceptual_hash
from selfreg.data import Scenes
from selfreg.data.camvid import CAMVID_LABELS
from selfreg.data.cityscapes import CITYSCAPES_LABELS
from selfreg.data.labels import Labels
from selfreg.data.voc import VOC_LABELS


def test_objects_are_components_by_class_and_size_and_void_is_none() -> None:
    mask = np.full((100, 100), 255, dtype=np.uint8)
    mask[:50] = 0  # half the image
    mask[60:64, 10:14] = 1  # 16 pixels: 0.16 %
    mask[64:68, 14:18] = 1  # touches at a corner: the same object, now 0.32 %
    mask[80, 80] = 1  # one pixel: 0.01 %
    mask[90:100, 90:100] = 3  # exactly 1 %
    assert object_sizes(mask) == {0: (0, 0, 0, 0, 1), 1: (0, 1, 1, 0, 0), 3: (0, 0, 0, 1, 0)}


def test_a_mask_of_void_has_no_objects() -> None:
    assert object_sizes(np.full((10, 10), 255, dtype=np.uint8)) == {}


def thumbnail(picture: Image.Image) -> int:
    return perceptual_hash(picture.convert("L").resize((32, 32), Image.Resampling.BOX))


def test_a_picture_saved_again_keeps_its_hash_and_another_has_another(tmp_path: Path) -> None:
    scenes = Scenes("train", 12, (90, 120))
    pictures = [Image.fromarray(scenes.read(index).image) for index in range(12)]
    for picture in pictures:
        again = ImageEnhance.Brightness(picture.resize((110, 84))).enhance(1.1)
        again.save(tmp_path / "again.jpg", quality=60)
        with Image.open(tmp_path / "again.jpg") as reread:
            assert (thumbnail(picture) ^ thumbnail(reread)).bit_count() <= NEAR_BITS
    hashes = [thumbnail(picture) for picture in pictures]
    assert min((one ^ other).bit_count() for one, other in combinations(hashes, 2)) > NEAR_BITS


@pytest.mark.parametrize(
    ("labels", "name"), [(VOC_LABELS, "PASCAL VOC"), (CITYSCAPES_LABELS, "Cityscapes"), (CAMVID_LABELS, "CamVid")]
)
def test_colours_of_a_known_palette_are_recognised(tmp_path: Path, labels: Labels, name: str) -> None:
    mask = np.random.default_rng(0).integers(0, labels.num_classes, (20, 20))
    Image.fromarray(labels.palette[mask]).save(tmp_path / "m.png")
    own = Labels(("a", "b"))
    assert guess_palette(tmp_path / "m.png", own) == name
    assert guess_palette(tmp_path / "m.png", labels) == "the data set's own labels"
    Image.fromarray(photograph(20, 20)).save(tmp_path / "m.png")
    assert guess_palette(tmp_path / "m.png", own) is None
