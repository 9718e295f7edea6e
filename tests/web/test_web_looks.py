"""How the page looks and is heard: at three widths, in both colours, nothing that axe finds fault with."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.support.service import REPO

AXE = REPO / "web" / "node_modules" / "axe-core" / "axe.min.js"
SIZES = {360: 740, 800: 1000, 1400: 900}
#: Text of every colour, both streams, a picture and a table.
SHOWCASE = r"""
import sys
for n in range(8):
    print(f"\x1b[3{n}mcolour {n}\x1b[0m \x1b[9{n}mbright\x1b[0m")
print("a \x1b[33mwarning\x1b[0m on stderr", file=sys.stderr, flush=True)
open("outputs/t.csv", "w").write("line,cars\nnorth,30\neast,16\n")
open("outputs/bars.svg", "w").write(
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 60" width="480" height="240">'
    + "".join(f'<rect x="{n*12+1}" y="{60-n*6}" width="10" height="{n*6}" fill="#e8833a"/>' for n in range(1, 10)) + "</svg>")
"""


def faults(page) -> list[str]:
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{fault['id']}: {node['target']} {node['failureSummary']}"
        for fault in found["violations"]
        for node in fault["nodes"]
    ]


def sideways(page) -> int:
    """By how many pixels the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


@pytest.mark.parametrize(
    ("width", "colours"), [(360, "light"), (360, "dark"), (800, "light"), (1400, "light"), (1400, "dark")]
)
def test_it_fits_and_axe_is_content(visit, width, colours):
    with visit(
        viewport={"width": width, "height": SIZES[width]}, color_scheme=colours, reduced_motion="reduce"
    ) as visitor:
        page = visitor.page
        page.add_init_script(path=AXE)
        visitor.arrive(token=None)
        seen: dict[str, list[str]] = {}

        def look(name: str) -> None:
            visitor.picture(f"{width}-{colours}-{name}")
            seen[name] = faults(page)
            assert sideways(page) <= 0, name

        look("1-arrival")
        visitor.arrive()
        visitor.write(SHOWCASE)
        visitor.run()
        visitor.ends("succeeded")
        expect(page.locator("#artifacts td").first).to_be_visible()
        drawing = page.locator("[data-name='bars.svg'] img")
        page.wait_for_function(
            "drawing => drawing.complete && drawing.naturalWidth > 0", arg=drawing.element_handle()
        )
        page.click("#isolation summary")
        look("2-result")
        page.click("#tab-limits")
        page.fill("#limit-memory_mb", "5")
        visitor.run()
        expect(page.locator("#problem")).to_contain_text("memory_mb")
        look("3-refused")
        for name in ("input", "args", "files"):
            page.click(f"#tab-{name}")
        page.click("#add-inline")
        page.click("#tab-history")
        expect(page.locator(".run-row").first).to_be_visible()
        look("4-history")
        page.click("#tab-usage")
        expect(page.locator("#usage")).not_to_be_empty()
        look("5-usage")
        assert {name: found for name, found in seen.items() if found} == {}


def test_the_colours_can_be_chosen_and_stay(visitor):
    page = visitor.page
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.click("#theme")
    assert page.evaluate(ground) == light
    page.click("#theme")
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.evaluate(ground) == dark


def test_the_keyboard_alone_is_enough(visitor):
    page = visitor.page
    page.locator("#tab-files").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-input")).to_be_focused()
    expect(page.locator("#panel-input")).to_be_visible()
    page.keyboard.press("End")
    expect(page.locator("#panel-limits")).to_be_visible()
    page.locator("#editor .cm-content").focus()
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")  # out of the editor, which otherwise takes Tab for itself
    assert page.evaluate("document.activeElement.id") != "editor"
    page.keyboard.press("ControlOrMeta+Enter")
    expect(page.locator("#status")).to_be_visible()
    visitor.ends("succeeded")
