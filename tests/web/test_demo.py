"""The demo in a real browser: in front of a stand-in that speaks tinirun's contract, and of the real service if it does.

The stand-in runs bash and python on this machine.
"""

from __future__ import annotations

import base64
import socket
from contextlib import closing, contextmanager

import pytest
from playwright.sync_api import expect

from config.parsers import DIALECT_NAMES
from tests.support.tinirun import Canned, Demo, TinirunServer
from tests.web.conftest import visiting
from tests.web.test_web_looks import AXE, faults, sideways
from web.demo.program import LANGUAGES

#: One red pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" onload="parent.hit=1"><script>parent.hit=1'
    '</script><foreignObject><img src="x" onerror="parent.hit=1"/></foreignObject></svg>'
)
HOSTILE = [
    '<img src=x onerror="window.hit=1">',
    "<script>window.hit=1</script>",
    "</span></pre><h1>gone</h1>",
    "data:text/html;base64,PHNjcmlwdD53aW5kb3cuaGl0PTE8L3NjcmlwdD4=",
    "data:image/png;base64,not base64",
    'data:image/png;base64,AAAA" onerror="window.hit=1',
    "data:image/svg+xml,<svg onload=window.hit=1>",
    'data: {"event":"result","data":{"exit_code":7}}',
    "\x1b[2J\x1b]0;title\x07 &amp; &lt;b&gt; \u202e gnp.exe",
]


#: The tests that the real service has to pass too.
BOTH = pytest.mark.parametrize("tinirun", ["stand-in", "service"], indirect=True)


@pytest.fixture(scope="module")
def tinirun(request):
    """The address of a service that speaks the contract, a key of it, and the stand-in, if it is one."""
    if getattr(request, "param", "stand-in") == "stand-in":
        with closing(TinirunServer()) as server:
            yield server.url, server.key, server
        return
    if "tinirun" not in DIALECT_NAMES:
        pytest.skip("this version does not serve tinirun's contract")
    service = request.getfixturevalue("service")
    document = service.get("/api/openapi.json", token=None)
    assert document.status == 200
    assert "/api/code/run" in document.body["paths"] or "/code/run" in document.body["paths"]
    yield f"{service.url}/api", service.token, None


@pytest.fixture(scope="module")
def demo(tinirun):
    url, key, _ = tinirun
    running = Demo(url, key)
    yield running
    assert not any(key in line for line in running.end())


@pytest.fixture
def open_demo(browser, demo):
    """Open the demo; at the end neither the page nor its policy may have had anything to complain of."""
    complaints: list[str] = []

    @contextmanager
    def begin(path="", at=demo, first=None, **options):
        with visiting(browser, at.url, complaints, **options) as visitor:
            if first is not None:
                visitor.page.add_init_script(path=first)
            yield visitor.arrive(token=None, fragment=path).page

    yield begin
    assert complaints == []


def run(page, lang, code):
    page.select_option("#lang", lang)
    page.fill("#code", code)
    page.click("#run")


def ends(page, words):
    expect(page.locator("#status")).to_have_text(words)
    expect(page.locator("#run")).to_be_enabled()


def printing(lines):
    """A python program that prints these lines."""
    text = "\n".join(lines) + "\n"
    return f"import base64\nprint(base64.b64decode('{base64.b64encode(text.encode()).decode()}').decode(), end='')"


@BOTH
def test_output_comes_while_the_program_runs_and_stop_ends_it(open_demo, tinirun):
    with open_demo() as page:
        run(page, "bash", "echo first; sleep 600; echo last")
        expect(page.locator("#output .stdout")).to_have_text("first\n")
        expect(page.locator("#status")).to_have_text("Running …")
        expect(page.locator("#run")).to_be_disabled()
        page.click("#stop")
        ends(page, "Stopped.")
        assert "last" not in page.locator("#output").text_content()
    if tinirun[2] is not None:
        assert tinirun[2].processes[-1].wait(10) != 0


@BOTH
def test_the_end_has_the_exit_code_and_stderr_is_told_apart(open_demo):
    with open_demo() as page:
        run(page, "bash", "echo out; echo err >&2; exit 3")
        ends(page, "Ended with exit code 3.")
        assert page.locator("#output .stdout").text_content() == "out\n"
        assert page.locator("#output .stderr").text_content() == "err\n"


def test_control_and_enter_run_and_the_output_is_of_the_last_run_alone(open_demo):
    with open_demo("?lang=bash") as page:
        page.fill("#code", "echo one")
        page.press("#code", "Control+Enter")
        ends(page, "Ended with exit code 0.")
        page.fill("#code", "echo two")
        page.press("#code", "Control+Enter")
        expect(page.locator("#output .stdout")).to_have_text("two\n")
        ends(page, "Ended with exit code 0.")


@BOTH
def test_hostile_output_is_text(open_demo):
    with open_demo() as page:
        run(page, "python", printing(HOSTILE) + "\nimport sys; print('<b>x</b>', file=sys.stderr)")
        ends(page, "Ended with exit code 0.")
        assert page.locator("#output .stdout").text_content() == "\n".join(HOSTILE) + "\n"
        assert page.locator("#output .stderr").text_content() == "<b>x</b>\n"
        assert page.locator("#output :not(span)").count() == 0
        assert page.evaluate("window.hit") is None


def test_an_image_is_shown_as_an_image_alone(open_demo):
    svg = base64.b64encode(SVG.encode()).decode()
    lines = ["before", f"data:image/png;base64,{PIXEL}", f"data:image/svg+xml;base64,{svg}",
             "data:image/jpeg;base64,AAAA", f"x data:image/png;base64,{PIXEL}"]  # fmt: skip
    with open_demo() as page:
        run(page, "python", printing(lines))
        ends(page, "Ended with exit code 0.")
        images = page.locator("#output img")
        expect(images).to_have_count(2)
        assert images.evaluate_all("found => found.map(image => image.naturalWidth)") == [1, 9]
        assert images.evaluate_all("found => found.map(image => image.alt)") == ["Plot 1", "Plot 2"]
        expect(page.locator("#output")).to_contain_text("(a plot that is no image)")
        assert f"x data:image/png;base64,{PIXEL}" in page.locator("#output").text_content()
        assert page.evaluate("window.hit") is None


@BOTH
def test_an_image_that_comes_in_pieces_is_one(open_demo):
    code = f"printf da; sleep 0.3; printf ta:image/png; sleep 0.3; printf ';base64,{PIXEL[:30]}'; sleep 0.3; echo {PIXEL[30:]}; printf da"
    with open_demo() as page:
        run(page, "bash", code)
        ends(page, "Ended with exit code 0.")
        expect(page.locator("#output img")).to_have_count(1)
        assert page.locator("#output .stdout").text_content() == "da"


def test_images_are_bounded_in_number_and_size(open_demo):
    code = f"for i in $(seq 25); do echo data:image/png\\;base64,{PIXEL}; done; printf 'data:image/png;base64,'; head -c 2100000 /dev/zero | tr '\\0' A; echo; echo after"
    with open_demo() as page:
        run(page, "bash", code)
        expect(page.locator("#status")).to_contain_text("code 0")
        expect(page.locator("#output img")).to_have_count(20)
        assert page.locator("#output").text_content().count("(more plots are not shown)") == 5
        assert "(more output is not shown)" in page.locator("#output").text_content()


@BOTH
def test_the_python_example_draws_a_plot(open_demo):
    with open_demo() as page:
        assert page.locator("#lang").input_value() == "python"
        page.click("#run")
        ends(page, "Ended with exit code 0.")
        image = page.locator("#output img")
        expect(image).to_have_count(1)
        assert image.evaluate("image => image.naturalWidth") > 100
        assert page.locator("#output .stdout").text_content() == "line 1\nline 2\nline 3\n"


@pytest.mark.parametrize(
    ("tinirun", "lang"),
    [("stand-in", "bash"), *(("service", lang) for lang in LANGUAGES)],
    indirect=["tinirun"],
)
def test_each_language_has_an_example_that_works(open_demo, tinirun, lang):
    with open_demo(f"?lang={lang}") as page:
        page.click("#run")
        ends(page, "Ended with exit code 0.")
        assert page.locator("#output .stdout").first.text_content() == "line 1\nline 2\nline 3\n"


def test_another_language_replaces_an_example_and_no_program(open_demo):
    with open_demo() as page:
        page.select_option("#lang", "go")
        assert page.locator("#code").input_value().startswith("package main")
        page.fill("#code", "my own")
        page.select_option("#lang", "rust")
        assert page.locator("#code").input_value() == "my own"


def test_tab_indents_and_leaves_the_editor_after_escape(open_demo):
    with open_demo() as page:
        page.fill("#code", "")
        page.press("#code", "Tab")
        assert page.locator("#code").input_value() == "    "
        page.press("#code", "Escape")
        page.press("#code", "Tab")
        assert page.evaluate("document.activeElement.id") == "output"


@pytest.mark.parametrize(("width", "colours"), [(360, "dark"), (800, "light")])
def test_it_fits_and_axe_finds_no_fault(open_demo, width, colours):
    with open_demo("?lang=bash", viewport={"width": width, "height": 740}, color_scheme=colours, first=AXE) as page:
        run(page, "bash", f"echo out; echo err >&2; echo data:image/png\\;base64,{PIXEL}; exit 1")
        ends(page, "Ended with exit code 1.")
        assert faults(page) == []
        assert sideways(page) <= 0


#: Fetches as the page does, and returns all that the browser gets.
FETCH = """async ([path, body]) => {
  const headers = {"Content-Type": "application/json"};
  const answer = await fetch(path, body ? {method: "POST", headers, body: JSON.stringify(body)} : {});
  return JSON.stringify([answer.status, [...answer.headers]]) + await answer.text();
}"""


@BOTH
def test_no_answer_to_the_browser_has_the_key(open_demo, tinirun):
    _, key, _ = tinirun
    asked = [
        ["/", None],
        ["healthz", None],
        ["nothing", None],
        ["run", {}],
        ["run", {"lang": "bash", "code": "env; echo $0"}],
    ]
    with open_demo() as page:
        found = [page.evaluate(FETCH, one) for one in asked]
        assert [text[:4] for text in found] == ["[200", "[200", "[404", "[400", "[200"]
        assert '"result"' in found[-1]
        assert not any(key in text for text in [*found, page.content()])


def test_a_program_that_is_too_large_is_said(open_demo):
    with open_demo() as page:
        page.select_option("#lang", "bash")
        page.evaluate("document.getElementById('code').value = '#'.repeat(1100000)")
        page.click("#run")
        expect(page.locator("#output .error")).to_contain_text("may have 1048576 bytes")
        ends(page, "Not run.")


def test_a_service_that_is_away_is_said_and_so_is_a_demo_that_is(open_demo):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{probe.getsockname()[1]}/api"
        demo = Demo(nowhere)
        with open_demo(at=demo) as page:
            run(page, "bash", "echo hi")
            expect(page.locator("#output .error")).to_have_text(
                "The service that runs programs does not answer. Try again later.\n"
            )
            ends(page, "Not run.")
            demo.end()
            page.click("#run")
            expect(page.locator("#output .error")).to_contain_text("The demo could not be reached")


def test_a_program_that_takes_too_long_is_said(open_demo, tinirun):
    url, key, _ = tinirun
    demo = Demo(url, key, DEMO_TIMEOUT_S="5")
    try:
        with open_demo(at=demo) as page:
            run(page, "bash", "echo first; sleep 600")
            ends(page, "Stopped: the program took too long.")
            assert page.locator("#output .stdout").text_content() == "first\n"
    finally:
        demo.end()


def test_it_works_in_a_frame_of_a_page_that_may_embed_it_and_no_other(browser, demo, tinirun):
    url, key, _ = tinirun
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
    with closing(Canned(head)) as embedder:
        origin = embedder.url.removesuffix("/api")
        embeddable = Demo(url, key, DEMO_FRAME_ANCESTORS=origin)
        frames = f'<iframe id="yes" src="{embeddable.url}/?lang=bash"></iframe><iframe id="no" src="{demo.url}">'
        embedder.answer += frames.encode()
        page = browser.new_page()
        try:
            page.goto(origin)
            inside = page.frame_locator("#yes")
            inside.locator("#code").fill("echo embedded")
            inside.locator("#run").click()
            expect(inside.locator("#output .stdout")).to_have_text("embedded\n")
            assert page.frame_locator("#no").locator("#code").count() == 0
        finally:
            page.close()
            embeddable.end()
