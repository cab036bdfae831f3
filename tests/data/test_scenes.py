import numpy as np
import pytest

from selfreg.data import Scenes
from selfreg.data.scenes.painting import Canvas, ellipse, polygon, rectangle, stroke


def test_a_scene_depends_on_seed_split_and_index_alone() -> None:
    first, longer = Scenes("train", 3, (48, 64)), Scenes("train", 9, (48, 64))
    np.testing.assert_array_equal(first.read(2).image, longer.read(2).image)
    np.testing.assert_array_equal(first.read(2).mask, longer.read(2).mask)
    for other in (Scenes("val", 3, (48, 64)), Scenes("train", 3, (48, 64), seed=1)):
        assert not np.array_equal(first.read(2).image, other.read(2).image)


@pytest.mark.parametrize("size", [(128, 192), (32, 32), (90, 50)])
def test_pairs_have_the_asked_size_and_labels_in_range(size: tuple[int, int]) -> None:
    scenes = Scenes("train", 6, size)
    for index in range(len(scenes)):
        image, mask = scenes.read(index)
        assert image.shape == (*size, 3)
        assert mask.shape == size
        assert image.dtype == mask.dtype == np.uint8
        assert mask.max() < scenes.labels.num_classes
        assert image.std() > 10


def test_every_class_occurs_and_small_ones_stay_small() -> None:
    scenes = Scenes("train", 40, (96, 144))
    shares = np.mean([np.bincount(scenes.read(i).mask.ravel(), minlength=9) / (96 * 144) for i in range(40)], axis=0)
    named = dict(zip(scenes.labels.class_names, shares, strict=True))
    assert min(shares) > 0
    assert named["bird"] < 0.02
    assert named["pole"] < 0.05
    assert named["ground"] > 0.25


def test_tags_are_the_classes_of_the_mask() -> None:
    scenes = Scenes("val", 2, (64, 96))
    assert np.flatnonzero(scenes.tags(1)).tolist() == np.unique(scenes.read(1).mask).tolist()


def test_no_length_no_room_and_no_such_scene_are_refused() -> None:
    with pytest.raises(ValueError, match="length 0"):
        Scenes("train", 0)
    with pytest.raises(ValueError, match="at least 32"):
        Scenes("train", 1, (16, 64))
    with pytest.raises(IndexError):
        Scenes("train", 2).read(2)


def test_labels_are_exact_and_edges_soft() -> None:
    canvas = Canvas(40, 40, np.random.default_rng(0))
    canvas.paint(ellipse(20.0, 20.0, 12.0, 8.0), (1.0, 1.0, 1.0), 3)
    rows, columns = np.mgrid[:40, :40] + 0.5
    inside = ((columns - 20) / 12) ** 2 + ((rows - 20) / 8) ** 2 < 1
    np.testing.assert_array_equal(canvas.mask == 3, inside)
    bright = canvas.image[:, :, 0]
    assert ((bright > 0.05) & (bright < 0.95)).any()
    np.testing.assert_array_equal(bright > 0.5, inside)


def test_shapes_cover_the_area_they_should() -> None:
    expected = {
        rectangle(5, 6, 25, 16): 200,
        polygon((10, 5), (30, 35), (10, 35)): 300,
        stroke((10, 20), (30, 20), 3): 20 * 6 + np.pi * 9,
        rectangle(0, 0, 10, 10) | rectangle(5, 0, 15, 10): 150,
    }
    for shape, area in expected.items():
        canvas = Canvas(40, 40, np.random.default_rng(0))
        canvas.paint(shape, (1.0, 1.0, 1.0), 1)
        assert np.count_nonzero(canvas.mask) == pytest.approx(area, rel=0.04)


def test_a_shape_outside_the_canvas_paints_nothing() -> None:
    canvas = Canvas(40, 40, np.random.default_rng(0))
    canvas.paint(rectangle(100, 100, 120, 120), (1.0, 1.0, 1.0), 1)
    canvas.shade(rectangle(-90, -90, -70, -70), 2, 0.5)
    assert not canvas.mask.any()
    assert not canvas.image.any()
