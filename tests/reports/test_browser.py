"""The page in a browser: no error, sorting, search, choosing sources by keyboard and mouse, narrow and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest

from tests.reports.conftest import BANDS, Field

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")

ENTER, ARROW_DOWN = "\ue007", "\ue015"
# Elements of Bokeh's widgets are in shadow roots of shadow roots.
FIND = """
const all = (root, css) => [...root.querySelectorAll(css),
  ...[...root.querySelectorAll("*")].filter((e) => e.shadowRoot).flatMap((e) => all(e.shadowRoot, css))];
"""


class Page:
    """One page that is open in the browser."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def run(self, script: str) -> Any:
        return self.driver.execute_script(FIND + script)

    def wait(self, script: str) -> Any:
        """Return what a script returns as soon as it is true."""
        end = monotonic() + 60
        while not (value := self.run(script)):
            assert monotonic() < end, script
            sleep(0.05)
        return value

    def press(self, keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(keys).perform()

    def click(self, css: str, text: str) -> None:
        place = f"all(document, {css!r}).find((e) => e.textContent.trim() === {text!r})"
        webdriver.ActionChains(self.driver).move_to_element(self.wait(f"return {place}")).click().perform()

    def name(self) -> str:
        return str(self.run("return document.getElementById('name').textContent"))

    def ids(self) -> list[int]:
        """Return the ids in the table that are in view, from above."""
        rows = "all(document, '.slick-row').sort((a, b) => a.getBoundingClientRect().y - b.getBoundingClientRect().y)"
        return [int(text) for text in self.run(f"return {rows}.map((e) => e.querySelector('.slick-cell').textContent)")]


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    service = shutil.which("chromedriver")
    if browser is None or service is None:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,1400",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(service))
    try:
        yield driver
    finally:
        driver.quit()


def open_page(driver: Any, path: Path) -> Page:
    driver.get(path.as_uri())
    page = Page(driver)
    page.wait("return document.documentElement.dataset.ready")
    page.wait("return all(document, '.slick-row').length > 3")
    return page


@pytest.fixture(scope="module")
def page(driver: Any, field: Field) -> Page:
    return open_page(driver, field.page)


def test_page_works_in_a_browser(page: Page, field: Field) -> None:
    catalog = field.result.catalog
    assert f"{len(catalog)} sources" in page.run("return document.getElementById('found').textContent")
    # Stamps of both bands, with light and outlines in them.
    assert page.wait("return document.querySelectorAll('#stamps canvas').length") == 2
    colours = """
    return [...document.querySelectorAll('#stamps canvas')].map((canvas) => {
      const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
      const seen = new Set();
      for (let i = 0; i < data.length; i += 4) seen.add(data[i] + 256 * data[i + 1] + 65536 * data[i + 2]);
      return seen.size;
    })"""
    assert min(page.run(colours)) > 50

    # Outlines of few sources are as clear as they can be; those of thousands would be fainter (`fadeOutlines`).
    glyph = "Bokeh.documents[0].get_model_by_name('outlines').glyph"
    assert page.run(f"return {glyph}.line_alpha.value") == pytest.approx(min(0.55, 800 / len(catalog)))

    # Sorting: a heading, by mouse.
    page.click(".slick-column-name", "AB mag")
    brightest = int(catalog["id"][catalog["flux_auto"].argmax()])
    page.wait(f"return all(document, '.slick-row .slick-cell').some((e) => e.textContent.trim() === '{brightest}')")
    sleep(0.2)
    assert brightest in page.ids()

    # Search: the key that leads there, conditions, an id.
    page.press("/mag < 25")
    bright = sorted(int(i) for i in catalog["id"][catalog["mag_auto"].value < 25])
    page.wait(f"return document.getElementById('found').textContent.startsWith('{len(bright)} of')")
    page.press(ENTER)
    page.wait(f"return {bright}.includes(Number(document.getElementById('name').textContent.split(' ')[1]))")
    page.run("document.getElementById('search').value = ''; document.activeElement.blur()")
    chosen = int(catalog["id"][4])
    page.press("/" + str(chosen) + ENTER)
    page.wait(f"return document.getElementById('name').textContent === 'Source {chosen}'")
    row = catalog[4]
    assert f"{row['mag_auto'].value:.2f} AB mag" in page.run("return document.getElementById('place').textContent")

    # Keys: next and previous number, and arrows in the table.
    clear = "box.value = ''; box.dispatchEvent(new Event('input')); box.blur()"
    page.run(f"const box = document.getElementById('search'); {clear}")
    page.press("n")
    page.wait(f"return document.getElementById('name').textContent === 'Source {int(catalog['id'][5])}'")
    page.press("p")
    page.wait(f"return document.getElementById('name').textContent === 'Source {chosen}'")
    first = page.ids()[:2]
    page.click(".slick-row .slick-cell", str(first[0]))
    page.wait(f"return document.getElementById('name').textContent === 'Source {first[0]}'")
    page.press(ARROW_DOWN)
    page.wait(f"return document.getElementById('name').textContent === 'Source {first[1]}'")
    assert page.run("return document.getElementById('numbers').querySelectorAll('tr').length") == 3


def test_page_is_narrow_and_dark_where_it_should_be(page: Page) -> None:
    for scheme, colour in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 24, 29)")):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        assert page.run("return getComputedStyle(document.body).backgroundColor") == colour
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.wait("return window.innerWidth === 400")
    sleep(0.3)
    assert page.run("return document.documentElement.scrollWidth") <= 400
    # All that was done left no warning and no error.
    assert [entry for entry in page.driver.get_log("browser") if entry["level"] != "INFO"] == []


def test_band_without_data_is_told_beside_its_empty_plots(driver: Any, blind: Field) -> None:
    """A map of depth without a map had a bar from 0 to 1 mag."""
    page = open_page(driver, blind.page)

    lines = {"errors": "no flux is above its error", "factor": "a(r) is not known"}
    lines |= {"depth": "no image, no data, or a(r) is not known"}
    for number, (band, known) in enumerate(zip(BANDS, (False, True), strict=True)):
        choose = f"menu.value = '{number}'; menu.dispatchEvent(new Event('change'))"
        page.run(f"const menu = document.getElementById('band'); {choose}")
        for part, words in lines.items():
            shown = page.run(f"return document.getElementById('without-{part}').textContent")
            assert shown == ("" if known else f"{band}: {words}.")
        assert page.run("return Bokeh.documents[0].get_model_by_name('depth bar').visible") is known
        assert page.run("return Bokeh.documents[0].get_model_by_name('depth shown').indices.length") == known
    low, high = page.run("const it = Bokeh.documents[0].get_model_by_name('depth colours'); return [it.low, it.high]")
    limits = blind.result.catalog[f"{BANDS[1]}_depth5_1"].value
    assert np.nanmin(limits) - 0.1 < low <= high < np.nanmax(limits) + 0.1
    assert [entry for entry in driver.get_log("browser") if entry["level"] != "INFO"] == []
