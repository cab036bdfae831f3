"""The exits: their shapes, their start and their price."""

import pytest
import torch

from selfreg.regulation import ClassMapExit, Exit, ImageHead


@pytest.mark.parametrize(("step", "size"), [(1, (12, 10)), (2, (6, 5))])
def test_an_exit_gives_class_map_image_logits_and_narrow_features(step: int, size: tuple[int, int]) -> None:
    class_map, logits, features = Exit(6, 4, width=8, step=step)(torch.randn(2, 6, 12, 10))
    assert class_map.shape == (2, 4, *size)
    assert logits.shape == (2, 4)
    assert features.shape == (2, 8, *size)


def test_image_logits_start_as_the_mean_of_the_class_map() -> None:
    class_map = torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(ImageHead(4)(class_map), class_map.mean((2, 3)))


def test_image_logits_are_pooled_in_float32() -> None:
    class_map = torch.full((1, 2, 64, 64), 1000.0, dtype=torch.float16)
    assert ImageHead(2)(class_map).tolist() == [[1000.0, 1000.0]]


def test_a_class_map_passes_its_exit_unchanged() -> None:
    given = torch.randn(2, 4, 3, 5)
    class_map, logits, features = ClassMapExit(4)(given)
    assert class_map is given
    assert logits.shape == (2, 4)
    assert features.shape == (2, 0, 3, 5)
    assert ClassMapExit(4, width=8)(given)[2].shape == (2, 8, 3, 5)


def test_an_exit_is_a_fraction_of_the_authors() -> None:
    # Two 3 x 3 convolutions to 256 and a 1 x 1 to K on 1024 channels
    authors = 9 * 1024 * 256 + 9 * 256 * 256 + 256 * 21
    assert sum(parameter.numel() for parameter in Exit(1024, 21).parameters()) < 0.015 * authors
