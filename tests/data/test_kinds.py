from pathlib import Path

import pytest

from fixtures.folder import write_folder
from selfreg.data import Folder, Scenes, open_source


def test_kinds_open_what_they_name(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set")
    assert isinstance(open_source("folder", root, "val"), Folder)
    scenes = open_source("scenes", None, "val", length=9, evaluation_length=4, size=(40, 50), seed=2)
    assert isinstance(scenes, Scenes)
    assert len(scenes) == 4
    assert scenes.read(0).mask.shape == (40, 50)


def test_an_unknown_kind_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'foldr' is unknown: did you mean 'folder'"):
        open_source("foldr", tmp_path, "train")


def test_a_missing_root_and_an_unknown_option_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.root is not set"):
        open_source("folder", None, "train")
    with pytest.raises(ValueError, match=r"folder knows masks, tags_only"):
        open_source("folder", write_folder(tmp_path / "set"), "train", mask="masks")
