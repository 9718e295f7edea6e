"""What a run leaves behind, fetched over HTTP by its owner and by whoever has a link."""

from __future__ import annotations

import hashlib
import http.client
import json
from urllib.parse import urlsplit

import pytest

PLOT = """
import matplotlib.pyplot as plt
plt.plot([1, 4, 9]); plt.savefig('outputs/plot.png')
"""
TEN_BYTES = "printf 0123456789 > outputs/ten.txt"
SAFE = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "private, no-store",
    "referrer-policy": "no-referrer",
}


def opened(service, url, headers=None, method="GET"):
    """What a link leads to, for somebody without a token."""
    address = urlsplit(url)
    assert (address.hostname, address.port) == (service.host, service.port)
    return service.request(method, f"{address.path}?{address.query}", headers=headers, token=None)


@pytest.fixture
def ten(service):
    (artifact,) = service.run("bash", TEN_BYTES)["artifacts"]
    return artifact


def test_a_plot_is_made_and_its_link_opened(service):
    (artifact,) = service.run("python", PLOT)["artifacts"]
    reply = opened(service, artifact["url"])
    assert reply.status == 200
    assert reply.raw.startswith(b"\x89PNG\r\n")
    assert hashlib.sha256(reply.raw).hexdigest() == artifact["sha256"]
    assert (len(reply.raw), reply.headers["content-type"]) == (artifact["size"], "image/png")
    assert reply.headers["content-disposition"] == 'attachment; filename="plot.png"'
    assert artifact["content_type"] == "image/png"


def test_every_way_of_reading_a_run_gives_a_link_that_opens(service):
    run = service.run("bash", TEN_BYTES)
    seen = [run, service.get(f"/v1/runs/{run['id']}").body]
    seen.append(next(r for r in service.get("/v1/runs").body["data"] if r["id"] == run["id"]))
    with service.events(f"/v1/runs/{run['id']}/events") as events:
        told = {event["event"]: event["data"] for _, event in events}
    seen.append(told["result"])
    for found in [*(run["artifacts"][0] for run in seen), told["artifact"]]:
        assert (found["id"], found["expires_at"] is not None) == (run["artifacts"][0]["id"], True)
        assert opened(service, found["url"]).raw == b"0123456789"


def test_a_file_can_be_fetched_when_its_event_comes(service):
    body = {"language": "bash", "code": TEN_BYTES, "stream": True}
    with service.events(json=body) as events:
        kinds = []
        for _, event in events:
            kinds.append(event["event"])
            if event["event"] == "artifact":
                assert opened(service, event["data"]["url"]).raw == b"0123456789"
    assert kinds[-2:] == ["artifact", "result"]


def test_an_artifact_is_a_file_of_its_owners(service, ten):
    path = f"/v1/files/{ten['id']}"
    meta = service.get(path).body
    assert (meta["id"], meta["name"], meta["size"], meta["sha256"]) == (
        ten["id"], "ten.txt", 10, ten["sha256"],
    )  # fmt: skip
    assert service.get(f"{path}/content").raw == b"0123456789"
    for other in (path, f"{path}/content"):
        assert service.get(other, token=service.other_token).status == 404
        assert service.get(other, token=None).status == 401


def test_what_a_browser_may_not_do_with_a_download(service, ten):
    reply = opened(service, ten["url"])
    assert {name: reply.headers[name] for name in SAFE} == SAFE
    assert reply.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("name", "served"), [("x.html", "text/plain; charset=utf-8"), ("x.svg", "application/octet-stream")]
)
def test_nothing_that_runs_is_served_as_what_it_is(service, name, served):
    (artifact,) = service.run("bash", f"printf '<script>alert(1)</script>' > outputs/{name}")["artifacts"]
    assert opened(service, artifact["url"]).headers["content-type"] == served


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        ({"Range": "bytes=2-4"}, 206, b"234"),
        ({"Range": "bytes=7-"}, 206, b"789"),
        ({"Range": "bytes=-1"}, 206, b"9"),
        ({"Range": "bytes=0-0,2-2"}, 200, b"0123456789"),
        ({"Range": "lines=1-2"}, 200, b"0123456789"),
    ],
)
def test_a_part(service, ten, asked, status, body):
    reply = opened(service, ten["url"], asked)
    assert (reply.status, reply.raw) == (status, body)
    if status == 206:
        assert reply.headers["content-range"].endswith("/10")
    assert int(reply.headers["content-length"]) == len(body)


def test_a_part_that_begins_beyond_the_end_is_refused_with_the_length(service, ten):
    reply = opened(service, ten["url"], {"Range": "bytes=10-"})
    assert (reply.status, reply.headers["content-range"]) == (416, "bytes */10")
    assert reply.body["error"] == {
        "message": "Range: begins beyond the end of the file, which has 10 bytes",
        "type": "invalid_request_error",
        "param": "Range",
        "code": "range_not_satisfiable",
    }


def test_what_is_known_is_not_sent_again(service, ten):
    tag = opened(service, ten["url"]).headers["etag"]
    again = opened(service, ten["url"], {"If-None-Match": tag})
    assert (again.status, again.raw, again.headers["etag"]) == (304, b"", tag)


def test_head_tells_the_same_without_the_bytes(service, ten):
    got, head = opened(service, ten["url"]), opened(service, ten["url"], method="HEAD")
    assert (head.status, head.raw) == (200, b"")
    same = ("content-type", "content-length", "content-disposition", "etag", *SAFE)
    assert {name: head.headers[name] for name in same} == {name: got.headers[name] for name in same}


def test_an_empty_file(service):
    (artifact,) = service.run("bash", "touch outputs/empty")["artifacts"]
    reply = opened(service, artifact["url"])
    assert (reply.status, reply.raw, reply.headers["content-length"]) == (200, b"", "0")


def test_a_link_opens_one_file_and_only_as_it_was_made(service, ten):
    (other,) = service.run("bash", "printf other > outputs/other")["artifacts"]
    token = urlsplit(ten["url"]).query
    for path, query in [
        (other["id"], token),
        (ten["id"], token[:-8] + "A" * 8),
        (ten["id"], "token="),
        (ten["id"], "token=" + "A" * 5000),
        (ten["id"], "token=%00"),
        (ten["id"], f"{token}&download=1"),
        (ten["id"], f"a&{token}"),
        (ten["id"], f"{token}&{token}"),
        (ten["id"], f"{token}&token="),
    ]:
        reply = service.get(f"/v1/files/{path}/content?{query}", token=None)
        assert (reply.status, reply.body["error"]["code"]) == (403, "link_invalid")
        assert reply.body["error"]["type"] == "permission_error"


def test_the_link_begins_as_the_client_reached_the_service(service):
    asked = {"Host": "runs.example:1234"}
    run = service.post("/v1/runs", json={"language": "bash", "code": TEN_BYTES}, headers=asked).body
    assert run["artifacts"][0]["url"].startswith("http://runs.example:1234/v1/files/")
    asked = {"Host": 'x"><script>'}
    reply = service.get(f"/v1/runs/{run['id']}", headers=asked)
    assert b"<script>" not in reply.raw


@pytest.mark.parametrize("name", ["ünï ☃.txt", "a'b.txt", "semi;colon.txt", "per%20cent", "-rf"])
def test_odd_names_come_back_as_they_are(service, name):
    code = f"open('outputs/' + {name!r}, 'w').write('x')"
    (artifact,) = service.run("python", code)["artifacts"]
    assert (artifact["name"], artifact["path"]) == (name, name)
    reply = opened(service, artifact["url"])
    assert reply.status == 200
    assert "\n" not in reply.headers["content-disposition"]


@pytest.mark.parametrize("name", ["a\nb", "a\rSet-Cookie: x", "a\x1b[31m", "\u202egnp.exe", "\udcff"])
def test_hostile_names_are_left_out_percent_encoded(service, name):
    code = f"open('outputs/' + {name!r}, 'w').write('x')"
    run = service.run("python", code)
    assert (run["artifacts"], run["skipped_artifacts_count"]) == ([], 1)
    (skipped,) = run["skipped_artifacts"]
    assert skipped["reason"] == "bad_name"
    assert skipped["path"].isascii()
    assert "%" in skipped["path"]


def test_what_was_written_before_a_timeout_can_be_fetched(service):
    run = service.run("bash", f"{TEN_BYTES}; sleep 60", limits={"timeout_ms": 300})
    assert run["status"] == "timeout"
    assert opened(service, run["artifacts"][0]["url"]).raw == b"0123456789"


def test_what_was_written_before_an_oom_can_be_fetched(service):
    code = "open('outputs/ten.txt', 'w').write('0123456789')\nx = bytearray(400 << 20)"
    run = service.run("python", code, limits={"memory_mb": 64})
    assert run["status"] == "oom"
    assert opened(service, run["artifacts"][0]["url"]).raw == b"0123456789"


def test_a_deleted_run_takes_its_files_along(service):
    run = service.run("bash", TEN_BYTES)
    assert service.request("DELETE", f"/v1/runs/{run['id']}").status == 200
    url = run["artifacts"][0]["url"]
    assert opened(service, url).status == 404
    assert service.get(urlsplit(url).path).status == 404


def test_two_runs_with_the_same_bytes_do_not_share_their_fate(service):
    first, second = (service.run("bash", TEN_BYTES) for _ in range(2))
    service.request("DELETE", f"/v1/runs/{first['id']}")
    assert opened(service, second["artifacts"][0]["url"]).raw == b"0123456789"


def test_a_connection_serves_one_file_after_the_other(service, ten):
    connection = http.client.HTTPConnection(service.host, service.port, timeout=30)
    address = urlsplit(ten["url"])
    try:
        for asked, status in (({}, 200), ({"Range": "bytes=99-"}, 416), ({"Range": "bytes=1-1"}, 206)):
            connection.request("GET", f"{address.path}?{address.query}", headers=asked)
            response = connection.getresponse()
            body = response.read()
            assert response.status == status
            if status == 416:
                assert json.loads(body)["error"]["code"] == "range_not_satisfiable"
            else:
                assert body == {200: b"0123456789", 206: b"1"}[status]
        connection.request("HEAD", f"{address.path}?{address.query}")
        assert connection.getresponse().read() == b""
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
    finally:
        connection.close()
