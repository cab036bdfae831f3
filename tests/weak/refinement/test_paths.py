import pytest
import torch

from selfreg.weak.refinement.paths import displacements, ends, path, path_maxima


def test_every_pair_within_the_radius_is_there_once() -> None:
    near = [(i, j) for i in range(-9, 10) for j in range(-9, 10) if 0 < i * i + j * j < 25]
    found = displacements(5)
    assert len(set(found)) == len(found) == len(near) / 2
    assert sorted([*found, *((-i, -j) for i, j in found)]) == near


def test_a_radius_without_neighbours_is_refused() -> None:
    with pytest.raises(ValueError, match="the radius is 1 pixels of the grid"):
        displacements(1)


def test_a_path_holds_the_pixels_nearest_to_the_line() -> None:
    assert path((0, 3)) == ((0, 0), (0, 1), (0, 2), (0, 3))
    assert path((2, -2)) == ((0, 0), (1, -1), (2, -2))
    assert path((1, 3)) == ((0, 0), (0, 1), (1, 2), (1, 3))
    assert path((4, -1)) == ((0, 0), (1, 0), (2, -1), (2, 0), (3, -1), (4, -1))


@pytest.mark.parametrize("displacement", displacements(6))
def test_a_path_reversed_or_mirrored_is_the_path_of_the_reverse_or_mirror_image(displacement: tuple[int, int]) -> None:
    down, right = displacement
    pixels = set(path(displacement))
    assert {(down - i, right - j) for i, j in pixels} == pixels
    assert {(i, -j) for i, j in pixels} == set(path((down, -right)))
    # the line itself: no pixel of the path is further from it than half a pixel, along the axis it runs less along
    if down >= abs(right):
        assert all(abs(j * down - i * right) * 2 <= down for i, j in pixels)
    else:
        assert all(abs(i * right - j * down) * 2 <= abs(right) for i, j in pixels)


@pytest.mark.parametrize("displacement", [(0, 2), (2, 0), (2, 1), (1, -3), (4, -4), (9, 0)])
def test_ends_and_maxima_belong_to_the_same_pairs(displacement: tuple[int, int]) -> None:
    down, right = displacement
    values = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0))
    first, second = ends(values, displacement)
    maxima = path_maxima(values, displacement)
    pairs = [(i, j) for i in range(5) for j in range(7) if i + down < 5 and 0 <= j + right < 7]
    assert maxima.shape == first.shape == second.shape
    assert maxima[0].numel() == len(pairs)
    for image in range(2):
        for place, (i, j) in enumerate(pairs):
            assert first[image].flatten()[place] == values[image, i, j]
            assert second[image].flatten()[place] == values[image, i + down, j + right]
            on_path = max(float(values[image, i + a, j + b]) for a, b in path(displacement))
            assert maxima[image].flatten()[place] == on_path
