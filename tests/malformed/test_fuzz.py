"""Random configurations and random damage to masks: a ValueError in one line, or a result that may be."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from malformed.pieces import CLASSES, COLOURS, saved
from selfreg.config import Config, known_keys, load_config
from selfreg.data.labels import Labels
from selfreg.data.masks import read_mask
from selfreg.data.reading import read_image

FUZZ = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LABELS = Labels(("a", "b", "c"), 255)
MASKS = [
    saved(CLASSES, "PNG"),
    saved(CLASSES, "PNG", compress_level=0),
    saved(CLASSES, "PNG", bits=2),
]
PICTURES = [saved(COLOURS, format) for format in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")]

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
keys = st.sampled_from([*known_keys()]) | st.text(max_size=6)


def result_or_refusal(read: Callable[[], Any], name: str) -> Any:
    """What is read, or None where that is refused as it should be, by `name` and in one line."""
    try:
        return read()
    except ValueError as error:
        refusal = error
    assert type(refusal) is ValueError
    assert name in str(refusal) or "--set" in str(refusal)
    assert len(str(refusal).splitlines()) == 1
    return None


def load(path: Path, overrides: tuple[str, ...] = ()) -> None:
    config = result_or_refusal(lambda: load_config(path, overrides), str(path))
    assert config is None or isinstance(config, Config)


@FUZZ
@given(entries=st.dictionaries(keys, values, max_size=5))
def test_any_mapping_is_a_configuration_or_refused(tmp_path: Path, entries: dict[str, Any]) -> None:
    nested: dict[str, Any] = {}
    for key, value in entries.items():
        section, _, name = key.partition(".")
        inner = nested.setdefault(section, {} if name else value)
        if name and isinstance(inner, dict):
            inner[name] = value
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(nested, allow_unicode=True), encoding="utf-8", errors="replace")
    load(path)


@FUZZ
@given(data=st.binary(max_size=80) | st.text(alphabet="&*!<>[]{}:,-?|'\"# \n\tab01.~%@`", max_size=60).map(str.encode))
def test_any_bytes_are_a_configuration_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(data)
    load(path)


@FUZZ
@given(override=st.text(max_size=30) | st.builds("{}={}".format, keys, st.text(max_size=12)))
def test_any_override_is_taken_or_refused(tmp_path: Path, override: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("", encoding="utf-8")
    load(path, (override,))


@st.composite
def damaged(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["bit", "byte", "cut", "insert", "end", "swap"])):
            case "bit" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "byte" if data:
                data[place] = draw(st.integers(0, 255))
            case "cut":
                del data[place : place + draw(st.integers(1, 40))]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=20))
            case "end":
                del data[place:]
            case "swap":
                data[place : place + 8] = reversed(data[place : place + 8])
    return bytes(data)


@FUZZ
@given(data=damaged(MASKS))
def test_a_damaged_mask_is_refused_or_still_the_same(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.png"
    path.write_bytes(data)
    mask = result_or_refusal(lambda: read_mask(path, LABELS), str(path))
    if mask is not None:
        # what is not refused must not be garbage: the checksums of a PNG cover the pixels
        np.testing.assert_array_equal(mask, CLASSES)


@pytest.mark.filterwarnings("ignore")
@FUZZ
@given(data=damaged(PICTURES))
def test_a_damaged_picture_is_refused_or_a_picture(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "i.jpg"
    # sizes that damage makes up, below the limit, would only cost time
    if _claims_more_than(data, 2**22):
        return
    path.write_bytes(data)
    pixels = result_or_refusal(lambda: read_image(path), str(path))
    if pixels is not None:
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3


def _claims_more_than(data: bytes, pixels: int) -> bool:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.width * picture.height > pixels
    except Exception:
        return False
