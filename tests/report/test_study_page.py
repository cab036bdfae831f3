import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from selfreg.report.content import Curve
from selfreg.report.study_page import ArmDifference, MeasureOfArms, StudyPage, write_study_page


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
    )
    time = MeasureOfArms("Time", "s", False, [(800.0, 820.0), (900.0, 900.0), (None, None)], {})
    curve = Curve("mIoU", "epoch", "%", (1, 2), {"base": (1.0, 2.0), "mea": (1.0, 3.0), "full": (1.0, None)})
    return StudyPage(
        "Study", "two seeds", ("base", "mea", "full"), [miou, time], [curve], ["A note."], ["selfreg study"]
    )


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
    hostile = replace(study, title=evil, arms=("base", "mea", evil), notes=[evil])
    driver = visit(write_study_page(hostile, tmp_path / "study.html"), 390)
    assert driver.execute_script("return window.owned") is None
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
    assert len(driver.find_elements(By.CSS_SELECTOR, ".strip i")) == 9
    driver.find_element(By.ID, "theme").click()


def test_overview_colours_what_differs_from_the_base(
    study: StudyPage, tmp_path: Path, visit: Callable[..., Chrome]
) -> None:
    driver = visit(write_study_page(study, tmp_path / "study.html"))
    means = driver.find_elements(By.CSS_SELECTOR, ".overview tbody td:nth-child(2) strong")
    assert [mean.get_attribute("class") for mean in means] == ["", "better", ""]


def test_measures_that_do_not_fit_the_arms_are_refused(study: StudyPage) -> None:
    with pytest.raises(ValueError, match="3 arms, not 2"):
        replace(study, arms=("base", "mea"), measures=[replace(study.measures[0], differences={})])
    with pytest.raises(ValueError, match="control 'mea' is none of"):
        replace(study, arms=("base", "a", "b"))
    with pytest.raises(ValueError, match="1 differences to base, not 3"):
        replace(study, measures=[replace(study.measures[0], differences={"base": [None]})])
