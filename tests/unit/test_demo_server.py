"""The server part of the demo, by real sockets: it passes programs on with the key, and nothing else either way."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import socket
import time
from contextlib import closing

import pytest

from tests.support.tinirun import KEY, Canned, Demo, TinirunServer, events
from web.demo.page import page
from web.demo.program import LANGUAGES, MAX_BODY_BYTES
from web.demo.relay import CUT, TOO_MUCH, Watch
from web.demo.settings import DemoSettings
from web.demo.upstream import Upstream, UpstreamError

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
AWAY = "The service that runs programs does not answer. Try again later."
UNUSABLE = "The service that runs programs cannot be used at present. Try again later."


@pytest.fixture(scope="module")
def tinirun():
    with closing(TinirunServer()) as server:
        yield server


@pytest.fixture(scope="module")
def demo(tinirun):
    running = Demo(tinirun.url)
    yield running
    lines = running.end()
    assert not any("n33dle" in line for line in lines)


@pytest.fixture
def behind(request):
    """Start a demo in front of a server of fixed answers."""

    def start(answer, **settings):
        canned = Canned(answer)
        request.addfinalizer(canned.close)
        demo = Demo(canned.url, **settings)
        request.addfinalizer(demo.end)
        return demo, canned

    return start


def message(answer):
    error = json.loads(answer[2])["error"]
    return error["message"]


def test_a_program_is_passed_on_with_the_key_and_its_events_come_back(demo, tinirun):
    status, headers, body = demo.run("bash", "echo out; echo err >&2; exit 3")
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    first, *between, last = events(body)
    assert first == {"event": "info", "data": "Checking base image..."}
    assert {(event["event"], event["data"]) for event in between} == {("stdout", "out\n"), ("stderr", "err\n")}
    result = {"stdout": "out\n", "stderr": "err\n", "exit_code": 3, "timeout": False}
    assert last == {"event": "result", "data": result}
    path, sent, body = tinirun.requests[-1]
    assert path == "/api/code/run"
    assert (sent["X-Runner-Api-Key"], sent["Accept"]) == (KEY, "text/event-stream")
    assert json.loads(body) == {"lang": "bash", "code": "echo out; echo err >&2; exit 3", "timeout": 30}


def test_no_header_of_the_browser_reaches_the_service(demo, tinirun):
    headers = {
        "X-Runner-Api-Key": "mine", "Cookie": "a=b", "Authorization": "Bearer x", "User-Agent": "n00dle",
        "X-Forwarded-For": "192.0.2.9", "Accept": "application/jsonl",
    }  # fmt: skip
    assert demo.request("POST", "/run", {"lang": "bash", "code": "true"}, headers)[0] == 200
    _, sent, _ = tinirun.requests[-1]
    names = {"Host", "Accept-Encoding", "Content-Length", "Accept", "Connection", "Content-Type", "User-Agent"}
    assert set(sent) == names | {"X-Runner-Api-Key"}
    assert (sent["X-Runner-Api-Key"], sent["User-Agent"]) == (KEY, "runyard-demo")


def test_an_event_comes_while_the_program_runs_and_its_end_when_the_browser_goes(demo, tinirun):
    connection = http.client.HTTPConnection("127.0.0.1", demo.port, timeout=30)
    body = json.dumps({"lang": "bash", "code": "echo first; sleep 600"}).encode()
    connection.request("POST", "/run", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    while b"first" not in answer.readline():
        pass
    process = tinirun.processes[-1]
    assert process.poll() is None
    answer.close()
    connection.close()
    assert process.wait(10) != 0


def test_the_page_is_one_file_of_its_own_with_a_policy_of_hashes(demo):
    status, headers, body = demo.request("GET", "/?lang=go")
    assert (status, body) == (200, page())
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    (script,) = re.findall(rb"<script>(.*?)</script>", body, re.DOTALL)
    (style,) = re.findall(rb"<style>(.*?)</style>", body, re.DOTALL)
    for name, content in (("script-src", script), ("style-src", style)):
        assert policy[name] == f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"
    assert (policy["default-src"], policy["connect-src"], policy["img-src"]) == ("'none'", "'self'", "data:")
    assert (policy["frame-ancestors"], policy["trusted-types"]) == ("'self'", "'none'")
    assert "unsafe" not in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert "x-frame-options" not in headers


def test_the_page_fetches_nothing_from_elsewhere_and_reads_nothing_as_html():
    text = page().decode()
    assert re.findall(r"(?:https?:)?//[a-z]+\.", text) == []
    assert re.findall(r"\son\w+=[\"']|\sstyle=|<script .*src|<link(?! rel=\"icon\")", text) == []
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text) == []
    assert set(re.findall(r"^  (\w+): `", text, re.MULTILINE)) == set(LANGUAGES)


def test_the_pages_that_may_embed_it_are_a_setting(behind):
    demo, _ = behind(b"", DEMO_FRAME_ANCESTORS="https://docs.example.org")
    policy = demo.request("GET", "/")[1]["content-security-policy"]
    assert "; frame-ancestors https://docs.example.org;" in policy


def test_it_is_healthy(demo):
    assert (demo.request("GET", "/healthz")[::2]) == (200, b'{"status":"ok"}\n')
    status, headers, body = demo.request("HEAD", "/")
    assert (status, int(headers["content-length"]), body) == (200, len(page()), b"")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/run", 405),
        ("PUT", "/run", 405),
        ("OPTIONS", "/run", 405),
        ("POST", "/", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/../pyproject.toml", 404),
        ("GET", "/page.html", 404),
        ("GET", "/run/", 404),
        ("POST", "/api/code/run", 404),
        ("POST", "/code/run", 404),
        ("POST", "/function", 404),
        ("POST", "http://127.0.0.1:1/run", 404),
        ("TRACE", "/", 501),
        ("CONNECT", "127.0.0.1:1", 501),
    ],
)
def test_no_other_path_and_no_other_method(demo, tinirun, method, path, status):
    before = len(tinirun.requests)
    found, headers, body = demo.request(method, path, {"lang": "bash", "code": "true"})
    assert found == status
    assert json.loads(body)["error"]["message"]
    assert "access-control-allow-origin" not in headers
    if status == 405:
        assert headers["allow"] in ("POST", "GET, HEAD")
    assert len(tinirun.requests) == before


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"{", {}, 400, "The body is not valid JSON"),
        (b"[" * 100_000, {}, 400, "The body is not valid JSON"),
        (b"\xff", {}, 400, "The body is not valid JSON"),
        (b"[]", {}, 400, "must be an object"),
        ({"lang": "bash"}, {}, 400, "code: must be a text"),
        ({"lang": "bash", "code": ""}, {}, 400, "code: must be a text"),
        ({"lang": "bash", "code": ["true"]}, {}, 400, "code: must be a text"),
        ({"lang": "ruby", "code": "1"}, {}, 400, "lang: must be one of bash, go, javascript"),
        ({"lang": ["bash"], "code": "1"}, {}, 400, "lang: must be one of"),
        ({"lang": "bash", "code": "1", "timeout": 300}, {}, 400, "timeout: is not accepted"),
        ({"lang": "bash", "code": "1", "dependencies": ["x"]}, {}, 400, "dependencies: is not accepted"),
        ({"lang": "bash", "code": "1", "\x1b[2J": 1}, {}, 400, "a field: is not accepted"),
        ({"lang": "bash", "code": "true"}, {"Content-Type": "text/plain"}, 415, "must be application/json"),
        ({"lang": "bash", "code": "true"}, {"Sec-Fetch-Site": "cross-site"}, 403, "own page"),
        ({"lang": "bash", "code": "true"}, {"Sec-Fetch-Site": "same-site"}, 403, "own page"),
        (b"{}", {"Transfer-Encoding": "chunked", "Content-Length": "2"}, 411, "one Content-Length"),
        (b"{}", {"Content-Length": "-2"}, 411, "one Content-Length"),
    ],
)
def test_what_is_no_request_for_a_run_is_refused_and_not_passed_on(demo, tinirun, body, headers, status, words):
    before = len(tinirun.requests)
    answer = demo.request("POST", "/run", body, headers)
    assert (answer[0], words in message(answer)) == (status, True), answer
    assert len(tinirun.requests) == before


def test_a_body_of_a_mebibyte_is_taken_and_a_larger_one_is_answered(demo, tinirun):
    body = json.dumps({"lang": "python", "code": ""}).encode()
    code = "#" * (MAX_BODY_BYTES - len(body))
    before = len(tinirun.requests)
    largest = json.dumps({"lang": "python", "code": code}).encode()
    assert len(largest) == MAX_BODY_BYTES
    # The program is an argument of the stand-in's shell, which takes no such long one: only its arrival counts.
    demo.request("POST", "/run", largest)
    assert len(tinirun.requests) == before + 1
    answer = demo.run("python", code + "#")
    assert (answer[0], "1048576 bytes" in message(answer)) == (413, True)
    assert len(tinirun.requests) == before + 1


def test_more_programs_at_a_time_than_one_address_may_have(demo, tinirun):
    opened = []
    for _ in range(2):
        connection = http.client.HTTPConnection("127.0.0.1", demo.port, timeout=30)
        body = json.dumps({"lang": "bash", "code": "sleep 600"}).encode()
        connection.request("POST", "/run", body, {"Content-Type": "application/json"})
        opened.append((connection, connection.getresponse()))
    status, headers, body = demo.run("bash", "true")
    assert (status, headers["retry-after"], "as many programs" in message((0, 0, body))) == (429, "5", True)
    for connection, answer in opened:
        answer.close()
        connection.close()
    deadline = time.monotonic() + 10
    while demo.run("bash", "true")[0] != 200:
        assert time.monotonic() < deadline, "the places are not released"


def test_a_rate_by_address_as_a_trusted_proxy_reports_it(tinirun):
    demo = Demo(tinirun.url, DEMO_RATE_PER_MINUTE="1", DEMO_TRUSTED_PROXIES="127.0.0.1")
    try:
        body = {"lang": "bash", "code": "true"}
        found = [
            demo.request("POST", "/run", body, {"X-Forwarded-For": address})
            for address in ("192.0.2.1", "192.0.2.1", "192.0.2.1, 192.0.2.2", "192.0.2.2, 192.0.2.1")
        ]
        assert [status for status, _, _ in found] == [200, 429, 200, 429]
        assert "Too many runs from your address. Try again in" in message(found[1])
        assert 0 < int(found[1][1]["retry-after"]) <= 60
        # One that is no proxy may write what it likes.
        untrusted = [
            demo.request("POST", "/run", body, {"X-Forwarded-For": f"192.0.2.{n}"}, source="127.0.0.3")
            for n in (7, 8)
        ]
        assert [status for status, _, _ in untrusted] == [200, 429]
    finally:
        demo.end()


def test_a_service_that_is_away_is_said_in_a_sentence(tinirun):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    demo = Demo(f"http://127.0.0.1:{port}/api")
    answer = demo.run("bash", "true")
    assert (answer[0], message(answer)) == (502, AWAY)
    assert str(port).encode() not in answer[2]
    assert any("does not answer" in line for line in demo.end())


def test_a_service_without_a_certificate_is_away(tinirun):
    demo = Demo(tinirun.url.replace("http:", "https:"))
    answer = demo.run("bash", "true")
    assert (answer[0], message(answer)) == (502, AWAY)
    demo.end()


@pytest.mark.parametrize("end", ["deadline", "browser"])
def test_a_service_that_never_answers_is_left_at_the_deadline_and_with_the_browser(end):
    """Its connection waits to be accepted."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        settings = DemoSettings(url=f"http://127.0.0.1:{deaf.getsockname()[1]}/api", key=KEY)
        run = Upstream(settings).start("bash", "true")
        ours, theirs = socket.socketpair()
        within_s = 0.3 if end == "deadline" else 600
        with closing(run), closing(ours), closing(theirs), Watch(run, ours, within_s) as watch:
            if end == "browser":
                theirs.close()
            with pytest.raises(UpstreamError, match="does not answer"):
                run.begin()
            assert (watch.is_late, watch.is_left) == (end == "deadline", end == "browser")


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (b"", 502, AWAY),
        (b"no HTTP\r\n\r\n", 502, AWAY),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 12\r\n\r\nUnauthorized", 502, UNUSABLE),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nn33dle", 502, UNUSABLE),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\nn33dle", 502, UNUSABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\nn33dle", 502, UNUSABLE),
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 6\r\n\r\nn33dle", 400, "The service refused this program"),
        (b"HTTP/1.1 429 Wait\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", 503, "Try again in 7 s"),
        (b"HTTP/1.1 503 Wait\r\nRetry-After: soon\r\nContent-Length: 0\r\n\r\n", 503, "Try again in 5 s"),
    ],
)
def test_what_the_service_answers_instead_of_a_stream_is_a_sentence_without_internals(
    behind, answer, status, words
):
    demo, _ = behind(answer)
    found = demo.run("bash", "true")
    assert (found[0], words in message(found)) == (status, True), found
    assert b"n33dle" not in found[2] + json.dumps(found[1]).encode()


def test_no_redirect_is_followed(behind, tinirun):
    before = len(tinirun.requests)
    demo, canned = behind(
        f"HTTP/1.1 307 Go\r\nLocation: {tinirun.url}/code/run\r\nContent-Length: 0\r\n\r\n".encode()
    )
    found = demo.run("bash", "true")
    assert (found[0], message(found)) == (502, UNUSABLE)
    assert (len(canned.requests), len(tinirun.requests)) == (1, before)
    assert "location" not in found[1]


def test_a_stream_that_is_cut_ends_with_a_sentence(behind):
    chunked = STREAM.replace(b"Connection: close", b"Transfer-Encoding: chunked")
    demo, _ = behind(chunked + b'1f\r\ndata: {"event":"info","data":')
    status, _, body = demo.run("bash", "true")
    assert status == 200
    last = body.rstrip().splitlines()[-1]
    assert json.loads(last[5:])["data"] == {"error": "demo", "message": CUT}


def test_a_stream_without_end_is_ended(behind):
    event = b'data: {"event":"stdout","data":"%s"}\n\n' % (b"x" * 60_000)
    demo, _ = behind(STREAM + event * 200)
    status, _, body = demo.run("bash", "true")
    assert (status, len(body) < 9_000_000) == (200, True)
    assert json.loads(body.rstrip().splitlines()[-1][5:])["data"]["message"] == TOO_MUCH


def test_a_stop_ends_it_and_the_programs_while_browsers_listen(tinirun):
    demo = Demo(tinirun.url)
    with closing(http.client.HTTPConnection("127.0.0.1", demo.port, timeout=30)) as connection:
        body = json.dumps({"lang": "bash", "code": "echo first; sleep 600"}).encode()
        connection.request("POST", "/run", body, {"Content-Type": "application/json"})
        with connection.getresponse() as answer:
            while b"first" not in answer.readline():
                pass
            demo.end()
            assert b"result" not in answer.read()
    assert tinirun.processes[-1].wait(10) != 0
