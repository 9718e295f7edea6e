"""The published clients of Piston on the real service: nothing of theirs is changed but the address and the key."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.api.dialects.clients_env import prepare
from tests.support.place import SHARED

HERE = Path(__file__).parent
GO = 'package main\nimport "fmt"\nfunc main() { fmt.Println(1 + 1) }'


@pytest.fixture(scope="module")
def drive():
    """Call one of the clients, in a process of its own; what each call returned."""
    python = prepare(SHARED / "dialect-clients")

    def call(client, url, calls, key=None):
        npm = client not in ("aiopyston", "piston_rspy")
        argv = (
            ["node", str(HERE / "piston_client.mjs"), str(SHARED / "dialect-clients")]
            if npm
            else [str(python), str(HERE / "piston_client.py")]
        )
        asked = {"client": client, "url": url, "key": key, "calls": calls}
        done = subprocess.run(
            argv, input=json.dumps(asked), env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return call


@pytest.fixture(scope="module")
def versions(service):
    rows = service.get("/v1/languages", token=None).body["data"]
    return {row["id"]: row["version"] for row in rows}


def test_piston_client(service, drive, versions):
    """It does not say that its body is JSON, looks the newest version up, and sends three arguments by default."""
    runtimes, ended, tuned, wrong = drive(
        "piston-client",
        service.url,
        [
            ["runtimes"],
            ["execute", "javascript", "console.log(process.argv.slice(2).join())"],
            ["execute", {"language": "python", "version": "3.x", "files": [{"name": "main.py", "content": "print(input())"}], "stdin": "hi", "args": [], "runTimeout": 2000}],
            ["execute", "cobol", "x"],
        ],
    )  # fmt: skip
    assert {row["language"] for row in runtimes} >= {"python", "javascript", "rust"}
    assert (ended["run"]["stdout"], ended["run"]["code"]) == ("1,2,3\n", 0)
    assert (ended["language"], ended["version"]) == ("javascript", versions["node"])
    assert (tuned["run"]["output"], tuned["run"]["signal"]) == ("hi\n", None)
    assert wrong == {"message": "version is required as a string"}


@pytest.mark.parametrize("client", ["PistonClient", "NodePistonClient"])
def test_piston_api_client(service, drive, versions, client):
    runtimes, ended, wrong = drive(
        client,
        service.url,
        [
            ["runtimes"],
            ["execute", {"language": "node-js", "version": "*", "files": [{"content": "console.log(process.argv.slice(2))"}], "args": ["Hello", "World"]}],
            ["execute", {"language": "node-js", "version": "1.0.0", "files": [{"content": ""}]}],
        ],
    )  # fmt: skip
    assert runtimes["success"] is True
    assert {"language", "version", "aliases"} <= set(runtimes["data"][0])
    assert ended["success"] is True
    assert (ended["data"]["run"]["output"], ended["data"]["run"]["code"]) == ("[ 'Hello', 'World' ]\n", 0)
    assert (ended["data"]["language"], ended["data"]["version"]) == ("javascript", versions["node"])
    assert wrong == {"success": True, "data": {"message": "node-js-1.0.0 runtime is unknown"}}


def test_aiopyston(service, drive, versions):
    """It asks with trailing slashes, names no file, and sends a key without a scheme."""
    runtimes, languages, ended, compiled, wrong = drive(
        "aiopyston",
        f"{service.url}/api/v2/piston/",
        [
            ["runtimes", {}],
            ["languages", {}],
            ["execute", {"language": "py", "files": [{"content": "print(input())"}], "stdin": "hi"}],
            ["execute", {"language": "go", "files": [{"content": GO}]}],
            ["execute", {"language": "python", "version": "2.x", "files": [{"content": ""}]}],
        ],
        key=service.token,
    )
    assert ["python", versions["python"], ["py", "py3", "python3"], None] in runtimes
    assert "typescript" in languages
    assert (ended["run"]["output"], ended["version"]) == ("hi\n", versions["python"])
    assert (compiled["compile"]["code"], compiled["run"]["output"]) == (0, "2\n")
    assert wrong == ["ExecutionError", "python-2.x runtime is unknown"]


def test_piston_rspy(service, drive, versions):
    for key in (None, f"Bearer {service.token}"):
        runtimes, ended, failed, unknown = drive(
            "piston_rspy",
            f"{service.url}/api/v2",
            [
                ["runtimes", {}],
                ["execute", {"language": "python", "version": "3", "files": [{"name": "main.py", "content": "for i in range(3): print(i)"}]}],
                ["execute", {"language": "go", "version": "*", "files": [{"content": "package main\nfunc main() { x }"}]}],
                ["execute", {"language": "cobol", "files": [{"content": ""}]}],
            ],
            key=key,
        )  # fmt: skip
        assert ["python", versions["python"], ["py", "py3", "python3"]] in runtimes
        assert (ended["ok"], ended["run"]) == (True, ["0\n1\n2\n", "", "0\n1\n2\n", 0, None, True])
        assert (ended["language"], ended["version"], ended["compile"]) == ("python", versions["python"], None)
        assert failed["ok"] is True
        assert failed["compile"][1] == 1
        assert failed["run"][3:] == [1, None, False]
        assert (unknown["ok"], unknown["status"]) == (False, 400)
        assert "cobol-* runtime is unknown" in unknown["run"][1]
