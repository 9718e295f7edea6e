"""Functions through the Python client and the command line, on the real service."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress

import pytest
from runyard import AsyncClient, BadRequest, Conflict, NotFound

CODE = "def run(input):\n    print('called')\n    return {'sum': sum(input['numbers'])}\n"
SCHEMA = {"required": ["numbers"], "properties": {"numbers": {"items": {"type": "number"}}}}


@pytest.fixture
def name(client):
    made = f"client-{os.getpid()}-{time.monotonic_ns() % 10**9}"
    yield made
    with suppress(NotFound):
        client.functions.delete(made)


def test_a_function_is_deployed_called_and_deleted(client, name):
    made = client.functions.deploy(name, "python", CODE, input_schema=SCHEMA, env={"A": "1"}, description="adds")
    assert (made.version, made.state, made.ready, made.env_names) == (1, "ready", True, ("A",))
    run = client.functions.call(name, {"numbers": [1, 2]})
    assert (run.output, run.stdout, run.function, run.version) == ({"sum": 3}, "called\n", name, 1)
    with pytest.raises(BadRequest) as e:
        client.functions.call(name, {"numbers": ["x"]})
    assert (e.value.code, e.value.param) == ("invalid_input", "input.numbers.0")
    client.functions.deploy(name, "bash", files=[{"path": "a.sh", "content": "jq .n"}], entrypoint="a.sh")
    assert client.functions.call(name, {"n": 5}, limits={"timeout_ms": 5000}).output == "5"
    assert client.functions.call(name, {"numbers": [4]}, version=1).output == {"sum": 4}
    assert client.functions.get(name).version == 2
    assert client.functions.get(name, 1).input_schema == SCHEMA
    assert name in [found.name for found in client.functions.iterate()]
    assert [run.version for run in client.runs.list(function=name, order="asc").data] == [1, 1, 2, 2, 1]
    client.functions.delete(name)
    with pytest.raises(NotFound):
        client.functions.call(name)


def test_a_call_is_streamed_or_left_to_itself(client, name):
    client.functions.deploy(name, "python", CODE)
    with client.functions.stream(name, {"numbers": [1]}) as stream:
        assert "called\n" in [event.text for event in stream]
    assert stream.result().output == {"sum": 1}
    started = client.functions.start(name, {"numbers": [2]})
    assert client.runs.wait(started.id, timeout_s=20).output == {"sum": 2}


def test_a_build_that_fails_is_an_answer(client, name):
    made = client.functions.deploy(name, "python", "def go(): pass")
    assert (made.state, made.ready) == ("failed", False)
    assert "def run(input)" in made.log
    with pytest.raises(Conflict) as e:
        client.functions.call(name)
    assert e.value.code == "function_failed"


def test_asyncio_has_the_same(service, name):
    async def use():
        async with AsyncClient(service.url, service.token) as client:
            assert (await client.functions.deploy(name, "python", CODE)).ready
            runs = await asyncio.gather(*(client.functions.call(name, {"numbers": [n]}) for n in range(3)))
            assert [run.output["sum"] for run in runs] == [0, 1, 2]
            async with client.functions.stream(name, {"numbers": [9]}) as stream:
                async for _ in stream:
                    pass
            assert (await stream.result()).output == {"sum": 9}
            started = await client.functions.start(name, {"numbers": [1]})
            assert (await client.runs.wait(started.id)).output == {"sum": 1}
            assert (await client.functions.get(name)).version == 1
            assert name in [found.name async for found in client.functions.iterate()]
            assert len((await client.runs.list(function=name)).data) == 6
            await client.functions.delete(name)

    asyncio.run(use())


@pytest.fixture
def command(runyard):
    """`runyard functions …`: (exit code, stdout, stderr), as text."""

    def typed(*arguments, given=""):
        code, out, err = runyard("functions", *arguments, stdin=given.encode(), B="2")
        return code, out.decode(), err.decode()

    return typed


def test_a_folder_is_deployed_and_called(command, name, tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "function.toml").write_text(
        f'name = "{name}"\nlanguage = "python"\nentrypoint = "fn.py"\n[limits]\nmemory_mb = 99\n[env]\nA = "1"\n'
        '[input_schema]\ntype = "array"\n'
    )
    (folder / "fn.py").write_text(
        "import os, lib\ndef run(i):\n    print('hi')\n    return [lib.X, os.environ['B'], i]\n"
    )
    (folder / "lib.py").write_text("X = 'ä'\n")
    assert command("deploy", "f", "--env", "B") == (0, f"{name}@1  ready\n", "")
    assert command("call", name, "[1]") == (0, '["ä", "2", [1]]\n', "hi\n")
    arguments = ("call", name, "-", "--limit", "timeout_ms=5000", "--version", "1")
    assert command(*arguments, given="[]") == (0, '["ä", "2", []]\n', "hi\n")
    for given, expected, text in (("{}", 125, "must be of type array"), ("{", 2, "JSON")):
        code, _, err = command("call", name, given)
        assert (code, text in err) == (expected, True), err
    assert name in command("list")[1]
    (folder / "fn.py").write_text("import sys\ndef run(i): sys.exit('no good')\n")
    assert command("deploy", "f")[0] == 0
    code, out, err = command("call", name, "[]")
    assert (code, out, "no good" in err) == (1, "", True)
    (folder / "fn.py").write_text("def go(): pass\n")
    code, _, err = command("deploy", "f")
    assert (code, "no function" in err) == (1, True)
    assert "no function" in command("logs", name, "--version", "3")[1]
    assert command("delete", name)[:2] == (0, f"{name}  deleted\n")
    assert command("logs", name)[0] == 125


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        (None, "no such file"),
        ("language = ", "function.toml"),
        ('language = "python"', "entrypoint"),
        ('language = "python"\nentrypoint = "a"\ncode = "x"', "unknown code"),
        ('language = "python"\nentrypoint = "a"', "name"),
    ],
)
def test_a_manifest_that_is_none_is_a_usage_error(here, tmp_path, manifest, text):
    if manifest is not None:
        (tmp_path / "function.toml").write_text(manifest)
    code, _, err = here("functions", "deploy", ".")
    assert (code, text.encode() in err) == (2, True), err
