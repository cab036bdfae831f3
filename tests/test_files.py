"""Files appear whole or not at all."""

import json
import os
from pathlib import Path

import pytest

import selfreg.files
from selfreg.files import (
    appended_file,
    leads_out,
    locked,
    output_folder,
    read_json,
    remove_file,
    remove_leftovers,
    whole_file,
    write_json,
    write_text,
)
from selfreg.input_files import check_file, read_bytes, read_end, read_text, user_path


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


def test_temporary_names_cannot_be_guessed_and_no_link_is_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = set()
    for _ in range(20):
        with whole_file(tmp_path / "a.png") as temporary:
            names.add(temporary.name)
    assert len(names) == 20
    # even a name that was guessed is not followed
    monkeypatch.setattr("secrets.token_hex", lambda _: "0" * 16)
    outside = tmp_path / "outside"
    (tmp_path / f".selfreg-{'0' * 16}.tmp.png").symlink_to(outside)
    with pytest.raises(FileExistsError), whole_file(tmp_path / "a.png"):
        pass
    assert not outside.exists()


@pytest.mark.parametrize("place", ["", "a", "a/b"])
def test_below_an_output_folder_no_link_is_followed(tmp_path: Path, place: str) -> None:
    real, outside = tmp_path / "real", tmp_path / "outside"
    for folder in (real, outside):
        folder.mkdir()
    out = tmp_path / "out"
    out.symlink_to(real)  # where the output folder itself lies is the user's choice
    with output_folder(out):
        write_text(out / "a" / "b" / "c.txt", "mine")
        link = out / place / "link"
        link.symlink_to(outside)
        for act in (write_text, write_json):
            with pytest.raises(ValueError, match="link: is a link"):
                act(link / "file.txt", "")
        with pytest.raises(ValueError, match="is a link"):
            remove_file(link / "file.txt")
        with pytest.raises(ValueError, match="is a link"), appended_file(link / "x.log"):
            pass
        with pytest.raises(ValueError, match="is a link"), locked(link, "working"):
            pass
    assert not list(outside.iterdir())


@pytest.mark.parametrize("name", ["../x", "a/../../x"])
def test_no_name_leads_out_of_an_output_folder(tmp_path: Path, name: str) -> None:
    with output_folder(tmp_path / "out"), pytest.raises(ValueError, match="leads out"):
        write_text(tmp_path / "out" / name, "")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["", "/etc/x", "\\x", "..", "a/../../b", "a/..", "x\0y"])
def test_a_name_that_leads_out_is_recognised(name: str) -> None:
    assert leads_out(name)
    assert not leads_out("city/a..b.c")


def test_leftovers_are_this_programs_own_temporary_files_and_nothing_else(tmp_path: Path) -> None:
    strangers = [".settings.tmpl", ".x.tmp", ".a.12345.tmp.json", ".selfreg-0.tmp", ".selfreg-0123456789abcdef.tmp.d"]
    for name in strangers[:-1]:
        (tmp_path / name).write_text("mine")
    (tmp_path / strangers[-1]).mkdir()
    (tmp_path / ".selfreg-0123456789abcdef.tmp.ckpt").write_text("half")
    remove_leftovers(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(strangers)


def test_a_key_that_occurs_twice_among_many_is_found_at_once(tmp_path: Path) -> None:
    path = tmp_path / "many.json"
    path.write_text("{" + ",".join(f'"{number}": 0' for number in range(40_000)) + ', "39999": 1}')
    with pytest.raises(ValueError, match="the key '39999' occurs twice"):
        read_json(path)


def test_devices_pipes_folders_and_endless_files_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk
    for name in ("pipe", "zero", "folder", "large"):
        for read in (read_bytes, read_text, read_json, lambda path: check_file(path, 2**20)):
            with pytest.raises((ValueError, IsADirectoryError), match=name):
                read(tmp_path / name)
    assert len(read_end(tmp_path / "large", 100)) == 100


def test_parents_are_made(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b.json", {"miou": 0.5})
    assert json.loads((tmp_path / "a" / "b.json").read_text()) == {"miou": 0.5}


def test_json_without_a_meaning_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "b.json", {"miou": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_user_that_does_not_exist_is_told_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"~nosuchuser/data: no user has this name"):
        user_path("~nosuchuser/data")
    assert user_path("~/data") == Path.home() / "data"


def test_the_home_folder_is_put_in_at_one_place() -> None:
    source = Path(selfreg.files.__file__).parent
    places = [path.name for path in source.rglob("*.py") if "expanduser" in path.read_text(encoding="utf-8")]
    assert places == ["input_files.py"]
