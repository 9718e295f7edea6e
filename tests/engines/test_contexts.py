"""Contexts on every engine and runtime: a kernel that is forked, with a template or without, or executed."""

from __future__ import annotations

import secrets

import pytest

from protocol.job import Job
from tests.support.worker_sessions import KEY, granted, opened


def test_variables_stay_and_results_come(dispatcher):
    with opened(dispatcher, "python") as session:
        run = session.run
        assert run("x = 42")["state"] == "kept"
        done = run("print('out'); x * 2")
        assert (done["stdout"], done["results"][0]["text"], done["execution_count"]) == ("out\n", "84", 2)
        assert run("1 / 0")["exception"]["name"] == "ZeroDivisionError"
        late = run("while True: pass", limits={"timeout_ms": 1000})
        assert (late["timed_out"], late["state"]) == (True, "kept")
        assert run("x")["results"][0]["text"] == "42"
        assert run("open('outputs/a', 'w').write('a');")["artifacts"][0]["path"] == "a"


@pytest.mark.parametrize("language", ["bash"])
def test_a_context_of_bash(dispatcher, language):
    with opened(dispatcher, language) as session:
        run = session.run
        session.ask("create_context", "context", name="c")
        assert run("x=42", context="c")["exit_code"] == 0
        assert run("echo $x", context="c")["stdout"] == "42\n"


def test_a_run_of_its_own_has_results(dispatcher):
    def run(code, **fields):
        return granted(
            dispatcher.run(
                Job(f"run_{secrets.token_hex(12)}", "python", code=code, key=KEY, results=True, **fields)
            )
        )

    done = run("print('out')\nopen('outputs/a', 'w').write('a')\n6 * 7", stdin="x", env={"A": "b"})
    assert (done["stdout"], done["results"][0]["text"], done["exit_code"]) == ("out\n", "42", 0), done
    assert ([one["path"] for one in done["artifacts"]], done["context"], done["state"]) == (["a"], None, None)
    assert run("1 / 0")["exception"]["name"] == "ZeroDivisionError"
    late = run("while True: pass", limits={"timeout_ms": 1000})
    assert (late["status"], late["timed_out"]) == ("timeout", True)
    assert run("x = bytearray(900 << 20)", limits={"memory_mb": 128})["status"] == "oom"
