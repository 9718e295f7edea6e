"""Results of cells on the page: what they show, and that nothing of them becomes a part of the page."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.support.service import TOKEN

CODE = """
import pandas as pd, matplotlib.pyplot as plt
from IPython.display import HTML
plt.plot([1, 2]); plt.show()
display(pd.DataFrame({"name": ["<b>x</b>", None], "n": [1, 2]}))
display(HTML(ATTACK))
handle = display("first", display_id="d"); handle.update("second")
6 * 7
"""
ATTACK = (
    "<script>parent.document.title = 'taken'</script><img src=x onerror=\"parent.document.title = 'taken'\">"
    "<form action=/v1/keys method=post><input name=a autofocus onfocus=alert(1)></form><p>harmless words</p>"
)


def with_results(visitor, code):
    visitor.write(code)
    visitor.page.check("#want-results")
    visitor.run()


def cards(page):
    return page.locator("#rich > li")


def test_figures_tables_values_and_hostile_html(visitor, service):
    title = visitor.page.title()
    with_results(visitor, f"ATTACK = {ATTACK!r}\n{CODE.strip()}")
    visitor.ends("succeeded")
    run_id = visitor.run_id()
    _check_cards(visitor.page, title)
    page = visitor.page
    page.reload()  # the same, of the run as it is kept
    page.wait_for_selector("html[data-ready]")
    if page.locator("#token-bar").is_visible():
        visitor.give(TOKEN)
    page.click("#tab-history")
    page.locator("#history-list button").first.click()
    expect(visitor.shown_id()).to_have_text(run_id)
    _check_cards(page, title)
    assert service.get(f"/v1/runs/{run_id}").body["results"][-1]["text"] == "42"
    # The only words are the browser's, on what it did not run.
    assert all(re.search("[Bb]lock|violates", said) for said in visitor.complaints), visitor.complaints
    visitor.complaints.clear()


def _check_cards(page, title):
    expect(cards(page)).to_have_count(5)
    picture = cards(page).nth(0).locator("img")
    page.wait_for_function(
        "picture => picture.complete && picture.naturalWidth > 300", arg=picture.element_handle()
    )
    table = cards(page).nth(1).locator("table")
    expect(table.locator("th")).to_have_text(["name", "n"])
    expect(table.locator("td")).to_have_text(["<b>x</b>", "1", "", "2"])
    assert cards(page).nth(2).locator("iframe").get_attribute("sandbox") == ""
    expect(page.frame_locator("#rich iframe").get_by_text("harmless words")).to_be_visible()
    assert page.title() == title
    expect(cards(page).nth(3)).to_have_text("'second'")
    expect(cards(page).nth(4)).to_have_text("42")


def test_an_exception_and_its_hint_are_shown(visitor):
    with_results(visitor, "def f():\n    import nunpy\nf()")
    visitor.ends("failed")
    expect(visitor.page.locator("#rich .raised")).to_contain_text("ModuleNotFoundError")
    expect(visitor.page.locator("#rich .raised")).to_contain_text("import nunpy")
    expect(visitor.page.locator("#hints")).to_contain_text("numpy")


def test_languages_without_results_offer_none(visitor):
    expect(visitor.page.locator("#results-box")).to_be_visible()
    visitor.page.check("#want-results")
    visitor.page.select_option("#language", "bash")
    expect(visitor.page.locator("#results-box")).to_be_hidden()
    visitor.write("echo plain", "bash")
    visitor.run()
    visitor.ends("succeeded")
    expect(visitor.page.locator("#rich-part")).to_be_hidden()
