"""The page in a real browser: what a reader sees, clicks and types."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

from report.pages import missed_pole
from selfreg.report.content import Page, RunPair
from selfreg.report.page import write_page

Visit = Callable[..., Chrome]


def titles(driver: Chrome) -> list[str]:
    """The cards that are seen, in their order."""
    return [
        card.get_attribute("data-image") or "" for card in driver.find_elements(By.CSS_SELECTOR, ".card:not([hidden])")
    ]


def script(driver: Chrome, text: str, *values: object) -> Any:
    return driver.execute_script(text, *values)


def press(driver: Chrome, keys: str) -> None:
    driver.switch_to.active_element.send_keys(keys)


def check(driver: Chrome, value: str) -> None:
    driver.find_element(By.CSS_SELECTOR, f"#toolbar input[value='{value}'] + span").click()


@pytest.fixture
def opened(page: Page, tmp_path: Path, visit: Visit) -> Chrome:
    driver = visit(write_page(page, tmp_path / "page.html"))
    # pictures come in when they come near the window
    script(driver, "document.querySelector('#cases').scrollIntoView()")
    source = "return document.querySelector('.card .mask').src"
    WebDriverWait(driver, 10).until(lambda driver: script(driver, source))
    return driver


def all_pictures_decoded(driver: Chrome) -> bool:
    state = (
        "return [...document.querySelectorAll('.card:not([hidden]) img')].map(i => i.complete && i.naturalWidth > 0)"
    )
    return all(script(driver, state))


def test_every_card_shows_its_pictures_the_most_changed_first(opened: Chrome) -> None:
    assert titles(opened)[:4] == ["pole_001", "pole_002", "pole_003", "whole_007"]
    script(opened, "dispatchEvent(new Event('beforeprint'))")
    WebDriverWait(opened, 10).until(all_pictures_decoded)
    tiles = opened.find_elements(By.CSS_SELECTOR, ".card:first-child .tile")
    captions = [tile.text for tile in tiles]
    assert captions == ["Whole picture", "Photograph", "Label", "A base", "B full", "Difference"]


def test_pictures_far_below_wait_until_they_are_near(page: Page, tmp_path: Path, visit: Visit) -> None:
    many = replace(page, cases=[missed_pole(seed, True) for seed in range(30)])
    driver = visit(write_page(many, tmp_path / "many.html"))
    first_cards = script(driver, "return document.querySelectorAll('img[src]').length")
    script(driver, "document.querySelector('.card:last-child').scrollIntoView()")
    last_image = "return document.querySelector('.card:last-child img').naturalWidth > 0"
    WebDriverWait(driver, 10).until(lambda driver: script(driver, last_image))
    assert first_cards < script(driver, "return document.querySelectorAll('img').length")


def test_filters_by_failure_and_class_and_outcome(opened: Chrome) -> None:
    check(opened, "missed object")
    assert titles(opened) == ["pole_001", "pole_002", "pole_003"]
    Select(opened.find_element(By.NAME, "direction")).select_by_value("lost")
    assert titles(opened) == ["pole_003"]
    Select(opened.find_element(By.NAME, "class")).select_by_value("1")
    assert titles(opened) == []
    opened.find_element(By.ID, "reset").click()
    assert len(titles(opened)) == 7
    Select(opened.find_element(By.NAME, "class")).select_by_value("1")
    assert titles(opened) == ["whole_007", "animal_004", "animal_005", "animal_006"]
    assert opened.find_element(By.ID, "count").text == "4 of 7 cases"


def test_orders_by_loss_and_by_name(opened: Chrome) -> None:
    order = Select(opened.find_element(By.NAME, "order"))
    order.select_by_value("loss")
    assert titles(opened)[0] == "pole_003"
    order.select_by_value("image")
    assert titles(opened) == sorted(titles(opened))
    order.select_by_value("index")
    assert titles(opened)[0] == "pole_001"


def test_cases_of_equal_change_come_by_severity(page: Page, tmp_path: Path, visit: Visit) -> None:
    graded = [replace(case, severity=float(case.image_id[-1])) for case in page.cases]
    driver = visit(write_page(replace(page, cases=graded), tmp_path / "page.html"))
    assert titles(driver)[-3:] == ["animal_006", "animal_005", "animal_004"]
    Select(driver.find_element(By.NAME, "order")).select_by_value("severity")
    assert titles(driver)[:2] == ["whole_007", "animal_006"]


def left_edge(driver: Chrome, view: str) -> float:
    tile = f".card:first-child .tile.{view}"
    return float(script(driver, "return document.querySelector(arguments[0]).getBoundingClientRect().left", tile))


@pytest.mark.parametrize("by", ["key", "button"])
def test_flip_puts_each_run_in_the_place_of_the_other(opened: Chrome, by: str) -> None:
    before = left_edge(opened, "run0"), left_edge(opened, "run1")
    opened.find_element(By.TAG_NAME, "body").send_keys("f") if by == "key" else opened.find_element(
        By.ID, "flip"
    ).click()
    assert (left_edge(opened, "run1"), left_edge(opened, "run0")) == before
    press(opened, "f")
    assert (left_edge(opened, "run0"), left_edge(opened, "run1")) == before


def test_zoom_key_shows_whole_pictures(opened: Chrome) -> None:
    source = "return document.querySelector('.card:first-child .run0 .mask').src"
    marks = "return document.querySelector('.card:first-child .run0 .marks').getAttribute('viewBox')"
    zoomed = script(opened, source)
    press(opened, "z")
    assert script(opened, source) != zoomed
    assert script(opened, marks) == "0 0 120 90"
    assert not opened.find_element(By.CSS_SELECTOR, ".card:first-child .context").is_displayed()
    press(opened, "z")
    assert script(opened, source) == zoomed


def test_outline_lies_on_the_missed_unit(opened: Chrome) -> None:
    path = opened.find_element(By.CSS_SELECTOR, ".card:first-child .store path").get_attribute("d")
    assert path == "M108 30L112 30L112 60L108 60Z"
    press(opened, "o")
    assert not opened.find_element(By.CSS_SELECTOR, ".card:first-child .run0 .marks .line").is_displayed()


def test_keys_walk_through_the_cards_and_open_them(opened: Chrome) -> None:
    for _ in range(2):
        press(opened, "j")
    assert (
        opened.switch_to.active_element.find_element(By.XPATH, "ancestor::article").get_attribute("data-image")
        == "pole_002"
    )
    press(opened, "k")
    press(opened, Keys.ENTER)
    assert opened.find_element(By.ID, "inspector").is_displayed()
    assert opened.find_element(By.ID, "inspector-title").text == "pole"
    press(opened, Keys.ARROW_RIGHT)
    assert opened.find_element(By.ID, "position").text == "2 / 7"
    press(opened, Keys.ESCAPE)
    assert not opened.find_element(By.ID, "inspector").is_displayed()
    assert (
        opened.switch_to.active_element.find_element(By.XPATH, "ancestor::article").get_attribute("data-image")
        == "pole_002"
    )


def test_large_picture_flips_and_wipes_between_the_runs(opened: Chrome) -> None:
    opened.find_element(By.CSS_SELECTOR, ".card:first-child .open").click()
    wipe = opened.find_element(By.ID, "wipe")
    assert len(opened.find_elements(By.CSS_SELECTOR, "#stage .mask")) == 2
    wipe.send_keys(Keys.END)
    second_run = opened.find_element(By.CSS_SELECTOR, "#stage .last").value_of_css_property("clip-path")
    assert second_run == "inset(0px 0px 0px 100%)"
    mask = "return document.querySelector('#stage .mask').src"
    opened.find_element(By.ID, "close").send_keys("f")
    first = script(opened, mask)
    press(opened, "f")
    second = script(opened, mask)
    press(opened, "f")
    assert first != second
    assert script(opened, mask) == first
    press(opened, "1")
    assert opened.find_elements(By.CSS_SELECTOR, "#stage .mask") == []


def test_click_on_a_tile_opens_that_picture(opened: Chrome) -> None:
    opened.find_element(By.CSS_SELECTOR, ".card:first-child .difference").click()
    assert opened.find_element(By.CSS_SELECTOR, "#views :checked").get_attribute("value") == "difference"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(opened: Chrome, scheme: str) -> None:
    script(opened, "document.documentElement.style.colorScheme = arguments[0]", scheme)
    colours = """
      const probe = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
      const shine = (colour) => {
        probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1);
        const parts = [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3).map((v) => v / 255)
          .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
      };
      const names = ['h1', '.sentence', '.answer.better strong', '.answer.worse strong',
        '.hint', '.better', '.worse', '.gain .up', '.gain .down', '.image', '.legend li', '.tick'];
      const ground = shine(getComputedStyle(document.documentElement).backgroundColor);
      return names.map((name) => {
        const style = getComputedStyle(document.querySelector(name));
        const text = shine(name === '.tick' ? style.fill : style.color);
        return [name, (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05)];
      });"""
    assert [(name, ratio) for name, ratio in script(opened, colours) if ratio < 4.5] == []


def test_theme_key_switches_light_and_dark(opened: Chrome) -> None:
    paper = "return getComputedStyle(document.documentElement).backgroundColor"
    before = script(opened, paper)
    press(opened, "t")
    assert script(opened, paper) != before


@pytest.mark.parametrize("width", [360, 800, 1800])
def test_nothing_sticks_out_at_any_width(page: Page, tmp_path: Path, visit: Visit, width: int) -> None:
    driver = visit(write_page(page, tmp_path / "page.html"), width)
    assert script(driver, "return document.documentElement.scrollWidth") <= width


def test_names_from_outside_are_text_and_nothing_else(page: Page, tmp_path: Path, visit: Visit) -> None:
    evil = "<script>window.owned = 1</script>\"'><img src=x onerror='window.owned = 2'>"
    cases = [replace(case, image_id=f"{evil}{number}") for number, case in enumerate(page.cases)]
    hostile = replace(
        page,
        title=evil,
        subtitle=evil,
        class_names=(evil, f"{{{{ 7 * 7 }}}} {evil}", "</style></title><!--"),
        run_names=(f"a{evil}", f"b{evil}"),
        per_class={f"a{evil}": [0.1, 0.2, 0.3], f"b{evil}": [0.1, 0.2, None]},
        numbers=[replace(number, name=evil, unit=evil) for number in page.numbers],
        pairs=[replace(page.pairs[0], verdict=evil)],
        confusion={f"a{evil}": page.confusion["base"], f"b{evil}": page.confusion["full"]},
        images=[replace(row, image_id=evil) for row in page.images],
        facts=[(evil, evil)],
        cases=[replace(case, scores=(evil, evil)) for case in cases],
        curves=[
            replace(curve, title=evil, x_label=evil, y_label=evil, lines={evil: (1.0, 2.0, 3.0)})
            for curve in page.curves
        ],
        notes=[evil],
        commands=[evil],
    )
    driver = visit(write_page(hostile, tmp_path / "page.html"))
    driver.find_element(By.CSS_SELECTOR, ".card:first-child .open").click()
    assert script(driver, "return window.owned") is None
    assert driver.title == evil
    assert driver.find_element(By.TAG_NAME, "h1").text == evil
    assert driver.find_elements(By.CSS_SELECTOR, "img[onerror]") == []
    assert len(titles(driver)) == 7


def test_page_of_one_run_has_no_flip_and_shows_errors(one_run: Page, tmp_path: Path, visit: Visit) -> None:
    driver = visit(write_page(one_run, tmp_path / "page.html"))
    assert driver.find_elements(By.ID, "flip") == []
    tiles = driver.find_elements(By.CSS_SELECTOR, ".card:first-child figcaption")
    assert [tile.text for tile in tiles] == ["Whole picture", "Photograph", "Label", "full", "Errors"]
    driver.find_element(By.CSS_SELECTOR, ".card:first-child .open").click()
    press(driver, "f")
    assert driver.find_element(By.CSS_SELECTOR, "#views :checked").get_attribute("value") == "run0"


def test_predictions_without_labels_are_shown(one_run: Page, tmp_path: Path, visit: Visit) -> None:
    cases = [replace(case, label=None) for case in one_run.cases]
    bare = replace(one_run, numbers=[], per_class={}, curves=[], confusion={}, images=[], cases=cases)
    driver = visit(write_page(bare, tmp_path / "page.html"))
    tiles = driver.find_elements(By.CSS_SELECTOR, ".card:first-child figcaption")
    assert [tile.text for tile in tiles] == ["Whole picture", "Photograph", "full"]


def test_page_without_cases_still_switches_light_and_dark(page: Page, tmp_path: Path, visit: Visit) -> None:
    driver = visit(write_page(replace(page, cases=[]), tmp_path / "page.html"))
    driver.find_element(By.ID, "theme").click()
    assert driver.find_elements(By.CSS_SELECTOR, ".card") == []


@pytest.fixture
def three(page: Page) -> Page:
    """Three runs; the second finds nothing, so that pairs differ."""
    cases = [
        replace(case, predictions=(*case.predictions[:1] * 2, case.predictions[1]), scores=("a", "b", "c"), quality=q)
        for case, q in zip(page.cases, [(0, 0.5, 1), (0, 0, 1), (1, 0, 0)] + [(0, 0, 0)] * 4, strict=True)
    ]
    numbers = [replace(each, values=(each.values[0], 50.0, each.values[1]), intervals=()) for each in page.numbers]
    others = [replace(number, difference=-9.0, difference_interval=(-10.0, -8.0)) for number in numbers]
    pairs = [
        RunPair(0, 2, "full against base", numbers),
        RunPair(0, 1, "exits against base", others),
        RunPair(1, 2, "full against exits", others),
    ]
    names = ("base", "exits", "full")
    empty: dict[str, Any] = {"per_class": {}, "confusion": {}, "images": []}
    return replace(page, run_names=names, numbers=numbers, pairs=pairs, cases=cases, **empty)


def test_three_runs_flip_the_first_with_the_last(three: Page, tmp_path: Path, visit: Visit) -> None:
    driver = visit(write_page(three, tmp_path / "page.html"))
    before = [left_edge(driver, view) for view in ("run0", "run1", "run2")]
    press(driver, "f")
    assert [left_edge(driver, view) for view in ("run2", "run1", "run0")] == before


def test_any_pair_of_three_runs_can_be_chosen_and_everything_follows(three: Page, tmp_path: Path, visit: Visit) -> None:
    driver = visit(write_page(three, tmp_path / "page.html"))

    def sentences() -> list[str]:
        return [each.text for each in driver.find_elements(By.CSS_SELECTOR, ".sentence") if each.text]

    assert sentences() == ["full against base"]
    Select(driver.find_element(By.ID, "pair")).select_by_value("0-1")
    assert sentences() == ["exits against base"]
    gap = [cell.text for cell in driver.find_elements(By.CSS_SELECTOR, "#numbers td[data-label='Difference']")]
    assert gap[0].startswith("\N{MINUS SIGN}9.0")
    directions = {
        card.get_attribute("data-image"): card.get_attribute("data-direction")
        for card in driver.find_elements(By.CSS_SELECTOR, ".card")
    }
    assert (directions["pole_001"], directions["pole_002"], directions["pole_003"]) == ("gained", "same", "lost")
    assert titles(driver)[:2] == ["pole_003", "pole_001"]
    card = ".card[data-image='pole_003']"
    # what is far from the window is not laid out
    edge = "const tile = document.querySelector(arguments[0]); tile.scrollIntoView({block: 'center'});"
    edge += "return tile.getBoundingClientRect().left"
    before = [script(driver, edge, f"{card} .tile.run{run}") for run in range(3)]
    driver.find_element(By.ID, "flip").click()
    assert [script(driver, edge, f"{card} .tile.run{run}") for run in (1, 0, 2)] == before
    driver.find_element(By.CSS_SELECTOR, f"{card} .open").click()
    assert [side.text for side in driver.find_elements(By.CSS_SELECTOR, "#stage .side")] == ["A base", "B exits"]


def test_the_page_begins_with_the_verdict_and_a_card_for_each_answer(opened: Chrome) -> None:
    words = opened.find_element(By.ID, "verdict").text
    assert words.startswith("full against base: better in mIoU (+2.5).")
    cards = [card.text.split("\n") for card in opened.find_elements(By.CSS_SELECTOR, ".answer")]
    assert cards == [
        ["mIoU", "+2.5 points", "60.0 → 62.5 %", "95 % interval +0.5 to +4.5", "better"],
        ["Missed units", "+2.0 points", "40.0 → 42.0 %", "95 % interval +1.0 to +3.0", "worse"],
    ]
    assert "network\ntiny" in opened.find_element(By.CSS_SELECTOR, ".facts").text


def test_a_class_that_the_labels_do_not_hold_is_absent_and_differences_have_intervals(opened: Chrome) -> None:
    rows = [row.text for row in opened.find_elements(By.CSS_SELECTOR, "#classes tbody tr")]
    assert rows[0].split() == ["ground", "90.0", "91.0", "+1.0", "+0.5", "to", "+1.5"]
    assert rows[2].split() == ["pole", "absent"]


def test_the_confusion_matrix_names_the_pair_and_a_click_shows_its_cases(opened: Chrome) -> None:
    cell = opened.find_element(By.CSS_SELECTOR, "#matrix [data-label='1'][data-predicted='2']")
    assert cell.text == "45"
    assert cell.get_attribute("title") == "animal predicted as pole: 45.0 % of the label, 45 pixels"
    opened.find_element(By.CSS_SELECTOR, "#confusion [value='count'] + span").click()
    assert opened.find_element(By.CSS_SELECTOR, "#matrix [data-label='0'][data-predicted='0']").text == "90"
    opened.find_element(By.CSS_SELECTOR, "#matrix [data-label='1'][data-predicted='2']").click()
    assert titles(opened) == ["animal_004", "animal_005", "animal_006"]
    only = opened.find_element(By.ID, "only")
    assert only.text.startswith("animal predicted as pole")
    only.click()
    assert len(titles(opened)) == 7


def test_the_table_of_images_sorts_and_leads_to_the_cases_of_an_image(opened: Chrome) -> None:
    def names() -> list[str]:
        return [cell.text for cell in opened.find_elements(By.CSS_SELECTOR, "#image-table td:first-child")]

    assert names() == ["animal_004", "animal_005", "animal_006"]
    opened.find_element(By.CSS_SELECTOR, "#image-table th:nth-child(2) button").click()
    assert names() == ["animal_006", "animal_005", "animal_004"]
    opened.find_element(By.CSS_SELECTOR, "#image-table td button").click()
    assert titles(opened) == ["animal_006"]


def test_the_class_under_the_pointer_is_named(opened: Chrome) -> None:
    script(opened, "dispatchEvent(new Event('beforeprint'))")
    WebDriverWait(opened, 10).until(all_pictures_decoded)
    label = opened.find_element(By.CSS_SELECTOR, ".card:first-child .tile.label .mask")
    # the pole stands at 0.89 of the width of the zoomed label
    beside = round(0.386 * label.size["width"])
    ActionChains(opened).move_to_element_with_offset(label, beside, 0).perform()
    assert opened.find_element(By.ID, "pointed").text == "pole"
    ActionChains(opened).move_to_element(opened.find_element(By.CSS_SELECTOR, ".card h3")).perform()
    assert not opened.find_element(By.ID, "pointed").is_displayed()
