"""The operator's calls in process: runs of all keys, usage of all keys, many keys at once, plans that change."""

from __future__ import annotations

import csv
import io
import os
import time
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import pytest

from api.app import create_app
from api.errors import ApiError
from api.http.csv_text import from_csv, to_csv
from api.keys import admin_usage_routes, plan_reload
from api.keys.bulk_routes import MAX_BYTES, MOST_KEYS
from api.keys.schemas import AdminKeyListOut, AdminUsageOut, BulkKeysOut, PlansOut
from api.openapi.models import AdminRunList
from config.settings import SettingsError
from protocol.result import JobError, Result
from tests.unit.test_api_app import LIMITS, Api, areas, assert_envelope, upload_form

ADMIN_TOKEN = "an-admin-token-1"
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
CSV = {"Content-Type": "text/csv"}


@pytest.fixture(scope="module")
def api():
    made = Api(admin_token=ADMIN_TOKEN, api_keys="tok:team a@x.org:1000:1000,other:-1:1000:1000")
    yield made
    made.close()


def get(api, path, **query):
    text = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    return api.client.get(f"{path}?{text}", headers=ADMIN)


def ended(api, status="failed", token="tok", stderr="", error=None, **fields):
    api.worker.answer = Result(
        status=status, language="python", limits=LIMITS, exit_code=1, stderr=stderr, error=error
    ).to_json()
    reply = api.post(headers={"Authorization": f"Bearer {token}"}, **fields)
    return reply.json["id"] if "id" in reply.json else reply.json["run_id"]


def ids(reply):
    assert reply.status_code == 200, reply.json
    return [run["id"] for run in reply.json["data"]]


def test_runs_are_searched_by_key_status_metadata_and_error_text(api):
    one = ended(api, stderr="Traceback\nMemoryError: 100% of 5_000", metadata={"user.name": "42", "a b": "='x'"})
    two = ended(api, "timeout", token="other", metadata={"user.name": "42"})
    broken = ended(
        api,
        "error",
        error=JobError(message="The sandbox broke.", code="internal_error", type="server_error", param=None),
    )
    runs = "/v1/admin/runs"
    first = get(api, runs, limit="3").json["data"]
    assert [run["id"] for run in first] == [broken, two, one]
    assert (first[2]["label"], first[1]["label"]) == ("team a@x.org", "-1")
    assert {"stdout", "stderr", "code_sha256", "artifacts"} & set(first[0]) == set()
    assert ids(get(api, runs, key=first[1]["key"])) == [two]
    assert ids(get(api, runs, status="timeout")) == [two]
    assert ids(get(api, runs, **{"metadata.user.name": "42"})) == [two, one]
    assert ids(get(api, runs, **{"metadata.user.name": "42", "metadata.a b": "='x'"})) == [one]
    assert ids(get(api, runs, **{"metadata.user.name": "42", "key": first[2]["key"]})) == [one]
    assert ids(get(api, runs, error="memoryERROR")) == [one]
    for text in ("100%", "5_000", "% of 5_"):
        assert ids(get(api, runs, error=text)) == [one]
    for text in ("100_", "Memory%Error", "' OR 1=1 --", "\\", "\0", "é", "_____"):
        assert ids(get(api, runs, error=text)) == []
    assert ids(get(api, runs, error="memory%")) == []
    assert ids(get(api, runs, error="internal_error: the sandbox")) == [broken]
    assert ids(get(api, runs, language="py")) == ids(get(api, runs, language="python"))
    assert ids(get(api, runs, language="cobol")) == []
    mine = api.client.get("/v1/runs?metadata.user.name=42", headers={"Authorization": "Bearer tok"})
    assert ids(mine) == [one], "a key's own list shows no other's run"


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ({"error": ""}, "invalid_value", "error"),
        ({"error": "x" * 201}, "invalid_value", "error"),
        ({"key": "k" * 101}, "invalid_value", "key"),
        ({"language": ""}, "invalid_value", "language"),
        ({"status": "ended"}, "invalid_value", "status"),
        ({"after": "run_none"}, "invalid_cursor", "after"),
        ({"metadata": "1"}, "unknown_field", None),
        ({"label": "x"}, "unknown_field", None),
        ({f"metadata.{n}": "1" for n in range(17)}, "too_many", None),
    ],
)
def test_what_runs_cannot_be_searched_by(api, query, code, param):
    reply = get(api, "/v1/admin/runs", **query)
    assert_envelope(reply, 400, code)
    assert reply.json["error"]["param"] == param


def test_a_parameter_that_is_given_twice_is_refused_without_showing_a_strange_name(api):
    for name in ("metadata.a", "metadata.<script>"):
        reply = api.client.get(f"/v1/admin/runs?{quote(name)}=1&{quote(name)}=2", headers=ADMIN)
        assert_envelope(reply, 400, "invalid_value")
        assert "<" not in reply.text


@pytest.mark.parametrize(
    "name", ["", ".", "a.b", "a b", "a=b&c", "'; DROP TABLE runs --", '"', "%", "x" * 200, "ü\u202e"]
)
def test_any_name_of_metadata_can_be_searched_for_and_followed(api, name):
    made = [ended(api, metadata={name: "v&=1", "n": str(n)}) for n in range(3)]
    path = f"/v1/runs?limit=1&metadata.{quote(name, safe='')}={quote('v&=1')}&status=failed"
    found = []
    while path:
        page = api.client.get(path, headers={"Authorization": "Bearer tok", "Host": "runyard.example:8443"})
        found += ids(page)
        path = page.json["next"]
        if path:
            assert path.startswith("http://runyard.example:8443/v1/runs?limit=1&")
            path = path.removeprefix("http://runyard.example:8443")
    assert found == made[::-1]


LISTS = [
    "/v1/admin/keys?order=asc",
    "/v1/admin/audit?",
    "/v1/admin/runs?status=succeeded",
    "/v1/runs?language=py",
    "/v1/files?",
]


@pytest.mark.parametrize("path", LISTS)
def test_every_list_has_a_link_to_its_next_page_that_keeps_its_filters(api, path):
    for _ in range(2):
        ended(api, "succeeded")
        api.client.post("/v1/admin/keys", json={"plan": "pro"}, headers=ADMIN)
        form = upload_form(b"x")
        assert api.client.post("/v1/files", **form, headers={"Authorization": "Bearer tok"}).status_code == 200
    headers = ADMIN if "admin" in path else {"Authorization": "Bearer tok"}
    first = api.client.get(f"{path}&limit=1", headers=headers).json
    assert first["has_more"]
    parts = urlsplit(first["next"])
    assert parts.query == f"{path.partition('?')[2]}&limit=1&after={first['last_id']}".removeprefix("&")
    second = api.client.get(f"{parts.path}?{parts.query}", headers=headers).json
    assert second["first_id"] not in (None, first["first_id"])
    whole = api.client.get(f"{path}&limit=100", headers=headers).json
    assert (whole["has_more"], whole["next"]) == (False, None)
    hostile = api.client.get(f"{path}&limit=1", headers={**headers, "Host": "a b<script>"}).json
    assert hostile["next"].startswith("/v1/")


def rows_of(reply):
    return list(csv.DictReader(io.StringIO(reply.text)))


def test_usage_of_all_keys_adds_up_by_any_group(api):
    ended(api, token="tok")
    ended(api, token="other")
    key = api.client.post("/v1/admin/keys", json={"plan": "pro", "label": "@home"}, headers=ADMIN).json
    ended(api, token=key["key"])
    today = datetime.now(UTC).date().isoformat()
    by_key = get(api, "/v1/admin/usage").json
    assert (by_key["object"], by_key["group_by"]) == ("usage_report", ["key"])
    found = {row["label"]: row for row in by_key["data"]}
    assert found["@home"]["runs"] == 1
    assert by_key["total"]["runs"] == sum(row["runs"] for row in by_key["data"])
    full = get(api, "/v1/admin/usage", group_by="day,plan,language,key").json
    assert full["total"] == by_key["total"]
    mine = next(row for row in full["data"] if row["key"] == key["id"])
    assert (mine["plan"], mine["language"], mine["day"]) == ("pro", "python", today)
    by_plan = get(api, "/v1/admin/usage", group_by="plan").json["data"]
    assert [row["plan"] for row in by_plan] == [None, "pro"]
    assert sum(row["runs"] for row in by_plan) == by_key["total"]["runs"]
    for query, runs in (({"key": key["id"]}, 1), ({"plan": "pro", "language": "python"}, 1), ({"plan": "free"}, 0)):
        assert get(api, "/v1/admin/usage", **query).json["total"]["runs"] == runs
    empty = get(api, "/v1/admin/usage", **{"from": "2020-01-01", "to": "2020-01-31"}).json
    assert (empty["data"], empty["total"]["runs"]) == ([], 0)


def test_usage_as_csv_by_format_or_accept_evaluates_nothing(api):
    ended(api, token="other")
    by_format = get(api, "/v1/admin/usage", group_by="key,language", format="csv")
    by_accept = api.client.get("/v1/admin/usage?group_by=key,language", headers=ADMIN | {"Accept": "text/csv"})
    assert by_format.text == by_accept.text
    assert by_format.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = rows_of(by_format)
    assert list(rows[0]) == [
        "key", "label", "language", "runs", "cpu_seconds", "wall_seconds", "gb_seconds", "bytes_in", "bytes_out",
        "sessions", "session_seconds", "session_cpu_seconds", "session_gb_seconds", "egress_bytes",
    ]  # fmt: skip
    assert "'-1" in {row["label"] for row in rows}
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
    json_too = api.client.get("/v1/admin/usage?format=json", headers=ADMIN | {"Accept": "text/csv"})
    assert json_too.json["object"] == "usage_report"


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ({"group_by": ""}, "invalid_value", "group_by"),
        ({"group_by": "key,key"}, "invalid_value", "group_by"),
        ({"group_by": "owner; DROP TABLE usage"}, "invalid_value", "group_by"),
        ({"format": "xml"}, "invalid_value", "format"),
        ({"from": "2026-13-01"}, "invalid_value", "from"),
        ({"from": "2026-02-02", "to": "2026-02-01"}, "invalid_value", "from"),
        ({"key": "k" * 101}, "invalid_value", "key"),
        ({"user": "1"}, "unknown_field", None),
    ],
)
def test_what_usage_cannot_be_asked_by(api, query, code, param):
    reply = get(api, "/v1/admin/usage", **query)
    assert_envelope(reply, 400, code)
    assert reply.json["error"]["param"] == param


def test_a_report_is_bounded(api, monkeypatch):
    ended(api, token="tok")
    ended(api, token="other")
    monkeypatch.setattr(admin_usage_routes, "MOST_ROWS", 1)
    assert_envelope(get(api, "/v1/admin/usage"), 400, "too_many")


def bulk(api, text, headers=None):
    data = text if isinstance(text, bytes) else text.encode()
    return api.client.post("/v1/admin/keys/bulk", data=data, headers=ADMIN | CSV | (headers or {}))


def test_many_keys_are_created_from_csv_and_returned_as_csv(api):
    table = "label,plan\r\nalice@example.org,pro\r\n\"team one\",free\r\n'-minus,free\r\n'@home,pro\r\n,pro\r\n"
    reply = bulk(api, table)
    assert (reply.status_code, reply.headers["Content-Type"]) == (201, "text/csv; charset=utf-8")
    rows = rows_of(reply)
    assert list(rows[0]) == ["id", "label", "plan", "key", "created_at"]
    assert [(row["label"], row["plan"]) for row in rows] == [
        ("alice@example.org", "pro"), ("team one", "free"), ("'-minus", "free"), ("'@home", "pro"), ("", "pro"),
    ]  # fmt: skip
    for row, label in zip(rows, ("alice@example.org", "team one", "-minus", "@home", ""), strict=True):
        mine = api.client.get("/v1/keys/me", headers={"Authorization": f"Bearer {row['key']}"}).json
        assert (mine["id"], mine["label"], mine["plan"]) == (row["id"], label, row["plan"])
    audited = api.client.get(f"/v1/admin/audit?subject={rows[0]['id']}", headers=ADMIN).json["data"]
    assert [(entry["action"], entry["actor"]) for entry in audited] == [("key.create", "admin")]
    as_json = bulk(api, "\ufeffplan\nfree\n", {"Accept": "application/json"})
    assert (as_json.status_code, [row["plan"] for row in as_json.json["data"]]) == (201, ["free"])


@pytest.mark.parametrize(
    ("table", "status", "code", "says"),
    [
        ("", 400, "invalid_csv", "empty"),
        ("label,plan\n", 400, "invalid_csv", "empty"),
        ("label\na\n", 400, "invalid_csv", "header"),
        ("plan,plan\nfree,free\n", 400, "invalid_csv", "header"),
        ("plan,token\nfree,x\n", 400, "invalid_csv", "header"),
        ("plan\nfree\nfree,x\n", 400, "invalid_csv", "Row 2"),
        ("plan,label\nfree,ok\nnone,ok\n", 400, "unknown_plan", "Row 2"),
        ("plan,label\nfree,ok\nfree,=1+1\n", 400, "invalid_value", "Row 2"),
        ("plan,label\nfree,'=cmd|'/C calc'!A0\n", 400, "invalid_value", "Row 1"),
        ('plan,label\nfree,"a\nb"\n', 400, "invalid_value", "Row 1"),
        ("plan,label\nfree," + "x" * 65, 400, "invalid_value", "Row 1"),
        ("plan,label\nfree," + "x" * 1100, 400, "too_long", "Row 1"),
        ("plan,label\nfree," + "x" * 1_000_000, 400, "invalid_csv", "Row 1"),
        ('plan\n"free\n', 400, "invalid_csv", "Row 1"),
        ("plan\n" + "," * 1_000_000, 400, "invalid_csv", "Row 1"),
        (b"plan\n\xff\n", 400, "invalid_csv", "UTF-8"),
        (b"plan\nfree\0\n", 400, "invalid_csv", "NUL"),
        ("plan\n" + "free\n" * (MOST_KEYS + 1), 400, "too_many", str(MOST_KEYS)),
        (b"\n" * (MAX_BYTES + 1), 413, "request_too_large", str(MAX_BYTES)),
    ],
)  # fmt: skip
def test_a_table_that_is_wrong_creates_no_key(api, table, status, code, says):
    before = api.client.get("/v1/admin/audit?limit=1", headers=ADMIN).json["first_id"]
    reply = bulk(api, table)
    assert_envelope(reply, status, code)
    assert says in reply.json["error"]["message"]
    assert "cmd" not in reply.text
    assert "xxx" not in reply.text
    assert api.client.get("/v1/admin/audit?limit=1", headers=ADMIN).json["first_id"] == before


def test_ten_thousand_keys_are_one_transaction(api):
    began = time.process_time()
    reply = bulk(api, "plan,label\n" + "".join(f"free,user {n}@x.org\n" for n in range(MOST_KEYS)))
    assert reply.status_code == 201
    assert time.process_time() - began < 10
    rows = rows_of(reply)
    assert len({row["key"] for row in rows}) == len({row["id"] for row in rows}) == MOST_KEYS
    assert_envelope(bulk(api, "plan\nfree\n", {"Content-Type": "application/json"}), 415, "unsupported_media_type")
    assert_envelope(bulk(api, "plan\nfree\n", {"Authorization": "Bearer tok"}), 401, "invalid_token")


def test_csv_survives_a_round_trip_and_spreadsheets():
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\ttab", "'quoted", "'=x", 'a"b', "a,b", "plain", ""]
    table = to_csv(("a", "b"), [(text, 1) for text in texts])
    cells = [row["a"] for row in csv.DictReader(io.StringIO(table, newline=""))]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for cell in cells)
    back = from_csv(table.encode(), ("a", "b"), most_rows=100, required=("a",))
    assert [row["a"] for row in back] == [text if text != "'=x" else "=x" for text in texts]
    with pytest.raises(ApiError):
        from_csv(b"c\n1\n", ("a", "b"), most_rows=1, required=("a",))


# -- plans that change -----------------------------------------------------------------------------

PLANS = "[free]\nrate_per_minute = 60\nburst = {burst}\nruns = {runs}\n"


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_plans_are_in_force_without_a_restart_and_an_invalid_file_changes_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(plan_reload.PlanReloader.__init__, "__kwdefaults__", {"look_s": 0.02})
    path = tmp_path / "plans.toml"

    def put(text):
        """As careful editors do: nobody reads half of it."""
        other = tmp_path / "new"
        other.write_text(text)
        other.replace(path)

    put(PLANS.format(burst=5, runs=1))
    api = Api(admin_token=ADMIN_TOKEN, plans_file=path, self_service_keys=True)
    try:
        shown = lambda: api.client.get("/v1/admin/plans", headers=ADMIN).json  # noqa: E731
        key = api.client.post("/v1/keys").json["key"]
        mine = {"Authorization": f"Bearer {key}"}
        assert api.client.get("/v1/keys/me", headers=mine).json["runs_left"] == 1
        assert (shown()["error"], shown()["plans"]["free"]["burst"]) == (None, 5)

        put(PLANS.format(burst=7, runs=9))
        until(lambda: shown()["plans"]["free"]["burst"] == 7)
        me = api.client.get("/v1/keys/me", headers=mine)
        assert (me.json["runs_left"], me.headers["x-ratelimit-limit-requests"]) == (9, "70")

        for broken in ("[free]\nburst = 1\n", "not toml [", "[pro]\nrate_per_minute = 1\nburst = 1\n"):
            put(broken)
            until(lambda: shown()["error"] is not None)
            assert shown()["error"].startswith("PLANS_FILE: ")
            assert shown()["plans"]["free"]["burst"] == 7
            assert api.client.get("/v1/keys/me", headers=mine).json["runs_left"] == 9
            put(PLANS.format(burst=7, runs=9))
            until(lambda: shown()["error"] is None)
        os.unlink(path)
        until(lambda: shown()["error"] is not None)
        assert "the previous plans stay valid" in caplog.text
        counted = api.client.get("/metrics").text
        assert 'runyard_plan_reloads_total{result="failed"} 4.0' in counted
        put(PLANS.format(burst=8, runs=9) + "[pro]\nrate_per_minute = 6\nburst = 1\nrecords_mb = 5\n")
        until(lambda: "pro" in shown()["plans"])
        assert shown()["plans"]["pro"]["records_bytes"] == 5 * 2**20
        assert api.client.post("/v1/admin/keys", json={"plan": "pro"}, headers=ADMIN).status_code == 201
    finally:
        api.close()


def test_a_start_that_would_merge_tenants_is_refused():
    api = Api(api_keys="s3cret-1,s3cret-2")
    try:
        for token in ("s3cret-1", "s3cret-2"):
            ended(api, token=token)
        merged = api.settings.model_copy(update={"api_keys": "s3cret-1:team,s3cret-2:team"})
        with pytest.raises(SettingsError, match="entries 1 and 2 have the label team") as refused:
            create_app(merged, api.worker, api.records, areas())
        assert "s3cret" not in str(refused.value)
    finally:
        api.close()


def test_answers_are_those_of_the_document(api):
    ended(api, "error", error=JobError(message="broke", code="internal_error"))
    for path, model in {
        "/v1/admin/runs": AdminRunList,
        "/v1/admin/usage": AdminUsageOut,
        "/v1/admin/keys": AdminKeyListOut,
        "/v1/admin/plans": PlansOut,
    }.items():
        reply = get(api, path)
        assert reply.status_code == 200
        model.model_validate_json(reply.data)
    BulkKeysOut.model_validate_json(bulk(api, "plan\nfree\n", {"Accept": "application/json"}).data)
