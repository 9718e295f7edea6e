"""The operator's calls over HTTP: runs of all keys, who used how much, and many keys at once."""

from __future__ import annotations

import csv
import io
from urllib.parse import quote, urlsplit

import pytest

from tests.support.service import ADMIN_TOKEN
from tests.support.workers import until


def admin(service, path):
    return service.get(path, token=ADMIN_TOKEN)


def bulk(service, table, token=ADMIN_TOKEN):
    headers = {"Content-Type": "text/csv"}
    return service.request("POST", "/v1/admin/keys/bulk", table.encode(), headers, token=token)


@pytest.fixture(scope="module")
def keys(service):
    """Two keys with spaces and `@` in their labels, by label."""
    reply = bulk(service, "label,plan\nalice@example.org,unlimited\nteam one,pro\n")
    assert reply.status == 201, reply.raw
    return {row["label"]: row for row in csv.DictReader(io.StringIO(reply.raw.decode()))}


def test_a_failed_run_is_found_by_what_it_printed_last(service, keys):
    token = keys["alice@example.org"]["key"]
    mark = f"mark-{keys['alice@example.org']['id'][-8:]}"
    failed = service.run("python", f"raise KeyError('{mark}')", token=token, metadata={"user.id": "4 2", "a": "x"})
    service.run("bash", f"echo {mark} >&2", token=token, metadata={"user.id": "4 2"})
    compiled = service.run("bash", f"echo '{mark} 100%_' >&2; exit 3", token=keys["team one"]["key"])
    for query, expected in {
        f"error={mark.upper()}": [compiled, failed],
        f"error={quote(mark + ' 100%_')}": [compiled],
        f"error={mark}&key={keys['team one']['id']}": [compiled],
        f"error={mark}&language=python&status=failed": [failed],
        f"error={mark}&metadata.user.id={quote('4 2')}&metadata.a=x": [failed],
        f"error={mark}&metadata.user.id=42": [],
        f"error={mark[:-1]}%25": [],
    }.items():
        found = admin(service, f"/v1/admin/runs?{query}")
        assert [run["id"] for run in found.body["data"]] == [run["id"] for run in expected], query
    row = admin(service, f"/v1/admin/runs?error={mark}&status=failed").body["data"][-1]
    assert (row["label"], row["key"]) == ("alice@example.org", keys["alice@example.org"]["id"])
    assert not {"stdout", "stderr"} & set(row)
    mine = service.get("/v1/runs?limit=1&metadata.user.id=4%202", token=token)
    assert mine.body["has_more"]
    link = urlsplit(mine.body["next"])
    assert (link.scheme, link.netloc) == ("http", f"{service.host}:{service.port}")
    assert service.get(f"{link.path}?{link.query}", token=token).body["data"][0]["id"] == failed["id"]
    assert service.get("/v1/runs?metadata.user.id=4%202", token=keys["team one"]["key"]).body["data"] == []


def test_usage_of_all_keys_has_the_runs_of_each(service, keys):
    service.run("bash", "true")
    service.run("bash", "true", token=keys["team one"]["key"])
    key_id = keys["team one"]["id"]
    until(lambda: admin(service, f"/v1/admin/usage?key={key_id}").body["total"]["runs"] > 0, 30)
    (row,) = admin(service, f"/v1/admin/usage?key={key_id}&group_by=key,plan,language&language=bash").body["data"]
    assert (row["label"], row["plan"], row["language"], row["day"]) == ("team one", "pro", "bash", None)
    table = admin(service, "/v1/admin/usage?format=csv&group_by=key").raw.decode()
    assert {"team one", "dev"} <= {found["label"] for found in csv.DictReader(io.StringIO(table))}


def test_a_table_larger_than_a_strangers_body_is_taken_from_the_admin_alone(service):
    table = "plan,label\n" + "".join(f"free,user {n}@example.org\n" for n in range(1500))
    assert len(table) > 32 * 1024
    reply = bulk(service, table)
    assert reply.status == 201, reply.raw[:300]
    rows = list(csv.DictReader(io.StringIO(reply.raw.decode())))
    assert [row["label"] for row in rows] == [f"user {n}@example.org" for n in range(1500)]
    assert service.get("/v1/keys/me", token=rows[-1]["key"]).body["plan"] == "free"
    assert bulk(service, table, token="no-such-token-here").status in (401, 413)


def test_static_keys_are_listed_and_never_their_tokens(service):
    page = admin(service, "/v1/admin/keys?limit=3")
    assert [(row["label"], row["static"]) for row in page.body["data"]] == [
        ("dev", True), ("other", True), ("slow", True),
    ]  # fmt: skip
    assert not any(token.encode() in page.raw for token in ("dev_123", "other_456", "slow_789"))
    link = urlsplit(page.body["next"])
    assert not admin(service, f"{link.path}?{link.query}").body["data"][0]["static"]
