from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw

from report.pages import label_map, palette, photograph
from selfreg.report.embed import Album, Level, outline_path, zoom_window


def corners(path: str) -> list[list[tuple[int, int]]]:
    loops = [loop.removesuffix("Z") for loop in path.split("M") if loop]
    return [[(int(x), int(y)) for x, y in (point.split() for point in loop.split("L"))] for loop in loops]


def area(loop: list[tuple[int, int]]) -> float:
    """Shoelace formula, positive where the inside is on the right of the way (y grows downward)."""
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(loop, loop[1:] + loop[:1], strict=True)) / 2


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_outline_encloses_exactly_the_region(region: np.ndarray) -> None:
    loops = corners(outline_path(region))
    assert sum(area(loop) for loop in loops) == region.sum()
    for loop in loops:
        steps = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(loop, loop[1:] + loop[:1], strict=True)]
        assert all((x == 0) != (y == 0) for x, y in steps)


def test_outline_of_a_ring_has_an_outer_loop_and_a_hole() -> None:
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    assert sorted(area(loop) for loop in corners(outline_path(ring))) == [-1, 25]


def test_straight_sides_have_no_corners_between() -> None:
    region = np.zeros((20, 30), bool)
    region[5:15, 10:25] = True
    assert len(corners(outline_path(region))[0]) <= 5


def test_outline_of_a_huge_region_is_short_and_in_its_place() -> None:
    rows, columns = np.ogrid[:1000, :2000]
    disk = (rows - 500) ** 2 + (columns - 1000) ** 2 < 400**2
    path = outline_path(disk)
    points = np.array([point for loop in corners(path) for point in loop])
    assert len(path) < 8000
    assert np.abs(np.hypot(points[:, 0] - 1000, points[:, 1] - 500) - 400).max() < 10


@given(st.integers(0, 80), st.integers(0, 110), st.integers(1, 90), st.integers(1, 120))
def test_zoom_window_holds_the_box_inside_the_image_at_its_aspect(top: int, left: int, rows: int, columns: int) -> None:
    box = (top, left, min(top + rows, 90), min(left + columns, 120))
    first_row, first_column, last_row, last_column = zoom_window(box, 90, 120)
    assert 0 <= first_row <= box[0] < box[2] <= last_row <= 90
    assert 0 <= first_column <= box[1] < box[3] <= last_column <= 120
    assert (last_column - first_column) / (last_row - first_row) == pytest.approx(4 / 3, rel=0.08)


def opened(uri: str) -> Image.Image:
    return Image.open(BytesIO(b64decode(uri.split(",", 1)[1])))


def test_mask_is_a_palette_picture_with_void_hatched() -> None:
    album = Album(Level(640, 320, 80), palette(), 255)
    label = label_map(1)
    picture = opened(album.pictures[album.add_mask(label)])
    assert picture.mode == "P"
    colours = np.asarray(picture.convert("RGBA"))
    valid = label != 255
    assert (colours[valid][:, :3] == palette()[label[valid]]).all()
    assert (colours[valid][:, 3] == 255).all()
    assert len(np.unique(colours[~valid], axis=0)) == 2
    assert (colours[~valid][:, 3] < 255).all()


def test_void_is_hatched_whatever_its_index_and_however_many_classes() -> None:
    for ignore_index, label in ((0, np.arange(256).reshape(16, 16)), (11, np.full((4, 4), 11))):
        album = Album(Level(640, 320, 80), palette(), ignore_index)
        picture = opened(album.pictures[album.add_mask(label.astype(np.uint8))])
        opacity = np.asarray(picture.convert("RGBA"))[..., 3]
        assert ((opacity < 255) == (label == ignore_index)).all()


def test_a_picture_shown_twice_is_stored_once() -> None:
    album = Album(Level(640, 320, 80), palette(), 255)
    first = album.add_photo(photograph(1))
    assert album.add_photo(photograph(1).copy()) == first
    assert album.add_photo(photograph(1), (0, 0, 40, 60)) != first
    assert album.add_photo(photograph(2)) != first
    assert album.size == sum(map(len, album.pictures.values()))


def test_pictures_are_shrunk_to_the_level_and_never_enlarged() -> None:
    album = Album(Level(60, 500, 80), palette(), 255)
    assert opened(album.pictures[album.add_photo(photograph(1))]).size == (60, 45)
    assert opened(album.pictures[album.add_photo(photograph(1), (0, 0, 45, 60))]).size == (60, 45)
    assert opened(album.pictures[album.add_mask(label_map(1))]).size == (60, 45)


def test_outline_drawn_by_another_library_covers_the_region() -> None:
    region = label_map(3) == 1
    (loop,) = corners(outline_path(region))
    canvas = Image.new("1", (1200, 900))
    ImageDraw.Draw(canvas).polygon([(10 * x, 10 * y) for x, y in loop], fill=1)
    drawn = np.asarray(canvas)[5::10, 5::10]
    assert (drawn == region).all()
