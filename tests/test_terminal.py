"""Names from anybody's data are shown by every command as they are: no markup, no escape sequence, no second line."""

import ast
import json
import os
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.table import Table

import selfreg as package
from fixtures.folder import write_folder
from selfreg.messages import say
from selfreg.terminal import PlainConsole, progress_over
from selfreg.termination import end_well
from tiny import selfreg, untrained_run, write_config
from weak.tagged_folder import CLASSES, write_tagged_folder, write_weak_config

SOURCE = Path(package.__file__).parent
MARKUP = ("[/sky]", "[link=http://x]y[/link]", ":boom:[bold]z")
FILE = "[bold]a\x1b[31m\u202e\nb\x1b]8;;http:x\x07"
"""A file name with markup, a colour, a change of direction, a line break and a link."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set with evil names of classes and files."""
    root = write_folder(tmp_path / "set", splits={"train": 4, "val": 2}, classes=MARKUP, size=(64, 64))
    for kind, suffix in (("images", ".jpg"), ("masks", ".png")):
        (root / kind / "val" / f"v0{suffix}").rename(root / kind / "val" / f"{FILE}{suffix}")
    (root / "images" / "val" / f"{FILE}.txt").write_text("not an image")
    return root


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """What a command has printed on both streams; no character of it may be obeyed by a terminal."""
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert all(line.isprintable() for line in text.splitlines()), repr(text)
    assert "\u202e" not in text
    return text


def printed_by(*arguments: str | Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert selfreg(*arguments) in (0, 1), shown(capsys)
    return shown(capsys)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_command_shows_names_as_they_are(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"kind": "folder", "root": str(root), "options": {}}
    config = write_config(tmp_path, data=data, training={"epochs": 1})
    run, other = tmp_path / "[/run]", tmp_path / "other"
    assert "[/run]" in printed_by("train", config, "--out", run, capsys=capsys)
    shutil.copytree(run, other)
    shutil.copytree(run, tmp_path / "[/study]" / "full" / "seed-3")
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(photographs / f"good{FILE}.png")
    (photographs / f"bad{FILE}.png").write_bytes(b"no image")
    commands: dict[str, tuple[str | Path, ...]] = {
        "check-data": (root, "--html", tmp_path / "data.html"),
        "evaluate": (run,),
        "compare": (run, other, "--html", tmp_path / "compare.html"),
        "predict": (run, photographs, "-o", tmp_path / "[/out]", "--overlay"),
        "study": (config, "--arms", "full", "--seeds", "1", "--out", tmp_path / "[/study]"),
    }
    outputs = {verb: printed_by(verb, *arguments, capsys=capsys) for verb, arguments in commands.items()}
    for verb in ("check-data", "evaluate", "compare"):
        for name in MARKUP:
            assert name in outputs[verb], verb
    assert r"[bold]a\x1b[31m\u202e\nb\x1b]8;;http:x\x07.txt" in outputs["check-data"]
    assert "run] " in outputs["compare"]
    assert "[/out]" in outputs["predict"]
    assert r"bad[bold]a\x1b[31m" in outputs["predict"]
    assert "[/study]" in outputs["study"]


def test_pseudo_masks_and_imports_of_evil_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_tagged_folder(tmp_path / "[/set]", train=4, val=2, size=(64, 64))
    labels = root / "labels.json"
    text = labels.read_text(encoding="utf-8")
    for name, evil in zip(CLASSES[1:], MARKUP, strict=True):
        text = text.replace(f'"{name}"', json.dumps(evil))
    labels.write_text(text, encoding="utf-8")
    config = write_weak_config(tmp_path, root, classifier={"epochs": 1}, cam={"scales": [1.0]})
    assert "[/out]" in printed_by("pseudo", config, "--out", tmp_path / "[/out]", capsys=capsys)

    export = tmp_path / "export"
    export.mkdir()
    images = [{"id": number, "file_name": f"{FILE}{number}.png", "width": 8, "height": 8} for number in (1, 2)]
    for image in images:
        Image.fromarray(np.full((8, 8, 3), 90 * int(str(image["id"])), np.uint8)).save(export / str(image["file_name"]))
    outline = {
        "image_id": 1,
        "category_id": 3,
        "iscrowd": 0,
        "segmentation": [[0, 0, 4, 0, 4, 4]],
        "bbox": [0, 0, 4, 4],
    }
    content = {
        "images": images,
        "categories": [{"id": number, "name": name} for number, name in enumerate(MARKUP, start=1)],
        "annotations": [{"id": 1, "area": 8, **outline}],
    }
    (export / "coco.json").write_text(json.dumps(content), encoding="utf-8")
    said = printed_by("import", export, tmp_path / "[/imported]", capsys=capsys)
    assert "[/imported]" in said
    assert all(name in said for name in MARKUP)


@pytest.mark.parametrize("name", ["\x1b[31mred", "sky\u202e", "a\nb", "a\tb", "\u2028", ""])
def test_names_of_classes_that_no_line_can_show_are_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "set", classes=("sky", name, "car"))
    assert selfreg("check-data", root) == 1
    assert "give each class a name that can be printed" in shown(capsys)


def test_json_stays_json_whatever_the_names(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"kind": "folder", "root": str(root), "crop_size": [64, 64]}
    run = untrained_run(tmp_path / "run", MARKUP, data=data)
    with pytest.warns(UserWarning, match="not an image"):
        assert selfreg("evaluate", run.folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["class_names"] == list(MARKUP)
    assert selfreg("check-data", root, "--json") == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert any(FILE in finding["message"] for finding in json.loads(out)["findings"])


def test_a_warning_is_one_line_without_its_place_in_the_source() -> None:
    lines: list[str] = []
    warning = UserWarning("a\nb\x1b[31m: not used")
    end_well(lambda: lines.append(warnings.formatwarning(warning, UserWarning, "/x/source.py", 7)))
    assert lines == ["warning: a b\\x1b[31m: not used\n"]


def test_a_line_stays_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\nb", "c\x1b[31m")
    assert capsys.readouterr().out == "a\\nb\nc\\x1b[31m\n"


def test_tables_and_bars_take_markup_for_text() -> None:
    console = PlainConsole(file=StringIO(), width=120, force_terminal=True, color_system="standard")
    table = Table("[/sky]", title="[link=http://x]y[/link]")
    table.add_row(":boom:[bold]z\x1b]8;;http://x\x07")
    console.print(table)
    console.print("[/sky]", style="red")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert "\x1b" not in plain
    for name in ("[/sky]", "[link=http://x]y[/link]", r":boom:[bold]z\x1b]8;;http://x\x07"):
        assert name in plain
    assert list(progress_over([1, 2], "[/sky]", total=2)) == [1, 2]


def _names_in_calls(tree: ast.AST) -> Iterator[str]:
    """What is called, and what is handed over, as in `partial(print, flush=True)`."""
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        for name in (node.func, *node.args, *(word.value for word in node.keywords)):
            if isinstance(name, ast.Name | ast.Attribute):
                yield ast.unparse(name)


def test_nothing_is_printed_past_the_two_modules_that_escape() -> None:
    allowed = {("messages.py", "print"), ("terminal.py", "track"), ("termination.py", "print")}
    past = set()
    for path in sorted(SOURCE.rglob("*.py")):
        for name in _names_in_calls(ast.parse(path.read_text(encoding="utf-8"))):
            prints = name in ("print", "Console", "track", "rich.print", "sys.stdout.write", "sys.stderr.write")
            if prints or name.rpartition(".")[2] in ("echo", "secho", "from_markup", "render_markup"):
                past.add((path.relative_to(SOURCE).as_posix(), name))
    assert past == allowed


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes")
@pytest.mark.parametrize("stem", [b"stra\xdfe", b"a" * 251])
def test_names_that_are_not_utf_8_or_as_long_as_can_be_go_through_every_command(
    stem: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "set", classes=("a", "b"), size=(64, 64))
    name = os.fsdecode(stem)
    for kind, suffix in (("images", ".jpg"), ("masks", ".png")):
        (root / kind / "val" / f"v0{suffix}").rename(root / kind / "val" / f"{name}{suffix}")
    data = {"kind": "folder", "root": str(root), "crop_size": [64, 64]}
    run = untrained_run(tmp_path / "run", ("a", "b"), data=data).folder
    other = shutil.copytree(run, tmp_path / "other")
    printed_by("check-data", root, "--html", tmp_path / "data.html", "-o", tmp_path / "data.json", capsys=capsys)
    printed_by("compare", run, other, "--html", tmp_path / "compare.html", capsys=capsys)
    printed_by("evaluate", run, capsys=capsys)
    printed_by("predict", run, root / "images" / "val", "-o", tmp_path / "out", "--overlay", capsys=capsys)
    assert (tmp_path / "out" / f"{name}.png").is_file()
    assert (run / "evaluation" / "val-last" / f"{name}.png").is_file()
    for page in ("data.html", "compare.html"):
        shown_name = stem.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace").decode()
        assert shown_name in (tmp_path / page).read_text(encoding="utf-8")
