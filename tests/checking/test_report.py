"""`selfreg check-data` through the real command: what it prints, what it writes, and what it survives."""

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fixtures.folder import write_folder
from fixtures.layouts import write_camvid
from malformed.pieces import png
from selfreg.checking import check_data
from selfreg.checking.checks import list_tree
from selfreg.checking.findings import Finding, group_findings
from selfreg.checking.inspection import Item
from selfreg.data.source import Pair, Source
from tiny import selfreg


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("selfreg.checking.checks.cpu_count", lambda: 1)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return write_folder(tmp_path / "set", splits={"train": 12, "val": 4})


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_nothing_is_written_unasked(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert selfreg("check-data", root) == 0
    assert list(Path.cwd().iterdir()) == []
    assert printed(capsys)[-1].startswith("0 errors")
    assert selfreg("check-data", root, "--out", "report.json", "--html", "page.html") == 0
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["page.html", "report.json"]


def test_many_missing_masks_are_one_line_with_three_examples(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (root / "masks/train").iterdir():
        path.unlink()
    assert selfreg("check-data", root, "--out", "report.json") == 1
    lines = [line for line in printed(capsys) if line.startswith("error")]
    assert len(lines) == 1
    assert "12 files, such as masks/train/t0.png: " in lines[0]
    assert "also masks/train/t1.png, masks/train/t10.png and 9 more" in lines[0]
    assert json.loads(Path("report.json").read_text(encoding="utf-8"))["num_errors"] == 12


def test_no_table_of_zeros_is_printed_where_no_mask_can_be_read(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (root / "masks").rglob("*.png"):
        path.unlink()
    assert selfreg("check-data", root) == 1
    assert "0.00%" not in capsys.readouterr().out


def test_errors_of_two_kinds_are_two_lines(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        (root / f"masks/train/t{number}.png").unlink()
        Image.fromarray(np.full((12, 16 + number), 1, np.uint8)).save(root / f"masks/train/t{5 + number}.png")
    assert selfreg("check-data", root) == 1
    lines = [line for line in printed(capsys) if line.startswith("error")]
    assert ["3 files" in line for line in lines] == [True, True]


@pytest.mark.usefixtures("root")
def test_the_kind_is_that_of_the_layout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_camvid(tmp_path / "export")
    selfreg("check-data", tmp_path / "export")
    assert "camvid" in capsys.readouterr().out


def test_the_page_begins_with_what_is_to_do(root: Path) -> None:
    verdict = re.compile(r'<p class="sentence">(.*?)</p>')

    def said() -> str:
        selfreg("check-data", root, "--html", "page.html")
        return html.unescape(verdict.findall(Path("page.html").read_text(encoding="utf-8"))[0])

    assert said().startswith("Ready for training")
    for number in range(3):
        (root / f"masks/train/t{number}.png").unlink()
    assert said().startswith("Not ready for training: 3 errors in ")
    assert said().endswith("(3 files).")


def test_the_page_shows_folders_and_the_file_of_a_wrong_mask(root: Path) -> None:
    Image.fromarray(np.zeros((12, 16), np.uint8)).save(root / "masks/train/t4.png")
    assert selfreg("check-data", root, "--html", "page.html") == 1
    page = Path("page.html").read_text(encoding="utf-8")
    assert "train/  12 .jpg" in page
    assert page.count("Mask file as stored") == 1
    assert str(root.resolve()) not in page


def test_rare_classes_are_one_finding_ranked_by_their_share(tmp_path: Path) -> None:
    root = write_folder(tmp_path, classes=("sky", "road", "car"), splits={"train": 12, "val": 12}, size=(40, 40))
    for path in (root / "masks").rglob("*.png"):
        values = np.zeros((40, 40), np.uint8)
        values[0, :8] = 1
        values[1, : 2 if "train" in str(path) else 4] = 2
        Image.fromarray(values).save(path)
    found = [f for f in check_data("folder", root, workers=1).findings if f.check == "class"]
    assert len(found) == 1
    assert "rarest first: car (0.12% of train, in 12 images), road (0.50% of train" in found[0].message


# --- whatever the file, the check goes on ---


def plant_cut_colours(root: Path) -> Path:
    path = root / "masks/train/t3.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-900])
    return path


def plant_large_colours(root: Path) -> Path:
    path = root / "masks/train/t3.png"
    path.write_bytes(png(14_000, 14_000, b"", colour=2))
    return path


def plant_large_mask(root: Path) -> Path:
    path = root / "masks/train/t3.png"
    path.write_bytes(png(14_000, 14_000, b""))
    return path


@pytest.mark.parametrize("plant", [plant_cut_colours, plant_large_colours, plant_large_mask])
def test_the_check_survives_a_bad_file_and_names_it(root: Path, plant: Any) -> None:
    path = plant(root)
    report = check_data("folder", root, workers=1)
    assert len(report.items) == 16
    assert [str(path) in finding.message for finding in report.errors] == [True]


class Treacherous:
    """A source whose second item is read by a library that raises what it likes."""

    def __init__(self, inner: Source, error: Exception) -> None:
        self.labels, self.ids, self._inner, self._error = inner.labels, inner.ids, inner, error

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> Pair:
        if index == 1:
            raise self._error
        return self._inner.read(index)


@pytest.mark.parametrize("error", [RuntimeError("no\nidea"), MemoryError(), Image.DecompressionBombError("large")])
def test_an_error_that_nobody_expected_is_a_finding(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from selfreg.data.kinds import open_source

    def treacherous(*arguments: Any, **options: Any) -> Source:
        return Treacherous(open_source(*arguments, **options), error)

    monkeypatch.setattr("selfreg.checking.checks.open_source", treacherous)
    report = check_data("folder", root, ["train"], workers=1)
    assert [finding.message.split(" (")[0] for finding in report.errors] == ["train/t1: cannot be checked"]
    assert "\n" not in report.errors[0].message
    assert sum(bool(item.pixels) for item in report.items) == 11


# --- grouping ---


def test_findings_that_say_the_same_of_the_whole_set_are_one() -> None:
    message = "/data/labels.json: no such file"
    groups = group_findings([Finding("error", "split", split, None, message) for split in ("train", "val")], "/data")
    assert [(group.line(), group.count) for group in groups] == [(message, 1)]


def test_files_outside_the_root_keep_their_whole_name() -> None:
    groups = group_findings([Finding("error", "file", "train", "/b/x.jpg", "/b/x.jpg: gone: restore it")], "/a")
    assert groups[0].line() == "/b/x.jpg: gone: restore it"


def test_the_tree_counts_files_and_names_those_that_stand_alone(root: Path) -> None:
    (root / ".hidden").mkdir()
    assert list_tree(root) == [
        "set/  labels.json",
        "  images/",
        "    train/  12 .jpg",
        "    val/  4 .jpg",
        "  masks/",
        "    train/  12 .png",
        "    val/  4 .png",
    ]


def test_an_item_without_files_has_a_name() -> None:
    assert Item("val", "7", None, None).name == "val/7"


def test_names_from_a_data_set_are_printed_as_they_are(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = {"classes": ["[/sky]", "[link=https://x.y]road", "car"], "void": 255}
    (root / "labels.json").write_text(json.dumps(content), encoding="utf-8")
    (root / "masks/train/t0.png").rename(root / "masks/train/\x1b[31mred.png")
    assert selfreg("check-data", root) == 1
    out = capsys.readouterr().out
    assert "[/sky]" in out
    assert "[link=https://x.y]road" in out
    assert "\x1b[31m" not in out


def test_missing_masks_say_what_would_find_them(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (root / "masks").rglob("*.png"):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    assert selfreg("check-data", root) == 1
    errors = [line for line in printed(capsys) if line.startswith("error")]
    assert len(errors) == 1
    assert "16 files, such as masks/train/t0.png: the mask of t0.jpg is missing" in errors[0]
    assert "_mask" in errors[0].split(";")[0]


def test_a_folder_takes_the_option_that_its_message_suggests(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (root / "masks").rglob("*.png"):
        path.rename(path.with_stem(f"{path.stem}_mask"))
    assert selfreg("check-data", root) == 1
    assert "suffix: _mask" in capsys.readouterr().out
    assert selfreg("check-data", root, "--set", "data.options.masks={suffix: _mask}") == 0
    assert selfreg("check-data", root, "--set", "data.options.masks.suffix=_mask") == 0
    assert printed(capsys)[-1].startswith("0 errors")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("network.name=bogus", "network.name has no effect on `selfreg check-data FOLDER`"),
        ("data.short_side=32", "data.short_side has no effect"),
        ("data.root=elsewhere", "data.root has no effect"),
        ("data.options.mask=x", "data.options: got an unexpected keyword argument 'mask'"),
    ],
)
def test_overrides_that_change_nothing_are_refused_for_a_folder(
    root: Path, capsys: pytest.CaptureFixture[str], override: str, told: str
) -> None:
    assert selfreg("check-data", root, "--set", override) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "data.crop_size=[32, 32]"], "data.crop_size has no effect on `selfreg check-data`"),
        (["--split", "train", "--set", "data.val_split=train"], "data.val_split has no effect"),
        (["--kind", "voc"], "--kind voc: is for a folder"),
    ],
)
def test_options_that_change_nothing_are_refused_for_a_configuration(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"data: {{kind: folder, root: {root}}}\n", encoding="utf-8")
    assert selfreg("check-data", config, "--set", "data.val_split=train") == 0
    capsys.readouterr()
    assert selfreg("check-data", config, *arguments) == 2
    assert told in capsys.readouterr().err
