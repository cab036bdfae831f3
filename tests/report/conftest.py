"""Generated pages, and a headless browser that opens them."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from report.pages import CLASSES, mislabelled_animal, missed_pole, overview, palette
from selfreg.report.content import Curve, ImageRow, Number, Page, RunPair


@pytest.fixture
def page() -> Page:
    """Two runs, three numbers of the three verdicts, two curves and seven cases."""
    cases = [missed_pole(1, True), missed_pole(2, True), missed_pole(3, False)]
    cases += [mislabelled_animal(4), mislabelled_animal(5), mislabelled_animal(6), overview(7)]
    numbers = [
        Number("mIoU", "%", True, (60.0, 62.5), ((58.0, 62.0), (60.0, 65.0)), 2.5, (0.5, 4.5), card=True),
        Number("Missed units", "%", False, (40.0, 42.0), (None, None), 2.0, (1.0, 3.0), card=True),
        Number("Time", "s", False, (800.0, 1090.0), (), 290.0, (-10.0, 590.0)),
    ]
    gaps = [Number("", "%", True, (), (), 1.0, (0.5, 1.5)), Number("", "%", True, (), (), -5.0, (-6.0, -4.0))]
    return Page(
        title="Two runs",
        subtitle="generated pictures",
        run_names=("base", "full"),
        class_names=CLASSES,
        palette=palette(),
        numbers=numbers,
        pairs=[RunPair(0, 1, "full against base: better in mIoU (+2.5).", numbers, [*gaps, None])],
        per_class={"base": [0.9, 0.5, None], "full": [0.91, 0.45, 0.4]},
        labelled_classes=[True, True, False],
        confusion={name: np.array([[90, 10, 0], [5, 50, 45], [0, 0, 0]]) for name in ("base", "full")},
        images=[ImageRow(f"animal_{n:03}", (90.0 + n, 80.0 + 2 * n), (n, 1), (0, n)) for n in range(4, 7)],
        facts=[("network", "tiny"), ("seed", "0")],
        cases=cases,
        curves=[
            Curve(
                "Recall", "area, px", "recall", (16, 64, 256), {"base": (0.1, None, 0.9), "full": (0.2, 0.5, 0.9)}, True
            ),
            Curve("Loss", "epoch", "loss", (1, 2, 3), {"base": (3.0, 2.0, 1.5), "full": (3.5, 2.0, 1.4)}),
        ],
        notes=["A note."],
        commands=["selfreg compare base full"],
    )


@pytest.fixture
def one_run(page: Page) -> Page:
    return replace(
        page,
        run_names=("full",),
        pairs=[],
        verdict="full finds six of seven objects.",
        confusion={"full": page.confusion["full"]},
        images=[
            replace(row, right=row.right[1:], missed=row.missed[1:], invented=row.invented[1:]) for row in page.images
        ],
        numbers=[Number("mIoU", "%", True, (62.5,))],
        per_class={"full": [0.91, 0.45, 0.4]},
        cases=[replace(case, predictions=case.predictions[:1], scores=case.scores[:1]) for case in page.cases],
    )


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    """A headless Chromium of the system; skipped where there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver_path = shutil.which("chromedriver")
    if chromium is None or driver_path is None:
        pytest.skip("no browser here: install Debian's packages chromium and chromium-driver to run this test")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    still = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", still)
    yield driver
    driver.quit()


@pytest.fixture
def visit(browser: webdriver.Chrome) -> Iterator[Callable[[Path], webdriver.Chrome]]:
    """Open a file in the browser; the test fails if the page wrote anything to the console."""

    def open_file(path: Path, width: int = 1400, height: int = 1000) -> webdriver.Chrome:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(path.as_uri())
        return browser

    browser.get_log("browser")
    yield open_file
    assert browser.get_log("browser") == []
