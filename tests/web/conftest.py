"""A real Chromium, Debian's, on the page of the real service."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from tests.support.service import REPO, TOKEN

CHROMIUM = "/usr/bin/chromium"
#: Pictures of the page, kept for whoever looks at what a change did to it.
PICTURES = Path(os.environ.get("RUNYARD_SCREENSHOTS", REPO / "screenshots"))
#: On a machine that does everything else as well, a run waits for its turn.
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def browser():
    """Of this module alone: while it is there, its event loop is the thread's."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


class Visitor:
    """Somebody who has the page open."""

    def __init__(self, page: Page, url: str, complaints: list[str]) -> None:
        self.page = page
        self.url = url
        self.complaints = complaints
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)

    def arrive(self, token: str | None = TOKEN, fragment: str = "") -> Visitor:
        """Open the page, and give it the token."""
        self.page.goto(f"{self.url}/{fragment}")
        self.page.wait_for_selector("html[data-ready]")
        if token is not None:
            self.give(token)
            expect(self.page.locator("#token-bar")).to_be_hidden()
        return self

    def give(self, token: str) -> None:
        if not self.page.locator("#token-bar").is_visible():
            self.page.click("#token-button")
        self.page.fill("#token", token)
        self.page.click("#token-form button[type=submit]")

    def write(self, code: str, language: str = "python") -> None:
        """Put a program into the editor, as a paste does."""
        if self.page.locator("#language").input_value() != language:
            self.page.select_option("#language", language)
        editor = self.page.locator("#editor .cm-content")
        editor.click()
        self.page.keyboard.press("ControlOrMeta+a")
        # Typed over a selection, Chromium itself would try to carry the old text's style along, inline.
        self.page.keyboard.press("Delete")
        self.page.keyboard.insert_text(code)

    def code(self) -> str:
        return self.page.locator("#editor .cm-content").inner_text()

    def run(self) -> None:
        self.page.click("#run")

    def ends(self, status: str) -> None:
        expect(self.page.locator("#status")).to_have_attribute("data-status", status)

    def output(self):
        return self.page.locator("#terminal")

    def shown_id(self) -> Locator:
        return self.page.locator("#isolation-list dd").first

    def run_id(self) -> str:
        return self.shown_id().text_content() or ""

    def picture(self, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png")


@contextmanager
def visiting(browser: Browser, url: str, complaints: list[str], **options) -> Iterator[Visitor]:
    """Somebody with a browser of their own: nothing is remembered from another."""
    context = browser.new_context(**options)
    try:
        page = context.new_page()

        def console(message: ConsoleMessage) -> None:
            # What the browser says of an answer that is an error, the page says better.
            if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
                complaints.append(message.text)

        page.on("console", console)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        yield Visitor(page, url, complaints)
    finally:
        context.close()


@pytest.fixture
def visit(browser, service):
    """Visitors; at the end neither the page nor its policy may have had anything to complain of."""
    complaints: list[str] = []

    def begin(url: str = service.url, **options):
        return visiting(browser, url, complaints, **options)

    yield begin
    assert complaints == []


@pytest.fixture
def visitor(visit):
    with visit(viewport={"width": 1400, "height": 900}) as visitor:
        yield visitor.arrive()
