"""The Open WebUI tool: loaded by Open WebUI's own loader, run on the real service."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.clients.openwebui_env import prepare
from tests.support.place import SHARED

HERE = Path(__file__).parent
REPO = HERE.parents[1]
TOOL = REPO / "openwebui_tool.py"
IN_CONTAINER = REPO / "openwebui_tool_docker.py"
LANGUAGE_METHODS = {
    "run_python": "print(1+1)",
    "run_javascript": "console.log(1+1)",
    "run_typescript": "const n: number = 1+1; console.log(n)",
    "run_ruby": "puts 1+1",
    "run_php": "<?php echo 1+1, PHP_EOL;",
    "run_go": 'package main\nimport "fmt"\nfunc main() { fmt.Println(1+1) }',
    "run_rust": 'fn main() { println!("{}", 1+1); }',
    "run_bash": "echo $((1+1))",
}


@pytest.fixture(scope="session")
def open_webui(tmp_path_factory):
    """A process of Open WebUI's loader; `make test` has installed it before any test begins."""
    environment = {
        "PATH": os.environ["PATH"],
        "FROM_INIT_PY": "true",
        "DATA_DIR": str(tmp_path_factory.mktemp("open-webui")),
        "WEBUI_SECRET_KEY": "x",
        "ENABLE_DB_MIGRATIONS": "False",
        "OFFLINE_MODE": "True",
        "ENABLE_PIP_INSTALL_FRONTMATTER_REQUIREMENTS": "False",
    }
    said = (tmp_path_factory.mktemp("open-webui-log") / "stderr").open("w+")
    running = subprocess.Popen(
        [str(prepare(SHARED / "open-webui")), str(HERE / "openwebui_host.py")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        text=True,
    )

    def ask(asked):
        running.stdin.write(json.dumps(asked) + "\n")
        running.stdin.flush()
        for line in running.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
        said.seek(0)
        raise AssertionError(said.read()[-4000:])

    yield ask
    running.stdin.close()
    running.kill()
    running.wait()
    running.stdout.close()
    said.close()


@pytest.fixture
def host(open_webui, service):
    """Asks `openwebui_host.py`: its answer."""

    def ask(*calls, source=TOOL, **valves):
        return open_webui(
            {
                "source": source.read_text(),
                "valves": {"api_url": service.url, "api_key": service.token} | valves,
                "calls": list(calls),
            }
        )

    return ask


def called(method, /, *, files=None, contents=None, **arguments):
    return {"method": method, "arguments": arguments, "files": files, "contents": contents or {}}


def statuses(answer):
    return [event["data"] for event in answer["events"] if event["type"] == "status"]


def pictures(answer):
    return [file for event in answer["events"] if event["type"] == "files" for file in event["data"]["files"]]


def attached(file_id, name, **more):
    return {"type": "file", "id": file_id, "name": name, **more}


@pytest.mark.parametrize(
    ("source", "url"), [(TOOL, "http://localhost:8080"), (IN_CONTAINER, "http://host.docker.internal:8080")]
)
def test_open_webuis_loader_loads_it(host, source, url):
    found = host(source=source)
    assert found["frontmatter"]["title"].startswith("Runyard")
    assert "requirements" not in found["frontmatter"]
    assert (found["default"]["api_url"], found["default"]["api_key"]) == (url, "dev_123")
    assert set(found["methods"]) == {*LANGUAGE_METHODS, "execute_code"}
    for name, method in found["methods"].items():
        wanted = ["code", "language"] if name == "execute_code" else ["code"]
        more = ["packages"] if name in ("run_python", "execute_code") else []
        assert (method["required"], method["given"]) == (wanted, wanted + more)
        assert ":param code:" in method["doc"]


def test_it_runs_what_it_is_given_and_says_how_it_went(host):
    printed, fenced, failed, silent, wrong, missing = host(
        called("run_python", code="print(1+1)"),
        called("execute_code", code="```bash\necho fenced\n```", language=" Shell "),
        called("run_python", code="1/0"),
        called("run_bash", code="true"),
        called("execute_code", code="x", language="cobol"),
        called("run_python", code="import not_there"),
    )["answers"]
    assert printed["result"] == "The program succeeded.\n\nstdout:\n2"
    assert statuses(printed)[-1]["done"] is True
    assert not any(status["done"] for status in statuses(printed)[:-1])
    assert {event["type"] for event in printed["events"]} == {"status"}
    assert "fenced" in fenced["result"]
    assert "exit code 1" in failed["result"]
    assert "ZeroDivisionError" in failed["result"]
    assert "printed nothing" in silent["result"]
    assert wrong["result"].startswith("Not run: language")
    assert "python" in wrong["result"]  # what there is, to choose from
    assert "nothing can be installed" in missing["result"]


def test_every_languages_method_runs_that_language(host, service):
    ready = {one["id"] for one in service.get("/v1/languages").body["data"] if one["ready"]}
    names = {"run_javascript": "node"}
    methods = [name for name in LANGUAGE_METHODS if names.get(name, name.removeprefix("run_")) in ready]
    answers = host(*(called(name, code=LANGUAGE_METHODS[name]) for name in methods), timeout_s=60)["answers"]
    assert {name: answer["result"] for name, answer in zip(methods, answers, strict=True)} == dict.fromkeys(
        methods, "The program succeeded.\n\nstdout:\n2"
    )


def test_injected_arguments_may_all_be_missing(host):
    bare = called("run_bash", code="echo hi; printf '\\211PNG\\r\\n\\032\\n' > outputs/a.png") | {"bare": True}
    (answer,) = host(bare)["answers"]
    assert "hi" in answer["result"]
    assert "](http" in answer["result"]  # nowhere to show it: a link
    assert answer["events"] == []


def test_images_are_shown_and_other_files_are_links_that_work(host, service):
    program = (
        "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.savefig('outputs/plot.png')\n"
        "open('outputs/a [b](c).csv', 'w').write('1,2')\nopen('outputs/x.svg', 'w').write('<svg/>')\nprint('drawn')"
    )
    shown, hidden = host(
        called("run_python", code=program),
        called("run_python", code=program) | {"user_valves": {"show_images": False}},
    )["answers"]
    (picture,) = pictures(shown)
    assert picture["type"] == "image"
    assert base64.b64decode(picture["url"].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    assert "base64" not in shown["result"]
    assert "plot.png: an image, shown" in shown["result"]
    assert "x.svg](http" in shown["result"]
    label = r"a \[b\]\(c\).csv"
    assert label in shown["result"]
    link = shown["result"].split(f"{label}](")[1].split(")")[0]
    assert service.get(link.removeprefix(service.url), token=None).raw == b"1,2"
    assert (pictures(hidden), "plot.png](http" in hidden["result"]) == ([], True)


def test_links_lead_where_a_browser_can_follow(host):
    (answer,) = host(called("run_bash", code="echo x > outputs/a.txt"), public_url="https://runyard.example/x/")[
        "answers"
    ]
    assert "](https://runyard.example/x/v1/files/file_" in answer["result"]


def test_attachments_are_inputs_as_open_webui_lets_the_user_read_them(host, service, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("kept")
    files = [
        attached("f1", "in.csv"),
        attached("f1", "../../in.csv"),
        attached("f2", "own.bin", file={"path": str(secret), "data": {"content": "text of it"}}),
        attached("../f1", "up.txt", file={"path": str(secret)}),
        {"type": "image", "url": "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode(), "name": "p.png"},
        {"type": "collection", "id": "c1", "name": "knowledge"},
        "nonsense",
    ]
    before = {one["id"] for one in service.get("/v1/files?limit=100").body["data"]}
    code = "import os\nfor n in sorted(os.listdir('inputs')): print(n, open('inputs/'+n,'rb').read())"
    staged, stranger = host(
        called("run_python", code=code, files=files, contents={"f1": "a,b\xff"}),
        called("run_python", code=code, files=files[:1], contents={"f1": "a"}) | {"token": "another's"},
    )["answers"]
    lines = staged["result"].split("stdout:\n")[1].splitlines()
    assert lines == [
        "in (2).csv b'a,b\\xff'",
        "in.csv b'a,b\\xff'",
        "own.bin b'text of it'",
        "p.png b'\\x89PNG'",
    ]
    assert "up.txt cannot be read" in staged["result"]
    assert "kept" not in staged["result"]
    assert "in.csv cannot be read" in stranger["result"]
    assert {one["id"] for one in service.get("/v1/files?limit=100").body["data"]} <= before


def test_what_it_prints_is_seen_while_it_runs(host):
    code = "import time\nfor i in range(4):\n    print('step', i); time.sleep(1.2)"
    seen, quiet = host(
        called("run_python", code=code), called("run_python", code=code) | {"user_valves": {"show_progress": False}}
    )["answers"]
    assert any("step" in status["description"] for status in statuses(seen))
    assert not any("step" in status["description"] for status in statuses(quiet))


def test_limits_and_long_outputs(host):
    slow, big, long = host(
        called("run_bash", code="sleep 60"),
        called("run_bash", code="x=$(head -c 900m /dev/zero | tr '\\0' x)"),
        called("run_python", code="for i in range(5000): print(i)"),
        timeout_s=1,
        memory_mb=64,
        max_output_chars=1000,
    )["answers"]
    assert "longer than 1000 ms" in slow["result"]
    assert "64 MiB" in big["result"] or "longer than" in big["result"]
    assert "characters left out" in long["result"]
    assert len(long["result"]) < 1500
    assert "4999" in long["result"]


def test_a_call_that_is_stopped_cancels_its_run(host, service):
    mark = f"while :; do echo it runs; sleep 0.3; done # {time.monotonic_ns()}"
    (answer,) = host(called("run_bash", code=mark) | {"stop_at": "it runs"})["answers"]
    assert answer["result"] == "stopped"
    newest = service.get("/v1/runs?limit=5&language=bash").body["data"]
    (run,) = [
        one
        for one in newest
        if service.get(f"/v1/runs/{one['id']}?include=request").body["request"]["code"] == mark
    ]
    assert service.ended(run["id"])["status"] == "cancelled"


@pytest.fixture
def chat(service):
    """The id of a chat of its own; its sessions end with the test."""
    yield (name := f"chat-{time.monotonic_ns()}")
    for one in sessions(service):
        service.request("DELETE", f"/v1/sessions/{one['id']}")
    assert name


def sessions(service):
    return service.get("/v1/sessions?metadata.client=open-webui&limit=50").body["data"]


def live(service):
    return [one for one in sessions(service) if one["status"] != "ended"]


def test_a_chat_keeps_variables_and_files_in_one_session(host, service, chat):
    def say(code, **more):
        (answer,) = host(called("run_python", code=code) | {"chat": chat} | more)["answers"]
        return answer["result"]

    first = say("x = 42\nopen('kept.txt', 'w').write('file')\nx")
    assert first == "The program succeeded.\n\nresults:\n42"
    assert say("print(x + 1, open('kept.txt').read())") == "The program succeeded.\n\nstdout:\n43 file"
    (session,) = live(service)
    assert (session["runs"], session["metadata"]["user"]) == (2, "user-1")
    assert chat not in json.dumps(session)
    assert "NameError" in say("x", chat=f"{chat}-another")
    service.request("DELETE", f"/v1/sessions/{session['id']}")
    gone = say("x")
    assert "earlier session has ended (deleted): variables and files of earlier calls are gone" in gone
    assert "NameError" in gone
    assert "has ended" not in say("1")


def test_without_minutes_to_keep_and_in_temporary_chats_nothing_is_kept(host, service, chat):
    before = len(sessions(service))
    first, second = (
        host(called("run_python", code=code) | {"chat": name}, keep_minutes=minutes)["answers"][0]["result"]
        for code, name, minutes in (("y = 1\ny", chat, 0), ("y = 2\ny", "local:abc", 30))
    )
    assert (first, second) == tuple(f"The program succeeded.\n\nresults:\n{value}" for value in (1, 2))
    assert len(sessions(service)) == before


def test_figures_and_tables_appear_in_the_chat(host, chat):
    code = (
        "import pandas as pd, matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()\n"
        "pd.DataFrame({'name|': ['<b>x</b>', None], 'n': [1, 2]})"
    )
    for name in (chat, "local:temporary"):
        (answer,) = host(called("run_python", code=code) | {"chat": name})["answers"]
        (picture,) = pictures(answer)
        assert base64.b64decode(picture["url"].removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
        (table,) = [event["data"]["content"] for event in answer["events"] if event["type"] == "message"]
        assert table.strip().splitlines() == [
            r"| name\| | n |", "| --- | --- |", r"| \<b\>x\</b\> | 1 |", "|  | 2 |",
        ]  # fmt: skip
        assert "[an image, shown to the user]" in answer["result"]
        assert "[a table, shown to the user]" in answer["result"]
        assert "base64" not in answer["result"]


def test_an_exception_and_its_hint_reach_the_model(host, chat):
    (answer,) = host(called("run_python", code="def f():\n    import nunpy\nf()") | {"chat": chat})["answers"]
    assert "exception:\nTraceback" in answer["result"]
    assert "nothing can be installed" in answer["result"]
    assert "numpy" in answer["result"]


def test_a_call_that_takes_too_long_leaves_the_variables(host, chat):
    def say(code):
        return host(called("run_python", code=code) | {"chat": chat}, timeout_s=2)["answers"][0]["result"]

    say("z = 5")
    assert "longer than 2000 ms" in say("while True: pass")
    assert "results:\n5" in say("z")
    assert "the variables are gone, the files are kept" in say("import os; os._exit(1)")
    assert "NameError" in say("z")


def test_other_settings_begin_another_session(host, service, chat):
    def say(code, memory_mb):
        return host(called("run_python", code=code) | {"chat": chat}, memory_mb=memory_mb)["answers"][0]["result"]

    say("a = 1", 256)
    assert "variables and files of earlier calls are gone" in say("a", 320)
    assert [one["limits"]["memory_mb"] for one in live(service)] == [320]


def test_packages_are_asked_for_where_the_valve_names_them(host, faults):
    """The service under test has PACKAGES=off: what is permitted here reaches it, and is refused there."""
    asked = called("run_python", code="1", packages=["humanize==4.12.3"])
    (answer,) = host(asked)["answers"]
    assert answer["result"] == "Not run: the package humanize==4.12.3 is not permitted here; permitted: none."
    (answer,) = host(asked, packages="attrs, Humanize")["answers"]
    assert "packages.0: this service provides no packages (PACKAGES is off" in answer["result"]
    faults.answer(
        200,
        b'{"seq":1,"event":"info","data":{"status":"queued","output":"Collecting humanize"},"t_ms":1}\n'
        b'{"seq":2,"event":"error","data":{"code":"package_build_failed","message":"packages: no such version"},"t_ms":2}\n',
    )
    (answer,) = host(asked, packages="*", api_url=faults.url)["answers"]
    assert answer["result"] == "Not run: packages: no such version. Change that and call the tool again."
    assert {"description": "Running: Collecting humanize", "done": False} in statuses(answer)
    body = json.loads(faults.seen[-1].body)
    assert (body["packages"], body["results"]) == (["humanize==4.12.3"], True)
    assert faults.seen[-1].path == "/v1/runs"


def test_errors_say_what_a_model_can_do(host, service, faults):
    (away,) = host(called("run_bash", code="true"), api_url="http://127.0.0.1:9")["answers"]
    assert "cannot be reached" in away["result"]
    assert "api_url" in away["result"]
    (refused,) = host(called("run_bash", code="true"), api_key="wrong")["answers"]
    assert "api_key valve" in refused["result"]
    (large,) = host(called("run_bash", code="true"), memory_mb=999_999)["answers"]
    assert "limits.memory_mb" in large["result"]
    (other,) = host(called("run_bash", code="true"), api_url="nonsense")["answers"]
    assert "api_url" in other["result"]
    faults.refuse(503, "overloaded", Retry_After="0")
    faults.answer(200, b'{"seq":1,"event":"result","data":{"status":"succeeded","stdout":"again\\n"},"t_ms":1}\n')
    (again,) = host(called("run_bash", code="true"), api_url=faults.url)["answers"]
    assert "again" in again["result"]
    assert len({seen.headers["idempotency-key"] for seen in faults.seen}) == 1
    faults.answer(404, b"<html>not it</html>")
    (strange,) = host(called("run_bash", code="true"), api_url=faults.url)["answers"]
    assert "not Runyard" in strange["result"]
    faults.answer(200, b'{"seq":1,"event":"info","data":{},"t_ms":0}\n')
    (cut,) = host(called("run_bash", code="true"), api_url=faults.url)["answers"]
    assert "before the program did" in cut["result"]
