"""Results of cells on the page: what they show, and that nothing of them becomes a part of the page."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
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


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ("display('a'); clear_output()", []),
        ("display('a'); clear_output(); display('b')", ["'b'"]),
        ("display('a'); clear_output(wait=True); display('b'); clear_output(wait=True)", ["'b'"]),
        ("display('a'); clear_output(wait=True); print('output')", []),
        ("display('a', display_id='i'); clear_output(); display('b', display_id='i')", ["'b'"]),
    ],
)
def test_cleared_results_do_not_come_back(visitor, code, left):
    with_results(visitor, f"from IPython.display import clear_output\n{code};")
    visitor.ends("succeeded")
    expect(visitor.shown_id()).to_contain_text("run_")  # all of the run is drawn
    expect(cards(visitor.page)).to_have_text(left)
    if not left and "print" not in code:
        expect(visitor.output()).to_contain_text("The program cleared its results.")


def test_a_pdf_is_a_download_and_the_data_of_a_chart_is_shown(visitor):
    pdf = base64.b64encode(b"%PDF-1.4 not really").decode()
    chart = {"type": "line", "title": "<i>T</i>"}
    with_results(
        visitor,
        f"display({{'application/pdf': '{pdf}'}}, raw=True)\n"
        f"display({{'application/vnd.runyard.chart+json': {chart}}}, raw=True)",
    )
    visitor.ends("succeeded")
    expect(cards(visitor.page)).to_have_count(2)
    expect(cards(visitor.page).nth(0)).to_contain_text("PDF document")
    expect(cards(visitor.page).nth(1)).to_contain_text('"title": "<i>T</i>"')
    with visitor.page.expect_download() as begun:
        cards(visitor.page).nth(0).get_by_role("button", name="Download").click()
    assert begun.value.suggested_filename == "result.pdf"
    assert Path(begun.value.path()).read_bytes() == b"%PDF-1.4 not really"


def test_cells_of_a_table_that_are_lists_or_objects_are_json(visitor):
    with_results(
        visitor, "import pandas as pd\npd.DataFrame({'a': [{'x': '<b>'}, [1, None]], 'b': [True, 'y' * 2000]})"
    )
    visitor.ends("succeeded")
    expect(visitor.page.locator("#rich td")).to_have_text(['{"x":"<b>"}', "true", "[1,null]", "y" * 1000 + "…"])


def test_an_svg_is_drawn_and_no_script_of_it_runs(visitor):
    title = visitor.page.title()
    attack = "parent.document.title = document.title = 'taken'"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="30" height="20" onload="{attack}"><script>{attack}</script>'
        '<rect width="30" height="20"/></svg>'
    )
    with_results(visitor, f"display({{'image/svg+xml': {svg!r}}}, raw=True)")
    visitor.ends("succeeded")
    picture = cards(visitor.page).locator("img")
    visitor.page.wait_for_function("p => p.complete && p.naturalWidth === 30", arg=picture.element_handle())
    assert visitor.page.title() == title
    assert visitor.page.locator("#rich svg").count() == 0


def test_languages_without_results_offer_none(visitor):
    expect(visitor.page.locator("#results-box")).to_be_visible()
    visitor.page.check("#want-results")
    visitor.page.select_option("#language", "bash")
    expect(visitor.page.locator("#results-box")).to_be_hidden()
    visitor.write("echo plain", "bash")
    visitor.run()
    visitor.ends("succeeded")
    expect(visitor.page.locator("#rich-part")).to_be_hidden()
