import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from report.pages import CLASSES, label_map, palette, photograph
from selfreg.report.content import Case, Curve
from selfreg.report.study_page import ArmDifference, MeasureOfArms, StudyPage, StudyPictures, write_study_page


@pytest.fixture
def study() -> StudyPage:
    miou = MeasureOfArms(
        "mIoU",
        "%",
        True,
        [(60.0, 62.0), (63.0, 65.0), (None, 64.0)],
        {
            "base": [None, ArmDifference(3.0, (2.0, 4.0)), ArmDifference(2.0, None)],
            "mea": [ArmDifference(-3.0, (-4.0, -2.0)), None, ArmDifference(0.0, (-1.0, 1.0))],
        },
        card=True,
    )
    time = MeasureOfArms("Time", "s", False, [(800.0, 820.0), (900.0, 900.0), (None, None)], {})
    curve = Curve("mIoU", "epoch", "%", (1, 2), {"base": (1.0, 2.0), "mea": (1.0, 3.0), "full": (1.0, None)})
    sky = MeasureOfArms(
        "sky", "%", True, [(90.0,), (80.0,), (91.0,)], {"base": [None, ArmDifference(-10.0, (-11.0, -9.0)), None]}
    )
    moon = MeasureOfArms("moon", "%", True, [(None,)] * 3, {})
    return StudyPage(
        "Study",
        "two seeds",
        ("base", "mea", "full"),
        [miou, time],
        [curve],
        ["A note."],
        ["selfreg study"],
        verdicts={
            "base": {"mea": "mea against base: better in mIoU.", "full": "full against base: unclear."},
            "mea": {"full": "full against mea: no difference."},
        },
        classes=[sky, moon],
        facts=[("network", "tiny")],
    )


@pytest.fixture
def pictures() -> StudyPictures:
    cases = [
        Case(
            f"drive/{number}",
            photograph(number),
            label_map(number),
            (label_map(number + 1), label_map(number)),
            "overview",
            scores=("61.0 to 63.0 % correct", "70.0 to 72.5 % correct"),
            change=change,
        )
        for number, change in ((1, 0.09), (2, -0.031))
    ]
    return StudyPictures(("base", "full"), cases, CLASSES, palette())


def test_the_pictures_of_two_arms_stand_side_by_side_with_their_difference(
    study: StudyPage, pictures: StudyPictures, tmp_path: Path, visit: Callable[..., Chrome]
) -> None:
    driver = visit(write_study_page(replace(study, pictures=pictures), tmp_path / "study.html"))
    first = driver.find_elements(By.CSS_SELECTOR, ".pictured")[0]
    assert first.find_element(By.TAG_NAME, "h3").text == "drive/1 +9.0 points"
    captions = [caption.text for caption in first.find_elements(By.TAG_NAME, "figcaption")]
    assert captions == ["Photograph", "Label", "base", "full", "Difference"]
    for image in driver.find_elements(By.CSS_SELECTOR, ".pictured img"):
        assert driver.execute_script("return arguments[0].naturalWidth", image) > 0
    tops = {figure.rect["y"] for figure in first.find_elements(By.TAG_NAME, "figure")}
    assert len(tops) == 1
    narrow = visit(tmp_path / "study.html", 390)
    assert narrow.execute_script("return document.documentElement.scrollWidth") <= 390


def test_many_pictures_are_stored_more_coarsely(study: StudyPage, pictures: StudyPictures, tmp_path: Path) -> None:
    page = replace(study, pictures=pictures)
    fine = write_study_page(page, tmp_path / "fine.html").stat().st_size
    assert write_study_page(page, tmp_path / "coarse.html", largest=fine - 1).stat().st_size < fine


def words_of(path: Path) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<(style|script).*?</\1>|<[^>]+>", " ", path.read_text(), flags=re.DOTALL))


def test_arms_are_given_with_mean_spread_and_differences_to_each_control(study: StudyPage, tmp_path: Path) -> None:
    words = words_of(write_study_page(study, tmp_path / "study.html"))
    assert "base 61.0 ± 1.4" in words
    assert "mea 64.0 ± 1.4 +3.0 +2.0 to +4.0" in words
    assert "full 64.0 +2.0 0.0 \N{MINUS SIGN}1.0 to +1.0" in words
    assert "810 ± 14" in words


def test_study_page_works_in_a_browser_in_the_open_and_narrow(
    study: StudyPage, tmp_path: Path, visit: Callable[..., Chrome]
) -> None:
    evil = "<script>window.owned = 1</script><img src=x onerror='window.owned = 2'>"
    hostile = replace(study, title=evil, arms=("base", "mea", evil), notes=[evil], verdicts={"base": {evil: evil}})
    driver = visit(write_study_page(hostile, tmp_path / "study.html"), 390)
    assert driver.execute_script("return window.owned") is None
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
    assert len(driver.find_elements(By.CSS_SELECTOR, ".strip i")) == 9
    driver.find_element(By.ID, "theme").click()


def shown(driver: Chrome, selector: str) -> list[str]:
    return [found.text for found in driver.find_elements(By.CSS_SELECTOR, selector) if found.text]


def test_the_page_begins_with_the_verdict_and_any_arm_and_control_can_be_chosen(
    study: StudyPage, tmp_path: Path, visit: Callable[..., Chrome]
) -> None:
    driver = visit(write_study_page(study, tmp_path / "study.html"))
    assert shown(driver, ".sentence") == ["full against base: unclear."]
    assert shown(driver, ".answer") == ["mIoU\n+2.0 points\n61.0 → 64.0 %"]
    assert shown(driver, ".study tbody:nth-of-type(1) .gap strong") == ["+3.0", "+2.0"]
    Select(driver.find_element(By.ID, "pair")).select_by_visible_text("full against mea")
    assert shown(driver, ".sentence") == ["full against mea: no difference."]
    assert shown(driver, ".study tbody:nth-of-type(1) .gap strong") == ["\N{MINUS SIGN}3.0", "0.0"]
    assert shown(driver, "#classes tbody tr")[1].split() == ["moon", "absent"]


def test_differences_are_coloured_where_their_interval_excludes_zero(
    study: StudyPage, tmp_path: Path, visit: Callable[..., Chrome]
) -> None:
    driver = visit(write_study_page(study, tmp_path / "study.html"))
    gaps = driver.find_elements(By.CSS_SELECTOR, ".study .gap [data-control='0'] strong")
    assert [gap.get_attribute("class") for gap in gaps] == ["better", ""]
    classes = driver.find_elements(By.CSS_SELECTOR, "#classes [data-pair='0-1'] .gain span")
    assert [found.get_attribute("class") for found in classes] == ["down"]


@pytest.mark.parametrize("width", [360, 390, 1400])
def test_nothing_of_a_large_study_is_cut_off_or_scrolls_sideways(
    study: StudyPage, tmp_path: Path, visit: Callable[..., Chrome], width: int
) -> None:
    driver = visit(write_study_page(study, tmp_path / "study.html"), width)
    wide = """return [...document.querySelectorAll('main *, header *')]
        .filter((e) => !e.closest('.chart, .hidden, pre, .forest') && e.getBoundingClientRect().right > innerWidth + 1)
        .map((e) => e.outerHTML.slice(0, 80))"""
    assert driver.execute_script(wide) == []
    cut = "return [...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth + 1).length"
    assert driver.execute_script(cut) == 0


def test_measures_that_do_not_fit_the_arms_are_refused(study: StudyPage) -> None:
    with pytest.raises(ValueError, match="3 arms, not 2"):
        replace(study, arms=("base", "mea"), classes=[], measures=[replace(study.measures[0], differences={})])
    with pytest.raises(ValueError, match="control 'mea' is none of"):
        replace(study, arms=("base", "a", "b"))
    with pytest.raises(ValueError, match="1 differences to base, not 3"):
        replace(study, measures=[replace(study.measures[0], differences={"base": [None]})])
