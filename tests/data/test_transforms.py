from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from selfreg.data import Pair, TrainingTransform, normalise
from selfreg.data.pixels import colour_map
from selfreg.data.transforms import draw_span

PLAIN: dict[str, Any] = {"flip": False, "colour": 0.0, "mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
"""Leaves pixel values as they are: what comes out can be compared with coordinates."""


def ramp(height: int, width: int) -> Pair:
    """An image whose red is the column and green the row, and a mask that holds the column: at most 250 wide."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return Pair(np.stack([columns, rows, np.zeros_like(rows)], axis=2), columns)


def row_ramp(height: int, width: int) -> Pair:
    pair = ramp(height, width)
    return Pair(pair.image, np.ascontiguousarray(pair.image[:, :, 1]))


sizes = st.integers(8, 250)
crops = st.integers(8, 64)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, crops, crops, st.floats(0.4, 2.6), st.integers(0, 2**62), st.booleans())
def test_image_and_mask_never_drift(
    height: int, width: int, crop_height: int, crop_width: int, scale: float, seed: int, flip: bool
) -> None:
    options = {**PLAIN, "flip": flip}
    transform = TrainingTransform((crop_height, crop_width), (scale, scale), **options)
    for channel, pair in ((0, ramp(height, width)), (1, row_ramp(height, width))):
        image, mask, _ = transform(pair, seed)
        assert image.shape == (3, crop_height, crop_width)
        assert mask.shape == (crop_height, crop_width)
        valid = mask != 255
        apart = (image[channel] - mask)[valid]
        # half a pixel of nearest, half a grey level of rounding, and at the window's border the halved filter
        assert apart.abs().max() <= 1.01 + 0.5 / scale


def test_image_and_mask_do_not_drift_on_average() -> None:
    apart = []
    for seed in range(40):
        image, mask, _ = TrainingTransform((48, 64), (0.6, 2.4), **PLAIN)(ramp(120, 200), seed)
        apart.append(float((image[0] - mask)[mask != 255].mean()))
    assert abs(np.mean(apart)) < 0.04


@pytest.mark.parametrize("seed", range(12))
def test_crop_then_resize_equals_torchvision_on_the_same_window(seed: int) -> None:
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    mask = generator.integers(0, 20, (90, 120), dtype=np.uint8)
    transform = TrainingTransform((40, 56), (0.7, 2.0), **PLAIN)
    rows, columns = transform.draw_window(90, 120, np.random.default_rng(seed))
    got_image, got_mask, _ = transform(Pair(image, mask), seed)
    window = (rows.start, columns.start, rows.length, columns.length)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    expected = functional.resized_crop(tensor, *window, size=[40, 56], antialias=True)
    labels = functional.resized_crop(
        torch.from_numpy(mask)[None], *window, size=[40, 56], interpolation=InterpolationMode.NEAREST_EXACT
    )
    assert (got_image - expected).abs().max() <= 1
    assert (got_image - expected).abs().mean() < 0.25  # older versions of torch round rows of RGB and planes apart
    assert torch.equal(got_mask, labels[0].long())


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.floats(0.05, 0.4), st.integers(0, 2**62), st.booleans())
def test_padding_is_void_and_mean_colour_and_nothing_else_is(
    height: int, width: int, scale: float, seed: int, flip: bool
) -> None:
    transform = TrainingTransform((112, 112), (scale, scale), flip=flip)
    image, mask, sure = transform(ramp(height, width), seed, np.ones((height, width), dtype=np.float32))
    scaled = max(1, round(height * scale)), max(1, round(width * scale))
    inside = mask != 255
    assert int(inside.sum()) == scaled[0] * scaled[1]
    assert int(inside.any(1).sum()) == scaled[0]
    assert (image[:, ~inside] == 0).all()
    assert sure is not None
    assert torch.equal(sure == 1, inside)
    assert (sure[~inside] == 0).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500), st.integers(1, 200), st.floats(0.1, 4.0), st.integers(0, 2**62))
def test_a_span_lies_within_the_image_and_the_crop_and_keeps_the_scale(
    length: int, size: int, scale: float, seed: int
) -> None:
    span = draw_span(length, size, scale, np.random.default_rng(seed))
    assert 0 <= span.start <= span.start + span.length <= length
    assert 0 <= span.offset <= span.offset + span.size <= size
    assert abs(span.size - span.length * scale) <= max(0.5, 0.5 * scale) + 1e-6 or span.length == 1 or span.size == 1
    places = span.nearest()
    assert places.min() >= span.start
    assert places.max() < span.start + span.length


def test_all_places_of_a_crop_occur_and_equally_often() -> None:
    starts = [draw_span(20, 10, 1.0, np.random.default_rng(seed)).start for seed in range(2200)]
    counts = np.bincount(starts, minlength=11)
    assert len(counts) == 11
    assert counts.min() > 140
    assert counts.max() < 270
    offsets = {draw_span(4, 10, 1.0, np.random.default_rng(seed)).offset for seed in range(200)}
    assert offsets == set(range(7))


def test_short_side_and_scale_multiply() -> None:
    transform = TrainingTransform((50, 50), (1.5, 1.5), short_side=60, **PLAIN)
    rows, columns = transform.draw_window(120, 200, np.random.default_rng(0))
    assert rows.length == columns.length == round(50 / (0.5 * 1.5))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**62))
def test_labels_are_never_invented(seed: int) -> None:
    mask = np.random.default_rng(seed).choice(np.array([3, 7, 250], dtype=np.uint8), (30, 40))
    _, crop, _ = TrainingTransform((24, 24))(Pair(np.zeros((30, 40, 3), np.uint8), mask), seed)
    assert set(np.unique(crop.numpy()).tolist()) <= {3, 7, 250, 255}


def test_half_of_the_crops_are_mirrored_and_mirrored_whole() -> None:
    pair = ramp(32, 48)
    transform = TrainingTransform((32, 48), (1, 1), **{**PLAIN, "flip": True})
    mirrored = 0
    for seed in range(60):
        image, mask, _ = transform(pair, seed)
        expected = pair.mask[:, ::-1] if mask[0, 0] > 0 else pair.mask
        mirrored += int(mask[0, 0] > 0)
        assert torch.equal(mask, torch.from_numpy(expected.astype(np.int64)))
        assert torch.equal(image[0].long(), mask)
    assert 15 < mirrored < 45


def test_the_same_seed_gives_the_same_crop_and_another_another() -> None:
    pair = Pair(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8), ramp(60, 80).mask)
    transform = TrainingTransform((32, 32))
    first, again, other = transform(pair, 5), transform(pair, 5), transform(pair, 6)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def middle_greys(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(110, 140, (40, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize("seed", range(6))
def test_colour_follows_torchvision_where_nothing_is_clipped(seed: int) -> None:
    image = np.kron(middle_greys(seed)[:5, :5], np.ones((8, 8, 1), dtype=np.uint8))
    matrix = np.array(colour_map(torch.from_numpy(image).permute(2, 0, 1), 0.3, np.random.default_rng(seed)))
    got = image @ matrix[:, :3].T + matrix[:, 3]
    brightness, contrast, saturation = np.random.default_rng(seed).uniform(0.7, 1.3, size=3)
    tensor = torch.from_numpy(image / 255.0).permute(2, 0, 1)
    expected = functional.adjust_brightness(tensor, brightness)
    expected = functional.adjust_contrast(expected, contrast)
    expected = functional.adjust_saturation(expected, saturation)
    # torchvision rounds its luma weights to 0.2989, 0.587, 0.114, which do not sum to one
    np.testing.assert_allclose(got, 255 * expected.permute(1, 2, 0).numpy(), atol=0.1)


def test_colour_stays_within_black_and_white() -> None:
    pair = Pair(np.random.default_rng(0).choice([0, 255], (40, 40, 3)).astype(np.uint8), np.zeros((40, 40), np.uint8))
    transform = TrainingTransform((40, 40), (1, 1), colour=0.8)
    mean, std = torch.tensor(transform.mean)[:, None, None], torch.tensor(transform.std)[:, None, None]
    extremes = []
    for seed in range(10):
        pixels = transform(pair, seed)[0] * std + mean
        assert pixels.min() >= -1e-6
        assert pixels.max() <= 1 + 1e-6
        extremes += [float(pixels.min()), float(pixels.max())]
    assert min(abs(value) for value in extremes) < 1e-6
    assert min(abs(value - 1) for value in extremes) < 1e-6


def test_normalise_is_the_textbook_formula() -> None:
    image = middle_greys(1)
    expected = (torch.from_numpy(image).permute(2, 0, 1) / 255 - 0.4) / 0.2
    torch.testing.assert_close(normalise(image, (0.4,) * 3, (0.2,) * 3), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_size": (0, 4)}, "crop_size"),
        ({"scale": (2.0, 0.5)}, "scale"),
        ({"scale": (0.0, 0.5)}, "scale"),
        ({"colour": 2.0}, "colour"),
        ({"std": (1.0, 0.0, 1.0)}, "std"),
        ({"short_side": 0}, "short_side"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingTransform(**{"crop_size": (8, 8), **options})  # type: ignore[arg-type]
