"""`"results": true` in single-use runs: results and exceptions as in a session, and all that a run has besides."""

from __future__ import annotations

import json
import threading
import time

import pytest

from tests.support.workers import until

#: By language: a cell, and the result that it has.
CELLS = {
    "python": ("x = 41\nprint('out')\nx + 1", "out\n", {"text": "42"}),
    "node": (
        "const x = await Promise.resolve(4); console.log('out'); [x]",
        "out\n",
        {"text": "[ 4 ]", "json": [4]},
    ),
    "typescript": ("const x: number = 4; console.log('out'); ({ x })", "out\n", {"json": {"x": 4}}),
    "ruby": ("puts 'out'\n[1, nil]", "out\n", {"text": "[1, nil]", "json": [1, None]}),
}


def cell(service, code, language="python", **fields):
    return service.run(language, code, results=True, **fields)


@pytest.mark.parametrize("language", CELLS)
def test_the_last_value_is_a_result(service, language):
    code, stdout, wanted = CELLS[language]
    done = cell(service, code, language)
    assert (done["status"], done["exit_code"], done["stdout"]) == ("succeeded", 0, stdout), done
    (result,) = done["results"]
    assert {name: result.get(name) for name in wanted} == wanted
    assert result["is_main_result"] is True
    assert (done["session_id"], done["context"], done["execution_count"], done["state"]) == (None,) * 4
    assert done["usage"]["shared"] is False


def test_the_run_that_is_kept_has_its_results(service):
    done = cell(service, "import pandas as pd\npd.DataFrame({'a': [1]})")
    assert service.get(f"/v1/runs/{done['id']}").body["results"] == done["results"]
    assert done["results"][0]["data"] == {"a": [1]}
    assert "<table" in done["results"][0]["html"]


def test_an_exception_is_an_object_and_not_in_stderr(service):
    done = cell(service, "def f(): 1 / 0\nf()")
    assert (done["status"], done["exit_code"], done["stderr"]) == ("failed", 1, "")
    assert (done["exception"]["name"], done["exception"]["value"]) == ("ZeroDivisionError", "division by zero")
    assert any("1 / 0" in line for line in done["exception"]["traceback"])
    assert "\x1b" not in "".join(done["exception"]["traceback"])


def test_a_module_that_is_missing_is_a_hint(service):
    assert [one["code"] for one in cell(service, "import nunpy")["hints"]] == ["module_not_found"]


def test_files_stdin_env_figures_and_artifacts_as_in_any_run(service):
    stored = service.upload(b"stored").body["id"]
    files = [{"path": "own.py", "content": "VALUE = 7\n"}, {"path": "a.txt", "id": stored}]
    code = (
        "import os, own\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()\n"
        "open('outputs/o.txt', 'w').write(input())\n(own.VALUE, os.environ['A'], open('inputs/a.txt').read())"
    )
    done = cell(service, code, files=files, stdin="typed\n", env={"A": "b"})
    figure, value = done["results"]
    assert "png" in figure
    assert value["text"] == "(7, 'b', 'stored')"
    assert [one["path"] for one in done["artifacts"]] == ["o.txt"]


def test_a_stream_has_displays_in_order_with_output(service):
    code = "print(1)\ndisplay(2)\nprint(3)\ndef f(): raise ValueError('v')\nf()"
    body = {"language": "python", "code": code, "results": True, "stream": True}
    raw = service.post("/v1/runs", json=body).raw
    events = [json.loads(line) for line in raw.splitlines() if line.strip()]
    shown = [(one["event"], one["data"]) for one in events if one["event"] in ("stdout", "display", "exception")]
    assert [name for name, _ in shown] == ["stdout", "display", "stdout", "exception"]
    assert (shown[0][1], shown[1][1]["text"], shown[2][1], shown[3][1]["name"]) == ("1\n", "2", "3\n", "ValueError")


@pytest.mark.parametrize(
    ("code", "limits", "status", "hint"),
    [
        ("while True: pass", {"timeout_ms": 600}, "timeout", "timed_out"),
        ("while True: pass", {"cpu_ms": 300}, "timeout", "timed_out"),
        ("import signal; signal.signal(2, signal.SIG_IGN)\nwhile True: pass", {"timeout_ms": 600}, "timeout", "timed_out"),
        ("x = bytearray(400 << 20)", {"memory_mb": 128}, "oom", "out_of_memory"),
        ("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9,)).start()", {"pids": 20},
         "failed", "pids_exhausted"),
    ],
    ids=["wall clock", "processor time", "resists", "memory", "processes"],
)  # fmt: skip
def test_the_limits_of_a_run_hold(service, code, limits, status, hint):
    done = cell(service, code, limits=limits)
    assert (done["status"], [one["code"] for one in done["hints"]]) == (status, [hint]), done


@pytest.mark.parametrize(
    ("code", "exit_code", "signal"),
    [
        ("import os; print('p', flush=True); os._exit(3)", 3, None),
        ("import os; print('p', flush=True); os.kill(os.getpid(), 9)", None, "SIGKILL"),
        ("print('p'); exit(4)", 4, None),
    ],
    ids=["_exit", "killed", "exit"],
)
def test_a_kernel_that_ends_ends_its_run(service, code, exit_code, signal):
    done = cell(service, code)
    assert (done["status"], done["exit_code"], done["signal"], done["stdout"]) == (
        "failed",
        exit_code,
        signal,
        "p\n",
    )


def test_results_are_bounded_and_the_rest_is_counted(service):
    done = cell(service, "for i in range(130): display(i)")
    assert (len(done["results"]), done["results_dropped"]) == (100, 30)


def test_it_is_cancelled_as_any_run(service):
    made = service.post("/v1/runs", json={"language": "python", "code": "print('p')\nimport time\ntime.sleep(60)",
                                          "results": True, "background": True, "limits": {"timeout_ms": 60_000}})  # fmt: skip
    path = f"/v1/runs/{made.body['id']}"
    until(lambda: service.get(path).body["status"] == "running", 20)
    time.sleep(0.5)
    service.post(f"{path}/cancel", data=b"")
    until(lambda: service.get(path).body["status"] == "cancelled", 20)


def test_nothing_of_one_is_in_another(service):
    found = []

    def one(number):
        code = f"import os\nwas = os.path.exists('/tmp/x')\nopen('/tmp/x', 'w').close()\n(was, {number})"
        found.append(cell(service, code)["results"][0]["text"])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [f"(False, {number})" for number in range(4)]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"language": "bash"}, "languages that have results are"),
        ({"args": ["x"]}, "not together with args"),
        ({"stdin_open": True}, "not together with stdin_open"),
        ({"code": None, "entrypoint": "m.py", "files": [{"path": "m.py", "content": "1"}]}, "with entrypoint"),
        ({"results": "yes"}, "results: "),
    ],
)
def test_bad_input_is_refused_by_name(service, fields, says):
    reply = service.post("/v1/runs", json={"language": "python", "code": "1", "results": True, **fields})
    assert (reply.status, reply.body["error"]["param"]) == (400, "results")
    assert says in reply.body["error"]["message"]


def test_a_run_in_a_session_may_ask_for_what_it_has_anyway(service):
    path = f"/v1/sessions/{service.post('/v1/sessions', json={'language': 'python'}).body['id']}"
    done = service.post(f"{path}/runs", json={"code": "6 * 7", "results": True})
    assert done.body["results"][0]["text"] == "42"
    service.request("DELETE", path)
