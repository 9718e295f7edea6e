"""What people do with the page, done by a browser: nothing here is simulated but the person."""

from __future__ import annotations

import json
import re

from playwright.sync_api import Route, expect

from tests.support.service import OTHER_TOKEN, TOKEN
from tests.web.web_line import Line


def test_a_program_is_run_and_its_facts_are_shown(visitor, service):
    visitor.write("print('sum', sum(range(10)))")
    visitor.page.keyboard.press("ControlOrMeta+Enter")
    visitor.ends("succeeded")
    expect(visitor.output()).to_contain_text("sum 45")
    expect(visitor.page.locator("#facts")).to_contain_text("Peak memory")
    run = service.get(f"/v1/runs/{visitor.run_id()}").body
    assert (run["status"], run["stdout"]) == ("succeeded", "sum 45\n")
    visitor.page.click("#isolation summary")
    for fact in (run["isolation"]["runtime"], run["isolation"]["image"], run["isolation"]["source"]):
        expect(visitor.page.locator("#isolation-list")).to_contain_text(fact)


def test_every_language_has_its_own_example_and_colours(visitor, service):
    for language in service.get("/v1/languages").body["data"]:
        visitor.page.select_option("#language", language["id"])
        expect(visitor.page.locator("#entry-file")).to_have_text(language["entry_file"])
        visitor.page.select_option("#example", "0")
        expect(visitor.page.locator("#editor .cm-content")).to_contain_text(
            language["example"].split("\n")[0].strip()
        )
        expect(visitor.page.locator("#editor .cm-line span[class]").first).to_be_visible()


def test_streams_are_told_apart_and_colours_shown_while_it_runs_then_it_is_cancelled(visitor):
    visitor.write(
        "import sys, time\n"
        "print('\\x1b[31mred\\x1b[0m plain <b>not bold</b>', flush=True)\n"
        "print('to stderr', file=sys.stderr, flush=True)\n"
        "time.sleep(50)\n"
    )
    visitor.run()
    expect(visitor.output().locator(".block.stderr")).to_contain_text("to stderr")
    expect(visitor.page.locator("#status")).to_have_attribute("data-status", "running")
    coloured = visitor.output().get_by_text("red", exact=True)
    assert "ansi-1" in coloured.get_attribute("style")
    expect(visitor.output().locator(".block.stdout")).to_contain_text("red plain <b>not bold</b>")
    visitor.page.click("[data-show=stderr]")
    expect(coloured).to_be_hidden()
    visitor.page.click("[data-show=all]")
    visitor.page.click("#cancel")
    visitor.ends("cancelled")
    expect(visitor.page.locator("#run")).to_be_visible()


def test_a_program_that_takes_too_long_is_said_to(visitor):
    visitor.write("while True:\n    pass")
    visitor.page.click("#tab-limits")
    visitor.page.fill("#limit-timeout_ms", "400")
    visitor.run()
    visitor.ends("timeout")
    expect(visitor.page.locator("#status-detail")).to_contain_text("400 ms")


def test_a_plot_is_seen_and_a_table_is_a_table(visitor):
    visitor.page.select_option("#example", label="Plot")
    visitor.run()
    visitor.ends("succeeded")
    picture = visitor.page.locator("[data-name='plot.png'] img")
    expect(picture).to_be_visible()
    visitor.page.wait_for_function(
        "picture => picture.complete && picture.naturalWidth > 300", arg=picture.element_handle()
    )
    with visitor.page.expect_download() as download:
        visitor.page.click("[aria-label='Download plot.png']")
    assert download.value.path().read_bytes().startswith(b"\x89PNG")
    visitor.write("open('outputs/t.csv', 'w').write('name,n\\n\"a, b\",1\\n<i>x</i>,2\\n')")
    visitor.run()
    visitor.ends("succeeded")
    cells = visitor.page.locator("[data-name='t.csv'] td")
    expect(cells).to_have_text(["a, b", "1", "<i>x</i>", "2"])


def test_hostile_artifacts_do_nothing(visitor):
    attack = '<script>parent.document.title="owned";alert(1)</script><img src=x onerror="alert(2)">'
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40" onload="alert(3)">'
        '<script>alert(4)</script><rect width="40" height="40" fill="red"/></svg>'
    )
    visitor.write(
        f"open('outputs/page.html', 'w').write({attack + '<p>harmless words</p>'!r})\n"
        f"open('outputs/drawing.svg', 'w').write({svg!r})\n"
        "open('outputs/<img src=x onerror=alert(5)>.csv', 'w').write('<script>alert(6)</script>,2')\n"
        f"open('outputs/lie.png', 'w').write({attack!r})\n"
    )
    visitor.run()
    visitor.ends("succeeded")
    page = visitor.page
    expect(page.frame_locator("[data-name='page.html'] iframe").get_by_text("harmless words")).to_be_visible()
    assert page.locator("iframe").get_attribute("sandbox") == ""
    drawing = page.locator("[data-name='drawing.svg'] img")
    page.wait_for_function("drawing => drawing.complete && drawing.naturalWidth > 0", arg=drawing.element_handle())
    assert page.locator("[data-name='lie.png'] img").count() == 0  # the service looked at what is in it
    expect(page.locator("#artifacts table")).to_contain_text("<script>alert(6)</script>")
    assert page.title() == "Runyard"
    # The only words are the browser's, on what it did not run.
    assert all("Blocked script execution" in words for words in visitor.complaints)
    visitor.complaints.clear()


def test_files_input_arguments_and_environment_reach_the_program(visitor):
    visitor.write(
        "import os, sys, helper\n"
        "print(helper.word, input(), sys.argv[1:], os.environ['MODE'], open('inputs/up.txt').read())"
    )
    page = visitor.page
    page.click("#add-inline")
    page.fill("#file-path-0", "helper.py")
    page.fill("#file-content-0", "word = 'helped'")
    page.set_input_files("#upload", {"name": "up.txt", "mimeType": "text/plain", "buffer": b"brought along"})
    expect(page.locator("#upload-status")).to_contain_text("up.txt uploaded")
    page.click("#tab-input")
    page.fill("#stdin", "Alice\n")
    page.click("#tab-args")
    page.fill("#args", "--a b\nc")
    page.fill("#env", "MODE=x=y")
    visitor.run()
    visitor.ends("succeeded")
    expect(visitor.output()).to_contain_text("helped Alice ['--a b', 'c'] x=y brought along")


def test_history_shows_a_run_and_runs_it_again(visitor, service):
    visitor.give(OTHER_TOKEN)
    expect(visitor.page.locator("#token-bar")).to_be_hidden()
    visitor.write("import sys\nprint('once more', sys.argv[1])")
    visitor.page.click("#tab-args")
    visitor.page.fill("#args", "seven")
    visitor.run()
    visitor.ends("succeeded")
    first = visitor.run_id()
    visitor.write("print('something else')")
    visitor.page.fill("#args", "")
    visitor.page.click("#tab-history")
    row = visitor.page.locator(f".run-row[data-run={first}]")
    expect(row).to_contain_text("once more seven")
    row.get_by_role("button", name="Run again").click()
    expect(visitor.page.locator("#part-result")).to_be_visible()
    # Hidden, until the new one's is there.
    expect(visitor.shown_id()).not_to_have_text(first)
    expect(visitor.output()).to_contain_text("once more seven")
    visitor.ends("succeeded")
    second = visitor.run_id()
    assert second != first
    made_by = service.get(f"/v1/runs/{second}?include=request", token=OTHER_TOKEN).body["request"]
    assert (made_by["args"], "once more" in made_by["code"]) == (["seven"], True)
    visitor.page.click("#tab-history")
    row.locator(".run-open").click()
    expect(visitor.shown_id()).to_have_text(first)
    expect(visitor.output()).to_contain_text("once more seven")
    visitor.ends("succeeded")
    assert visitor.run_id() == first


def test_a_run_that_is_looked_up_is_waited_for_and_the_last_one_clicked_is_shown(visitor):
    ids = []
    for word in ("first", "second"):
        visitor.write(f"print('the {word}')")
        visitor.run()
        expect(visitor.output()).to_contain_text(f"the {word}")
        visitor.ends("succeeded")
        ids.append(visitor.run_id())
    answers: list[Route] = []
    looked_up = re.compile("include=request")

    def hold(route: Route) -> None:
        answers.append(route)

    visitor.page.route(looked_up, hold)
    for one in reversed(ids):
        visitor.page.click("#tab-history")
        visitor.page.locator(f".run-row[data-run={one}] .run-open").click()
        visitor.ends("loading")
        expect(visitor.output()).to_be_hidden()
        expect(visitor.page.locator("#isolation")).to_be_hidden()
    for answer in reversed(answers):  # of what was clicked first it comes last
        with visitor.page.expect_response(looked_up):
            answer.continue_()
    expect(visitor.shown_id()).to_have_text(ids[0])
    expect(visitor.output()).to_contain_text("the first")
    visitor.ends("succeeded")
    assert "the first" in visitor.code()


def test_a_run_that_is_gone_is_said_to_be(visitor, service):
    visitor.write("print('short-lived')")
    visitor.run()
    visitor.ends("succeeded")
    gone = visitor.run_id()
    visitor.page.click("#tab-history")
    row = visitor.page.locator(f".run-row[data-run={gone}] .run-open")
    expect(row).to_be_visible()
    assert service.request("DELETE", f"/v1/runs/{gone}").status == 200
    row.click()
    words = service.get(f"/v1/runs/{gone}").body["error"]["message"]
    expect(visitor.page.locator("#problem")).to_contain_text(words)
    expect(visitor.page.locator("#status")).to_be_hidden()
    expect(visitor.output()).to_be_hidden()


def test_a_bad_token_is_refused_in_the_services_words(visit, service):
    words = service.get("/v1/runs", token="nobodys").body["error"]["message"]
    with visit() as visitor:
        visitor.arrive(token=None)
        visitor.run()
        expect(visitor.page.locator("#token-problem")).to_contain_text("A token is needed")
        visitor.give("nobodys")
        expect(visitor.page.locator("#token-problem")).to_have_text(words)
        expect(visitor.page.locator("#token")).to_have_attribute("aria-invalid", "true")
        visitor.run()
        expect(visitor.page.locator("#problem")).to_contain_text(words)
        visitor.give("smile ☺")
        expect(visitor.page.locator("#token-problem")).to_contain_text("invalid characters")
        visitor.give(TOKEN)
        expect(visitor.page.locator("#token-bar")).to_be_hidden()


def test_a_token_is_kept_where_it_was_asked_to_be(visitor):
    kept = "[sessionStorage.getItem('runyard.token'), localStorage.getItem('runyard.token')]"
    assert visitor.page.evaluate(kept) == [TOKEN, None]
    visitor.page.click("#token-button")
    visitor.page.check("#remember")
    visitor.give(TOKEN)
    expect(visitor.page.locator("#token-bar")).to_be_hidden()
    assert visitor.page.evaluate(kept) == [None, TOKEN]


def test_a_refusal_names_the_field_and_leads_to_it(visitor, service):
    asked = {"language": "python", "code": "1", "limits": {"timeout_ms": 999999}}
    words = service.post("/v1/runs", json=asked).body["error"]["message"]
    visitor.page.click("#tab-limits")
    visitor.page.fill("#limit-timeout_ms", "999999")
    visitor.page.click("#tab-files")
    visitor.run()
    expect(visitor.page.locator("#problem")).to_contain_text(words)
    visitor.page.get_by_role("button", name="Go to the field").click()
    expect(visitor.page.locator("#limit-timeout_ms")).to_be_focused()
    expect(visitor.page.locator("#limit-timeout_ms")).to_have_attribute("aria-invalid", "true")


def test_what_no_request_can_say_is_said_by_the_page(visitor):
    visitor.page.click("#tab-args")
    visitor.page.fill("#env", "no equals sign")
    visitor.run()
    expect(visitor.page.locator("#problem")).to_contain_text("NAME=value")


def test_a_link_carries_the_program_and_runs_nothing(visitor, visit, service):
    visitor.write("print('from afar: ünï→')")
    visitor.page.click("#tab-input")
    visitor.page.fill("#stdin", "with input")
    visitor.page.click("#share")
    expect(visitor.page.locator("#toast")).to_contain_text("copied")
    fragment = visitor.page.evaluate("location.hash")
    assert TOKEN not in fragment
    with visit() as other:
        other.arrive(fragment=fragment)
        assert "from afar: ünï→" in other.code()
        expect(other.page.locator("#stdin")).to_have_value("with input")
        expect(other.page.locator("#status")).to_be_hidden()
    with visit() as third:
        third.arrive(token=None, fragment="#program=bm90IGEgcHJvZ3JhbQ")
        expect(third.page.locator("#toast")).to_contain_text("no valid program")


def test_a_reload_keeps_the_program(visitor):
    visitor.write("print('kept')")
    visitor.page.reload()
    visitor.page.wait_for_selector("html[data-ready]")
    assert "print('kept')" in visitor.code()


def test_a_lost_connection_is_said_and_resumed(visit, service):
    with (
        Line(service.port, hold_after=b"before the cut") as line,
        visit(f"http://127.0.0.1:{line.port}") as visitor,
    ):
        visitor.arrive()
        visitor.write("import time\nprint('before the cut', flush=True)\ntime.sleep(1)\nprint('after it')")
        visitor.run()
        expect(visitor.output()).to_contain_text("before the cut")
        line.cut()
        visitor.ends("lost")
        expect(visitor.page.locator("#problem")).to_contain_text("The connection was lost")
        expect(visitor.output()).not_to_contain_text("after it")
        line.mend()
        visitor.page.get_by_role("button", name="Resume").click()
        visitor.ends("succeeded")
        assert visitor.output().inner_text().count("before the cut") == 1
        expect(visitor.output()).to_contain_text("after it")
        expect(visitor.page.locator("#problem")).to_be_empty()


def test_a_compilers_words_are_shown(visitor):
    visitor.write("fn main() { oops }", "rust")
    visitor.run()
    visitor.ends("failed")
    expect(visitor.page.locator("#compile")).to_contain_text("cannot find value")
    expect(visitor.page.locator("#status-detail")).to_have_text("compilation failed")


def test_what_compiling_took_is_shown_of_a_run_and_of_its_history(visitor, service):
    visitor.write("fn main() {}", "rust")
    visitor.run()
    visitor.ends("succeeded")
    run_id = visitor.run_id()
    compiled = service.get(f"/v1/runs/{run_id}").body["compile"]
    assert compiled["cpu_ms"] > 0
    facts = visitor.page.locator("#facts > div")

    def expect_facts() -> None:
        expect(facts.nth(0)).to_have_text("Compile" + in_words(compiled["wall_ms"]))
        expect(facts.nth(1)).to_have_text("Compile CPU" + in_words(compiled["cpu_ms"]))
        expect(facts.nth(2)).to_contain_text("Wall clock")

    expect_facts()
    visitor.write("print(1)", "python")
    visitor.run()
    expect(visitor.shown_id()).not_to_have_text(run_id)
    expect(visitor.page.locator("#facts")).not_to_contain_text("Compile")
    visitor.page.click("#tab-history")
    visitor.page.locator(f".run-row[data-run={run_id}] .run-open").click()
    expect_facts()


def test_a_run_from_before_the_compilers_cpu_time_was_kept_is_shown_without_it(visitor):
    def as_it_was(route: Route) -> None:
        reply = route.fetch()
        events = [json.loads(line) for line in reply.text().splitlines()]
        del events[-1]["data"]["compile"]["cpu_ms"]
        route.fulfill(response=reply, body="".join(json.dumps(event) + "\n" for event in events))

    visitor.write("fn main() { oops }", "rust")
    visitor.run()
    visitor.ends("failed")
    run_id = visitor.run_id()
    visitor.page.route("**/events?*", as_it_was)
    visitor.page.click("#tab-history")
    visitor.page.locator(f".run-row[data-run={run_id}] .run-open").click()
    expect(visitor.page.locator("#facts > div").nth(1)).to_contain_text("Wall clock")
    expect(visitor.page.locator("#facts > div").first).to_contain_text("Compile")


def in_words(ms: int) -> str:
    """As the page says a time of less than ten seconds."""
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:.2f} s"


def test_usage_is_shown_or_said_not_to_be_there(visitor, service):
    visitor.page.click("#tab-usage")
    answer = service.get("/v1/usage")
    words = "Runs" if answer.status == 200 else "does not provide"
    expect(visitor.page.locator("#usage")).to_contain_text(words)
    assert answer.status in (200, 404)


def test_a_carriage_return_replaces_the_line(visitor):
    visitor.write("print('10%\\r50%\\r\\x1b[32m100%\\x1b[0m done')")
    visitor.run()
    visitor.ends("succeeded")
    assert re.sub(r"\s+", " ", visitor.output().inner_text()).replace("stdout", "").strip() == "100% done"


def test_the_request_is_what_the_api_documents(visitor):
    sent: list[dict] = []
    visitor.page.on(
        "request", lambda request: sent.append(json.loads(request.post_data)) if request.method == "POST" else None
    )
    visitor.write("print(1)")
    visitor.run()
    visitor.ends("succeeded")
    assert sent == [{"language": "python", "code": "print(1)", "background": True}]
