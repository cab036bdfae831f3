"""Digests of data: every change that matters changes them, and nothing else does."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.exports import write_roboflow
from fixtures.folder import write_folder
from selfreg.trial.changes import digest_of_data, digest_of_export
from selfreg.trial.data import find_data


def edit_mask(root: Path) -> None:
    path = next((root / "masks" / "val").iterdir())
    mask = np.array(Image.open(path))
    mask[0, 0] = 1 - mask[0, 0] % 2
    Image.fromarray(mask).save(path)


def add_image(root: Path) -> None:
    for kind, suffix in (("images", ".jpg"), ("masks", ".png")):
        folder = root / kind / "train"
        (folder / f"new{suffix}").write_bytes((folder / f"t0{suffix}").read_bytes())


def rename_class(root: Path) -> None:
    path = root / "labels.json"
    path.write_text(path.read_text(encoding="utf-8").replace("sky", "heaven"), encoding="utf-8")


def swap_images(root: Path) -> None:
    first, second = sorted((root / "images" / "train").iterdir())[:2]
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


@pytest.mark.parametrize("change", [edit_mask, add_image, rename_class, swap_images])
def test_a_change_of_the_data_is_noticed(change: Callable[[Path], None], tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data")
    place = find_data(root, tmp_path / "out")
    before = digest_of_data(place)
    change(root)
    assert digest_of_data(place) != before


def test_new_times_and_files_that_are_not_read_do_not_matter(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data")
    place = find_data(root, tmp_path / "out")
    before = digest_of_data(place)
    os.utime(root / "labels.json", (1, 1))
    (root / "notes.txt").write_text("read me", encoding="utf-8")
    assert digest_of_data(place) == before


def test_the_output_folder_is_no_part_of_an_export_around_it(tmp_path: Path) -> None:
    write_roboflow(tmp_path)
    before = digest_of_export(tmp_path, tmp_path / "runs")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "try.json").write_text("{}", encoding="utf-8")
    assert digest_of_export(tmp_path, tmp_path / "runs") == before
    (tmp_path / "more.txt").write_text("", encoding="utf-8")
    assert digest_of_export(tmp_path, tmp_path / "runs") != before
