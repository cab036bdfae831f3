"""Files appear whole or not at all."""

import json
from pathlib import Path

import pytest

from selfreg.files import whole_file, write_json, write_text


def test_a_failure_half_way_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    write_text(path, "old")

    def fail() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("ne")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["numbers.json"]


def test_parents_are_made(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b.json", {"miou": 0.5})
    assert json.loads((tmp_path / "a" / "b.json").read_text()) == {"miou": 0.5}


def test_json_without_a_meaning_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "b.json", {"miou": float("nan")})
    assert not list(tmp_path.iterdir())
