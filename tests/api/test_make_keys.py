"""`make keys`: the operator without HTTP, on a service that runs; what it does is in force at once."""

from __future__ import annotations

import re

from tests.support.service import ADMIN_TOKEN, make


def test_create_use_list_and_revoke(service):
    done = make("keys", KEYS="create --plan pro --label by-hand")
    key = re.search(r"^ry_[0-9A-Za-z]{38}$", done.stdout, re.MULTILINE).group()
    me = service.get("/v1/keys/me", token=key).body
    assert (me["plan"], me["label"]) == ("pro", "by-hand")
    line = next(line for line in make("keys").stdout.splitlines() if line.startswith(me["id"]))
    assert line.split()[1:5] == [me["prefix"], "pro", "10000", "active"]
    make("keys", KEYS=f"revoke {me['id']}")
    assert service.get("/v1/keys/me", token=key).status == 401
    line = next(line for line in make("keys", KEYS="list").stdout.splitlines() if line.startswith(me["id"]))
    assert "revoked" in line
    trail = service.get(f"/v1/admin/audit?subject={me['id']}", token=ADMIN_TOKEN).body["data"]
    assert [(entry["action"], entry["actor"]) for entry in trail] == [
        ("key.revoke", "operator"),
        ("key.create", "operator"),
    ]
    # What root had written beside the database, api could not write any more.
    made = service.post("/v1/admin/keys", json={"plan": "pro"}, token=ADMIN_TOKEN)
    assert made.status == 201
    for said, arguments in (
        ("unknown plan 'gold'; available: free", "create --plan gold"),
        ("label: must be", "create --plan pro --label a/b"),
        ("no such key", f"revoke {me['id']}"),
        ("invalid choice", "burn"),
        ("--plan", "create"),
    ):
        refused = make("keys", KEYS=arguments, check=False)
        assert refused.returncode != 0
        assert said in refused.stdout
