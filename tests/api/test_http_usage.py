"""Usage over HTTP: the sums of what the runs themselves say, in JSON and in CSV."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.service import ADMIN_TOKEN
from tests.support.workers import until

FIELDS = [
    "object", "from", "to", "plan", "runs", "runs_limit", "cpu_seconds", "wall_seconds", "gb_seconds", "bytes_in",
    "bytes_out", "sessions", "session_seconds", "session_cpu_seconds", "session_gb_seconds", "egress_bytes",
    "by_language",
]  # fmt: skip
SUMS = ("runs", "cpu_seconds", "wall_seconds", "gb_seconds", "bytes_in", "bytes_out")
OF_SESSIONS = ("sessions", "session_seconds", "session_cpu_seconds", "session_gb_seconds", "egress_bytes")


@pytest.fixture
def key(service):
    return service.post("/v1/admin/keys", json={"plan": "pro"}, token=ADMIN_TOKEN).body["key"]


def span():
    """Two days, in case this test runs over midnight."""
    today = datetime.now(UTC).date()
    return f"?from={today - timedelta(days=1)}&to={today + timedelta(days=1)}"


def close(one, other):
    return abs(one - other) < 1e-9


def test_the_sums_are_those_of_the_runs(service, key):
    bodies = [
        b'{"language":"bash","code":"echo hello; echo oops >&2"}',
        b'{"language":"python","code":"sum(range(3000000)); print(1)","limits":{"memory_mb":128}}',
        b'{"language":"bash","code":"sleep 9","limits":{"timeout_ms":200}}',
        b'{"language":"bash","code":"head -c 5000 /dev/zero > outputs/a; echo x > outputs/b"}',
        b'{"language":"bash","code":"exit 3","background":true}',
        b'{"language":"bash","code":"no such program"}',
    ]
    replies = [service.post("/v1/runs", data=body, token=key) for body in bodies]
    runs = [service.ended(reply.body["id"], token=key) for reply in replies]
    until(lambda: service.get(f"/v1/usage{span()}", token=key).body["runs"] == len(runs), 60)
    usage = service.get(f"/v1/usage{span()}", token=key).body
    assert list(usage) == FIELDS
    assert (usage["object"], usage["plan"], usage["runs_limit"]) == ("usage", "pro", 10_000)
    expected = {
        "runs": len(runs),
        "cpu_seconds": sum(run["usage"]["cpu_ms"] for run in runs) / 1000,
        "wall_seconds": sum(run["usage"]["wall_ms"] for run in runs) / 1000,
        "gb_seconds": sum(run["usage"]["wall_ms"] * run["limits"]["memory_mb"] for run in runs) / 1024 / 1000,
        "bytes_in": sum(map(len, bodies)),
        "bytes_out": sum(
            len(run["stdout"].encode()) + len(run["stderr"].encode()) + sum(a["size"] for a in run["artifacts"])
            for run in runs
        ),
    }
    assert expected["cpu_seconds"] > 0
    for name in SUMS:
        assert close(usage[name], expected[name]), name
        assert close(sum(used[name] for used in usage["by_language"].values()), expected[name]), name
    assert {name: used["runs"] for name, used in usage["by_language"].items()} == {"bash": 5, "python": 1}

    reply = service.get(f"/v1/usage{span()}", {"Accept": "text/csv"}, token=key)
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(reply.raw.decode())))
    assert list(rows[0]) == ["day", "language", *SUMS, *OF_SESSIONS]
    for name in SUMS:
        assert close(sum(float(row[name]) for row in rows), expected[name]), name


def test_inputs_count_and_so_does_what_is_another_keys_not(service, key):
    file = service.upload(b"four", token=key).body
    body = b'{"language":"bash","code":"cat inputs/a","files":[{"path":"a","id":"%s"}]}' % file["id"].encode()
    assert service.post("/v1/runs", data=body, token=key).body["stdout"] == "four"
    usage = service.get(f"/v1/usage{span()}", token=key).body
    assert (usage["runs"], usage["bytes_in"], usage["bytes_out"]) == (1, len(body) + 4, 4)


def test_nothing_was_used(service, key):
    usage = service.get("/v1/usage?from=2020-01-01&to=2020-12-31", token=key).body
    assert [usage[name] for name in (*SUMS, *OF_SESSIONS)] == [0] * 11
    assert (usage["from"], usage["to"], usage["by_language"]) == ("2020-01-01", "2020-12-31", {})
    reply = service.get("/v1/usage?from=2020-01-01&to=2020-01-01", {"Accept": "text/csv"}, token=key)
    assert reply.raw.decode() == ",".join(("day", "language", *SUMS, *OF_SESSIONS)) + "\r\n"


def test_this_month_when_nothing_is_said(service, key):
    usage = service.get("/v1/usage", token=key).body
    assert usage["from"].endswith("-01")
    assert usage["from"][:7] == usage["to"][:7]


@pytest.mark.parametrize(
    ("query", "param", "code"),
    [
        ("?from=yesterday", "from", "invalid_value"),
        ("?from=2026-13-01", "from", "invalid_value"),
        ("?to=2026-02-30", "to", "invalid_value"),
        ("?to=20260201", "to", "invalid_value"),
        ("?from=", "from", "invalid_value"),
        ("?from=2026-02-02&to=2026-02-01", "from", "invalid_value"),
        ("?from=0001-01-01&to=9999-12-31", "from", "invalid_value"),
        ("?from=2026-01-01&from=2026-01-02", "from", "invalid_value"),
        ("?since=2026-01-01", None, "unknown_field"),
    ],
)
def test_a_span_that_is_none(service, query, param, code):
    reply = service.get(f"/v1/usage{query}")
    assert (reply.status, reply.body["error"]["param"], reply.body["error"]["code"]) == (400, param, code)


def test_forms_and_tokens(service):
    assert service.get("/v1/usage", token=None).status == 401
    assert service.get("/v1/usage", {"Accept": "*/*"}).body["object"] == "usage"
    assert service.get("/v1/usage", {"Accept": "text/csv;q=0.5, application/json"}).body["plan"] is None
    reply = service.get("/v1/usage", {"Accept": "image/png"})
    assert (reply.status, reply.body["error"]["code"]) == (400, "not_acceptable")
