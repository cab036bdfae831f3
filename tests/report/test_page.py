import re
from dataclasses import replace
from pathlib import Path

import pytest

from report.pages import missed_pole
from selfreg.report.content import Number, Page
from selfreg.report.embed import LEVELS
from selfreg.report.page import write_page
from selfreg.report.rendering import amount, decimals, signed


def test_page_asks_nothing_of_any_network(page: Page, tmp_path: Path) -> None:
    text = write_page(page, tmp_path / "page.html").read_text()
    assert re.findall(r"""<[^>]*\s(?:src|href|action)=["'](?!#|data:)[^"']+""", text) == []
    assert not re.findall(r"https?:|//cdn|@import|url\(", text)
    assert "default-src 'none'" in text


@pytest.mark.slow
def test_two_hundred_cases_stay_below_ten_megabytes(page: Page, tmp_path: Path) -> None:
    cases = [missed_pole(seed, seed % 3 > 0, 360, 480) for seed in range(200)]
    path = write_page(replace(page, cases=cases), tmp_path / "page.html")
    assert path.stat().st_size < 10_000_000
    assert path.read_text().count("<article") == 200


def test_pictures_get_coarser_until_the_page_fits(page: Page, tmp_path: Path) -> None:
    cases = [missed_pole(seed, True, 360, 480) for seed in range(4)]
    free = write_page(replace(page, cases=cases), tmp_path / "free.html").stat().st_size
    tight = write_page(replace(page, cases=cases), tmp_path / "tight.html", largest=free - 1000).stat().st_size
    impossible = write_page(replace(page, cases=cases), tmp_path / "small.html", largest=1).stat().st_size
    assert impossible < tight <= free - 1000
    assert [level.whole_side for level in LEVELS] == sorted((level.whole_side for level in LEVELS), reverse=True)


def test_a_page_that_cannot_be_made_leaves_the_old_one(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_page(page, tmp_path / "page.html")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_page(replace(page, title="another"), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_numbers_are_written_with_their_intervals_and_verdicts(page: Page, tmp_path: Path) -> None:
    text = re.sub(r"<[^>]+>|\s+", " ", write_page(page, tmp_path / "page.html").read_text())
    words = re.sub(r" +", " ", text)
    assert "62.5 % 60.0 to 65.0 +2.5 +0.5 to +4.5 better" in words
    assert "+2.0 +1.0 to +3.0 worse" in words
    assert "\N{MINUS SIGN}10 to +590 not distinguishable from zero" in words


def test_absent_classes_and_missing_values_are_dashes(page: Page, tmp_path: Path) -> None:
    absent = replace(page, numbers=[Number("mIoU", "%", True, (None, float("nan")))], cases=[], curves=[], pairs=[])
    absent = replace(absent, labelled_classes=[])
    words = re.sub(r"<[^>]+>|\s+", " ", write_page(absent, tmp_path / "page.html").read_text())
    assert "nan" not in words.lower().split()
    assert "None" not in words.split()
    assert words.count("\N{EN DASH}") >= 4


def test_values_and_differences_are_written_as_people_do() -> None:
    assert amount(1234.4, 0) == "1\N{NARROW NO-BREAK SPACE}234"
    assert [signed(value) for value in (2.04, -1.26, 0.01, -0.04)] == ["+2.0", "\N{MINUS SIGN}1.3", "0.0", "0.0"]
    assert decimals((812.0, 1090.0), "s") == 0
    assert decimals((3.1, 0.2, None), "") == 2
    assert decimals((0.01, 0.02), "%") == 1
