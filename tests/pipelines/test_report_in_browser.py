"""The report opens offline in a real browser: no request leaves it, nothing errs, nothing spills over the page."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def page(quickstart: dict[str, Any]) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian's package chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(offline=True).new_page()
        yield page
        browser.close()


@pytest.mark.parametrize("width", [1200, 400])
def test_the_report_opens_offline(page: Page, quickstart: dict[str, Any], width: int) -> None:
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": width, "height": 900})
    report = Path(quickstart["artifacts"]["report"]) / "report.html"
    page.goto(report.as_uri())
    assert said == []
    assert asked == [report.as_uri()]
    assert page.locator("h1").inner_text() == "Quickstart"
    for heading in (
        "Health of the activations",
        "Scorecard",
        "Training",
        "Variables",
        "What the model knows of them",
        "Their best latents",
        "Dose-response",
        "Feature cards",
    ):
        assert page.get_by_role("heading", name=heading, exact=True).is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    widths = "[...document.querySelectorAll('svg')].filter(s => s.checkVisibility()).map(s => s.clientWidth)"
    plots = [drawn for drawn in page.evaluate(widths) if drawn >= 200]
    assert len(plots) >= 11, "five of health, five training curves and the densities"
