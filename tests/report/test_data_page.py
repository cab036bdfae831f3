from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from report.pages import CLASSES, label_map, palette, photograph
from selfreg.report.content import Curve
from selfreg.report.data_page import DataPage, Remark, Sample, write_data_page

Visit = Callable[..., Chrome]


@pytest.fixture
def check() -> DataPage:
    samples = [
        Sample("fine_1", photograph(1), label_map(1)),
        Sample("pale_2", photograph(2), label_map(2), (), ("most of it is void",)),
        Sample("gone_3", None, None, ("mask missing",)),
        Sample("torn_4", None, np.full((90, 120), 1, np.uint8), ("photograph truncated",)),
    ]
    return DataPage(
        "Check",
        "4 images",
        CLASSES,
        palette(),
        facts=[("images", "4")],
        findings=[Remark("warning", "pole is rare"), Remark("fault", "unreadable", [f"{n}.png" for n in range(9)])],
        pixel_shares={"train": [0.8, 0.15, 0.05], "val": [0.9, 0.1, None]},
        image_counts={"train": [3, 3, 2], "val": [1, 1, 0]},
        samples=samples,
        curves=[Curve("Sizes", "area", "objects", (10, 100), {"train": (3.0, 2.0)}, True)],
        commands=["selfreg check-data"],
    )


def seen(driver: Chrome) -> list[str]:
    cards = driver.find_elements(By.CSS_SELECTOR, ".card:not([hidden])")
    return [card.get_attribute("data-image") or "" for card in cards]


def test_the_verdict_then_faults_come_first_in_findings_and_pictures(
    check: DataPage, tmp_path: Path, visit: Visit
) -> None:
    driver = visit(write_data_page(replace(check, verdict="Not ready for training: 9 faults."), tmp_path / "data.html"))
    assert driver.find_element(By.CSS_SELECTOR, "#verdict .sentence").text == "Not ready for training: 9 faults."
    assert [badge.text for badge in driver.find_elements(By.CSS_SELECTOR, ".findings .badge")] == ["error", "warning"]
    assert driver.find_element(By.CSS_SELECTOR, "#findings h2 small").text == "9 errors, 1 warning"
    assert seen(driver) == ["gone_3", "torn_4", "pale_2", "fine_1"]


def test_images_are_filtered_and_opened_large(check: DataPage, tmp_path: Path, visit: Visit) -> None:
    driver = visit(write_data_page(check, tmp_path / "data.html"))
    driver.find_element(By.CSS_SELECTOR, "#toolbar input[value='fault'] + span").click()
    assert seen(driver) == ["gone_3", "torn_4"]
    driver.find_element(By.CSS_SELECTOR, "#toolbar input[value=''] + span").click()
    Select(driver.find_element(By.NAME, "class")).select_by_value("2")
    assert seen(driver) == ["pale_2", "fine_1"]
    driver.find_element(By.CSS_SELECTOR, ".card:not([hidden]) .open").click()
    assert len(driver.find_elements(By.CSS_SELECTOR, "#stage img")) == 2
    driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert driver.find_element(By.ID, "position").text == "2 / 2"


def test_what_comes_from_files_is_text_and_nothing_else(check: DataPage, tmp_path: Path, visit: Visit) -> None:
    evil = "<script>window.owned = 1</script>\"'><img src=x onerror='window.owned = 2'>"
    hostile = replace(
        check,
        title=evil,
        class_names=(evil, "b", "c"),
        facts=[(evil, evil)],
        findings=[Remark("fault", evil, [evil])],
        pixel_shares={evil: [0.8, 0.2, 0.0]},
        image_counts={evil: [1, 1, 1]},
        samples=[Sample(evil, photograph(1), label_map(1), (evil,), (evil,))],
    )
    driver = visit(write_data_page(hostile, tmp_path / "data.html"), 390)
    assert driver.execute_script("return window.owned") is None
    assert driver.title == evil
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 390


def test_clean_data_say_so(check: DataPage, tmp_path: Path, visit: Visit) -> None:
    clean = replace(check, findings=[], samples=[], curves=[], pixel_shares={}, image_counts={})
    driver = visit(write_data_page(clean, tmp_path / "data.html"))
    assert "No problems were found." in driver.find_element(By.ID, "findings").text


def test_wrong_sizes_and_counts_are_refused(check: DataPage) -> None:
    with pytest.raises(ValueError, match="name the mismatch"):
        Sample("a", photograph(1), np.zeros((5, 5), np.uint8))
    with pytest.raises(ValueError, match="2 values for 3 classes"):
        replace(check, pixel_shares={"train": [0.5, 0.5]})
