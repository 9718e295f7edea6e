"""Hostile requests to the operator's calls and to lists by metadata: each is refused, or finds nothing, at once."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest

from tests.support.service import ADMIN_TOKEN

ANSWER_S = 5.0

#: A parameter of a search, and the statuses that it may be answered with.
QUERIES = {
    "SQL in a name": ("metadata.'; DROP TABLE runs; --=1", {200}),
    "quotes and dots in a name": ("metadata.a.b\"c'd=1", {200}),
    "a name of nothing": ("metadata.=", {200}),
    "a long name": (f"metadata.{'x' * 4000}=1", {200}),
    "a name longer than a request line": (f"metadata.{'x' * 20_000}=1", {414}),
    "seventeen names": ("&".join(f"metadata.{n}=1" for n in range(17)), {400}),
    "a name twice": ("metadata.a=1&metadata.a=2", {400}),
    "wildcards alone": ("error=%_%", {200}),
    "a pattern that backtracks": ("error=" + "%a" * 100, {200}),
    "a NUL": ("error=\0", {200}),
    "a long text": ("error=" + "x" * 201, {400}),
    "no text": ("error=", {400}),
    "a cursor of another list": ("after=key_x&error=x", {400}),
}
#: A table of keys, the status that it is answered with, and its code.
TABLES = {
    "a label of a megabyte": (b"plan,label\nfree," + b"x" * 10**6, 400, "invalid_csv"),
    "a label that is a formula": (b"plan,label\nfree,=HYPERLINK(1)\n", 400, "invalid_value"),
    "a label of lines": (b'plan,label\nfree,"a\nb"\n', 400, "invalid_value"),
    "ten thousand rows and one": (b"plan\n" + b"free\n" * 10_001, 400, "too_many"),
    "a million cells": (b"plan\n" + b"," * 10**6, 400, "invalid_csv"),
    "a million lines": (b"\n" * 10**6, 400, "invalid_csv"),
    "an open quote": (b'plan\n"' + b"free\n" * 100_000, 400, "invalid_csv"),
    "more than two megabytes": (b"x" * (2 * 1024 * 1024 + 1), 413, "request_too_large"),
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_search(service, name):
    query, statuses = QUERIES[name]
    query = "&".join("=".join(quote(part, safe="") for part in pair.split("=", 1)) for pair in query.split("&"))
    began = time.monotonic()
    assert service.get(f"/v1/admin/runs?{query}", token=ADMIN_TOKEN).status in statuses
    if "error" not in query:
        assert service.get(f"/v1/runs?{query}").status in statuses
    assert time.monotonic() - began < ANSWER_S


@pytest.mark.usefixtures("invariants")
@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_keys(service, name):
    table, status, code = TABLES[name]
    newest = service.get("/v1/admin/audit?limit=1", token=ADMIN_TOKEN).body["first_id"]
    reply = service.request(
        "POST", "/v1/admin/keys/bulk", table, {"Content-Type": "text/csv"}, token=ADMIN_TOKEN, timeout=30
    )
    assert (reply.status, reply.body["error"]["code"]) == (status, code)
    assert len(reply.raw) < 1000
    assert service.get("/v1/admin/audit?limit=1", token=ADMIN_TOKEN).body["first_id"] == newest
