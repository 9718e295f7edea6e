"""Contexts of sessions, on the real service: variables that stay, results, exceptions, interrupts, restarts."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime
from typing import Any, NamedTuple

import pytest

MIB = 1024 * 1024


class Cell(NamedTuple):
    """Code, and what its run must have: fields of the run object, and the formats of its results."""

    code: str
    stdout: str = ""
    results: tuple[dict[str, Any], ...] = ()
    exception: str | None = None
    exit_code: int = 0
    stdin: str = ""
    env: tuple[tuple[str, str], ...] = ()


class Kind(NamedTuple):
    """Equals a chart of a type, whatever it shows."""

    name: str

    def __eq__(self, other):
        return isinstance(other, dict) and other.get("type") == self.name

    __hash__ = None


class Chart(dict):
    """Equals a chart that has these fields, and may have more."""

    def __eq__(self, other):
        return isinstance(other, dict) and {name: other.get(name) for name in self} == dict(self)

    __hash__ = None


class Boxes(tuple):
    """Equals a box plot: of each box its label, median and number of outliers."""

    __slots__ = ()

    def __new__(cls, *boxes):
        return super().__new__(cls, boxes)

    def __eq__(self, other):
        found = [(one["label"], one["median"], len(one["outliers"])) for one in other["elements"]]
        return other["type"] == "box_and_whisker" and found == list(self)

    __hash__ = None


class Long(NamedTuple):
    """Equals a text that was cut to so many characters, and says so."""

    size: int

    def __eq__(self, other):
        return isinstance(other, str) and self.size <= len(other) < self.size + 100 and "more characters" in other

    __hash__ = None


class Ends(str):
    """Equals a text that ends so."""

    __slots__ = ()

    def __eq__(self, other):
        return isinstance(other, str) and other.endswith(str(self))

    __hash__ = None


def text(value):
    return {"text": value}


#: Executed in order in one context. A result must have at least the formats that are named; `...` is any value.
PYTHON = {
    "assignment": Cell("x = 42"),
    "the variable is kept": Cell("print(x * 2)", "84\n"),
    "last expression": Cell("x * 2", results=(text("84"),)),
    "a semicolon hides it": Cell("x;"),
    "None is no result": Cell("None"),
    "statements and an expression": Cell("y = 1\ny + 1", results=(text("2"),)),
    "exception": Cell("1 / 0", exception="ZeroDivisionError", exit_code=1),
    "syntax error": Cell("1 +", exception="SyntaxError", exit_code=1),
    "variables survive an exception": Cell("x", results=(text("42"),)),
    "exit": Cell("import sys; sys.exit(3)", exit_code=3),
    "exit by name": Cell("exit(4)", exit_code=4),
    "exit without a code": Cell("quit()"),
    "variables survive exit": Cell("x", results=(text("42"),)),
    "input": Cell("print(input('? ') + '!')", "? bob!\n", stdin="bob\n"),
    "input at its end": Cell("input()", exception="EOFError", exit_code=1),
    "input of a child": Cell("!cat", "from stdin", stdin="from stdin"),
    "variable of one run": Cell("import os; os.environ['ONLY']", results=(text("'here'"),), env=(("ONLY", "here"),)),
    "and of no other": Cell("os.environ.get('ONLY')"),
    "output of a child in order": Cell("print('a')\n!echo b\nprint('c')", "a\nb\nc\n"),
    "await": Cell("import asyncio\nawait asyncio.sleep(0)\n7", results=(text("7"),)),
    "asyncio.run": Cell("async def f(): return 8\nasyncio.run(f())", results=(text("8"),)),
    "a task goes on": Cell("async def g():\n    global done\n    done = True\ntask = asyncio.create_task(g())"),
    "and is done": Cell("await asyncio.sleep(0.01); done", results=(text("True"),)),
    "display": Cell(
        "from IPython.display import HTML, JSON, Latex, Markdown, SVG, display\n"
        "for one in (HTML('<b>h</b>'), Markdown('# m'), Latex('$l$'), JSON({'j': [1]})): display(one)",
        results=({"html": "<b>h</b>"}, {"markdown": "# m"}, {"latex": "$l$"}, {"json": {"j": [1]}}),
    ),
    "update of a display": Cell(
        "handle = display('one', display_id='d'); handle.update('two')",
        results=({"text": "'one'", "display_id": "d", "update": False}, {"text": "'two'", "update": True}),
    ),
    "table": Cell(
        "import pandas as pd; pd.DataFrame({'a': [1, None], 'b': ['x', 'y']})",
        results=({"text": ..., "html": ..., "data": {"a": [1.0, None], "b": ["x", "y"]}},),
    ),
    "figure by show": Cell(
        "import matplotlib.pyplot as plt\nplt.plot([1, 2], [3, 4], label='l'); plt.title('T'); plt.show()",
        results=({"png": ..., "chart": ..., "is_main_result": False},),
    ),
    "figure at the end": Cell("plt.bar(['a', 'b'], [1, 2]);", results=({"png": ..., "chart": ...},)),
    "figure as the value": Cell(
        "fig, ax = plt.subplots(); ax.plot([1]); fig", results=({"png": ..., "is_main_result": True},)
    ),
    "lines as they are drawn": Cell(
        "plt.plot([1, 2], [3, 4], label='l'); plt.plot([1, 2], [10, 100]); plt.yscale('log'); plt.title('T')\n"
        "plt.xlabel('time (s)'); plt.ylabel('Y'); plt.show()",
        results=({"png": ..., "chart": Chart(
            type="line", title="T", x_label="time (s)", x_unit="s", y_label="Y", y_unit=None, x_scale="linear", y_scale="log",
            elements=[{"label": "l", "points": [[1.0, 3.0], [2.0, 4.0]]},
                      {"label": "Line 1", "points": [[1.0, 10.0], [2.0, 100.0]]}],
        )},),
    ),
    "lines over days": Cell(
        "import datetime as dt; plt.plot([dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 2)], [1, float('nan')]); plt.show()",
        results=({"png": ..., "chart": Chart(
            type="line", x_scale="datetime",
            elements=[{"label": "Line 0", "points": [["2026-01-01T00:00:00", 1.0], ["2026-01-02T00:00:00", None]]}],
        )},),
    ),
    "bars as they are drawn": Cell(
        "plt.bar(['a', 'b'], [1, 2.5], label='g'); plt.bar(['a'], [3], label='h'); plt.ylabel('n'); plt.title('B'); plt.show()",
        results=({"png": ..., "chart": Chart(
            type="bar", title="B", y_label="n",
            elements=[{"label": "a", "group": "g", "value": 1.0}, {"label": "b", "group": "g", "value": 2.5},
                      {"label": "a", "group": "h", "value": 3.0}],
        )},),
    ),
    "bars of one height": Cell(
        "plt.bar(['a', 'b'], [2, 2]); plt.xlabel('x'); plt.ylabel('y'); plt.show()",
        results=(
            {
                "png": ...,
                "chart": Chart(
                    type="bar",
                    x_label="x",
                    y_label="y",
                    elements=[
                        {"label": "a", "group": "Group 0", "value": 2.0},
                        {"label": "b", "group": "Group 0", "value": 2.0},
                    ],
                ),
            },
        ),
    ),
    "bars at numbers": Cell(
        "plt.bar([1, 2.5], [3, 4]); plt.show()",
        results=(
            {
                "png": ...,
                "chart": Chart(
                    type="bar",
                    elements=[
                        {"label": "1.0", "group": "Group 0", "value": 3.0},
                        {"label": "2.5", "group": "Group 0", "value": 4.0},
                    ],
                ),
            },
        ),
    ),
    "bars that lie": Cell(
        "plt.barh(['a', 'b'], [1, 2]); plt.show()",
        results=({"png": ..., "chart": Chart(
            type="bar",
            elements=[{"label": "a", "group": "Group 0", "value": 1.0}, {"label": "b", "group": "Group 0", "value": 2.0}],
        )},),
    ),
    "scatter, pie and box": Cell(
        "for draw in ('scatter([1], [2])', 'pie([1, 2], labels=[\"a\", \"b\"])', 'boxplot([[1, 2, 3]])'):\n"
        "    eval('plt.' + draw); plt.show()",
        results=tuple({"png": ..., "chart": Kind(kind)} for kind in ("scatter", "pie", "box_and_whisker")),
    ),
    "boxes as they are drawn": Cell(
        "plt.boxplot([[1, 2, 3], [2, 4, 30]], tick_labels=['a', 'b']); plt.show()",
        results=({"png": ..., "chart": Boxes(("a", 2.0, 0), ("b", 4.0, 0))},),
    ),
    "several axes": Cell(
        "fig, (a, b) = plt.subplots(1, 2); a.plot([1]); b.bar(['x'], [1]); plt.show()",
        results=({"png": ..., "chart": Kind("superchart")},),
    ),
    "figures are closed": Cell("plt.get_fignums()", results=(text("[]"),)),
    "image": Cell("from PIL import Image; Image.new('RGB', (2, 2))", results=({"png": ...},)),
    "own representation": Cell(
        "class R:\n    def _repr_mimebundle_(self, **_):\n        return {'text/plain': 'r', 'text/x-own': 'o'}\nR()",
        results=({"text": "r", "extra": {"text/x-own": "o"}},),
    ),
    "every representation": Cell(
        "class E:\n"
        "    def _repr_html_(self): return '<b>'\n"
        "    def _repr_markdown_(self): return '*m*'\n"
        "    def _repr_svg_(self): return '<svg/>'\n"
        "    def _repr_latex_(self): return '$l$'\n"
        "    def _repr_json_(self): return {'j': [1]}\n"
        "    def _repr_javascript_(self): return 'js'\n"
        "    def _repr_png_(self): return b'\\x01\\x02'\n"
        "    def _repr_jpeg_(self): return b'\\x03'\n"
        "    def _repr_pdf_(self): return b'%PDF'\n"
        "    def _repr_pretty_(self, p, cycle): p.text('pretty')\n"
        "E()",
        results=({"text": "pretty", "html": "<b>", "markdown": "*m*", "svg": "<svg/>", "latex": "$l$", "json": {"j": [1]},
                  "javascript": "js", "png": "AQI=", "jpeg": "Aw==", "pdf": "JVBERg=="},),
    ),
    "a representation with metadata, and one of nothing": Cell(
        "class M:\n    def _repr_html_(self): return '<i>', {'m': 1}\n    def _repr_svg_(self): return None\n"
        "    def __repr__(self): return 'm'\nM()",
        results=({"text": "m", "html": "<i>"},),
    ),
    "cells of a table": Cell(
        "pd.DataFrame({'t': pd.to_datetime(['2026-01-01', None]), 'o': [{'x': 1}, [1]]})",
        results=({"data": {"t": ["2026-01-01T00:00:00", None], "o": [{"x": 1}, [1]]}},),
    ),
    "cleared displays are kept": Cell(
        "from IPython.display import clear_output\ndisplay(1); clear_output(); display(2)", results=(text("1"), text("2"))
    ),
    "a thread begins to print": Cell(
        "import threading, time\ndef late():\n    for number in range(4):\n        time.sleep(0.2); print('late', number)\n"
        "thread = threading.Thread(target=late); thread.start(); print('begun')", "begun\n",
    ),
    "and prints into the cell under way": Cell("thread.join()", Ends("late 3\n")),
    "a representation that fails": Cell("class F:\n    def __repr__(self): raise ValueError('f')\nF()"),
    "huge": Cell("'a' * 300_000", results=({"text": Long(256 * 1024)},)),
    "SVG": Cell("from IPython.display import SVG; SVG('<svg/>')", results=({"svg": "<svg/>"},)),
    "cyclic": Cell("a = []; a.append(a); a", results=(text("[[...]]"),)),
    "magic": Cell("%pwd", results=(text("'/work'"),)),
    "unicode": Cell("'ä€😀'", results=(text("'ä€😀'"),)),
    "chained": Cell("raise ValueError('v') from KeyError('k')", exception="ValueError", exit_code=1),
}  # fmt: skip


#: The same of other languages: executed in order in one context of each.
OTHERS = {
    "bash": (
        Cell("x=42"),
        Cell("echo $((x * 2))", "84\n"),
        Cell("f() { echo in f; }; cd /tmp"),
        Cell("f; pwd", "in f\n/tmp\n"),
        Cell('read line; echo "got $line"', "got a line\n", stdin="a line\n"),
        Cell("false", exit_code=1),
        Cell("exit 3", exit_code=3),
        Cell("echo $x; f", "42\nin f\n"),
    ),
    "node": (
        Cell("const x = 42"),
        Cell("console.log(x * 2)", "84\n"),
        Cell("const x = 1; x + 1", results=(text("2"),)),
        Cell("await Promise.resolve([1])", results=({"text": "[ 1 ]", "json": [1]},)),
        Cell("throw new TypeError('t')", exception="TypeError", exit_code=1),
        Cell("require('fs').readFileSync(0, 'utf8')", results=(text("'in'"),), stdin="in"),
        Cell("display.html('<b>h</b>')", results=({"html": "<b>h</b>"},)),
        Cell(
            "display('a', { id: 'i' }); display.clear({ wait: true }); display.update('i', 'b'); undefined",
            results=(
                {"text": "'a'", "display_id": "i", "update": False},
                {"text": "'b'", "display_id": "i", "update": True},
            ),
        ),
    ),
    "typescript": (
        Cell("const x: number = 42"),
        Cell("console.log(x * 2)", "84\n"),
        Cell("enum E { A, B }\nE.B", results=(text("1"),)),
        Cell(
            "display('a', { id: 'i' }); display.update('i', 'b'); undefined",
            results=(
                {"text": "'a'", "display_id": "i", "update": False},
                {"text": "'b'", "display_id": "i", "update": True},
            ),
        ),
        Cell("throw new TypeError('t')", exception="TypeError", exit_code=1),
    ),
    "ruby": (
        Cell("x = 42", results=(text("42"),)),
        Cell("puts x * 2", "84\n"),
        Cell("[1, nil]", results=({"text": "[1, nil]", "json": [1, None]},)),
        Cell("gets", results=(text('"in"'),), stdin="in"),
        Cell("raise ArgumentError, 'a'", exception="ArgumentError", exit_code=1),
        Cell(
            "Runyard.display('a', id: 'i'); Runyard.display('b', id: 'i', update: true); nil",
            results=(
                {"text": '"a"', "display_id": "i", "update": False},
                {"text": '"b"', "display_id": "i", "update": True},
            ),
        ),
        Cell("exit 4", exit_code=4),
        Cell("x", results=(text("42"),)),
    ),
}


@pytest.fixture(scope="module")
def make(service):
    """Makes sessions, which end with the module."""
    made = []

    def create(**fields):
        reply = service.post("/v1/sessions", json={"language": "python", **fields})
        assert reply.status == 201, reply.body
        made.append(f"/v1/sessions/{reply.body['id']}")
        return made[-1]

    yield create
    for path in made:
        service.request("DELETE", path)


@pytest.fixture(scope="module")
def session(make):
    return make()


def run(service, path, code, **fields):
    reply = service.post(f"{path}/runs", json={"code": code, **fields})
    assert reply.status == 200, reply.body
    return reply.body


def shows(result, wanted):
    return all(name in result and (value is ... or value == result[name]) for name, value in wanted.items())


@pytest.mark.parametrize("name", PYTHON)
def test_a_python_cell(service, session, name):
    cell = PYTHON[name]
    done = run(service, session, cell.code, stdin=cell.stdin, env=dict(cell.env))
    raised = done["exception"] and done["exception"]["name"]
    assert (cell.stdout, raised, done["exit_code"]) == (done["stdout"], cell.exception, cell.exit_code), done
    assert len(done["results"]) == len(cell.results), done["results"]
    for result, wanted in zip(done["results"], cell.results, strict=True):
        assert shows(result, wanted), result
    assert (done["state"], done["results_dropped"], done["session_id"]) == ("kept", 0, session.rpartition("/")[2])


@pytest.mark.parametrize("language", OTHERS)
def test_the_cells_of_another_language(service, make, language):
    path = make(language=language)
    assert service.post(f"{path}/contexts", json={"name": "c"}).status == 201
    for cell in OTHERS[language]:
        done = run(service, path, cell.code, stdin=cell.stdin, context="c")
        raised = done["exception"] and done["exception"]["name"]
        assert (done["stdout"], raised, done["exit_code"]) == (cell.stdout, cell.exception, cell.exit_code), done
        assert len(done["results"]) == len(cell.results), done["results"]
        for result, wanted in zip(done["results"], cell.results, strict=True):
            assert shows(result, wanted), result


def test_bash_contexts_are_in_every_session(service, session):
    assert service.post(f"{session}/contexts", json={"name": "sh", "language": "bash"}).status == 201
    run(service, session, "x=from_bash", context="sh")
    assert run(service, session, "echo $x", context="sh")["stdout"] == "from_bash\n"


def test_a_session_keeps_variables_where_its_language_does(service, session):
    assert service.get(session).body["keeps"] == "variables"
    known = {one["id"]: one for one in service.get("/v1/languages").body["data"]}
    assert (known["python"]["keeps"], known["python"]["results"]) == ("variables", True)
    assert "python" in known["python"]["kernels"]


def test_a_traceback_has_the_lines_of_cells(service, session):
    run(service, session, "def inner(a):\n    return json.loads(a)\nimport json")
    raised = run(service, session, "inner('{')")["exception"]
    assert raised["name"] == "JSONDecodeError"
    shown = "\n".join(raised["traceback"])
    assert "return json.loads(a)" in shown
    assert "inner('{')" in shown
    assert "decoder.py" not in shown
    assert "\x1b" not in shown


def test_hints_come_of_the_exception_of_a_cell(service, session):
    hints = run(service, session, "import nothing_like_it")["hints"]
    assert [hint["code"] for hint in hints] == ["module_not_found"]
    hints = run(service, session, "input()")["hints"]
    assert [hint["code"] for hint in hints] == ["input_exhausted"]


def test_cells_are_counted(service, make):
    path = make()
    assert [run(service, path, "1")["execution_count"] for _ in range(3)] == [1, 2, 3]


def test_a_stream_has_displays_in_order_with_output(service, session):
    code = "from IPython.display import display\nprint('a')\ndisplay(1)\nprint('b')\ndisplay(2)\nprint('c')\n1/0"
    with service.events(f"{session}/runs", json={"code": code, "stream": True}) as stream:
        events = [event for _, event in stream]
    seen = [
        (event["event"], event["data"] if event["event"] == "stdout" else event["data"].get("text"))
        for event in events
        if event["event"] in ("stdout", "display", "exception")
    ]
    assert seen == [
        ("stdout", "a\n"), ("display", "1"), ("stdout", "b\n"), ("display", "2"), ("stdout", "c\n"), ("exception", None),
    ]  # fmt: skip
    again = service.request("GET", f"/v1/runs/{events[-1]['data']['id']}/events").raw.decode()
    replayed = [json.loads(line) for line in again.splitlines()]
    assert [event["data"]["text"] for event in replayed if event["event"] == "display"] == ["1", "2"]


def test_contexts_have_variables_of_their_own_and_run_side_by_side(service, session):
    made = service.post(f"{session}/contexts", json={"name": "other", "env": {"OF": "other"}})
    assert made.status == 201, made.body
    assert run(service, session, "import os; where = os.environ['OF']; where", context="other")["results"][0][
        "text"
    ]
    assert run(service, session, "'where' in globals()")["results"][0]["text"] == "False"
    waiting = threading.Thread(target=run, args=(service, session, "import time; time.sleep(1)"))
    waiting.start()
    began = time.monotonic()
    assert run(service, session, "where", context=made.body["id"])["results"][0]["text"] == "'other'"
    assert time.monotonic() - began < 0.9
    waiting.join()
    listed = service.get(f"{session}/contexts").body["data"]
    assert "other" in [one["name"] for one in listed]
    assert service.post(f"{session}/contexts", json={"name": "other"}).body["error"]["code"] == "name_in_use"
    assert service.request("DELETE", f"{session}/contexts/other").body["deleted"] is True
    gone = service.post(f"{session}/runs", json={"code": "1", "context": "other"})
    assert (gone.status, gone.body["error"]["code"]) == (404, "context_not_found")


def test_a_run_that_is_late_is_interrupted_and_keeps_its_variables(service, session):
    run(service, session, "kept = 1")
    late = run(service, session, "while True: pass", limits={"timeout_ms": 300})
    assert (late["status"], late["timed_out"], late["state"]) == ("timeout", True, "kept")
    assert late["exception"]["name"] == "KeyboardInterrupt"
    assert run(service, session, "kept")["results"][0]["text"] == "1"


def test_a_run_that_resists_loses_its_kernel(service, make):
    path = make()
    run(service, path, "kept = 1")
    code = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"
    late = run(service, path, code, limits={"timeout_ms": 300})
    assert (late["status"], late["state"]) == ("timeout", "lost")
    assert run(service, path, "'kept' in globals()")["results"][0]["text"] == "False"


def test_interrupt_and_restart(service, make):
    path = make()
    run(service, path, "kept = 1")
    context = service.get(f"{path}/contexts").body["data"][0]["id"]
    found = []
    sleeper = threading.Thread(target=lambda: found.append(run(service, path, "import time; time.sleep(30)")))
    sleeper.start()
    time.sleep(0.5)
    assert service.post(f"{path}/contexts/{context}/interrupt").status == 200
    sleeper.join(10)
    assert (found[0]["exception"]["name"], found[0]["state"]) == ("KeyboardInterrupt", "kept")
    assert run(service, path, "kept")["results"][0]["text"] == "1"
    assert service.post(f"{path}/contexts/{context}/restart").status == 200
    assert run(service, path, "'kept' in globals()")["results"][0]["text"] == "False"


@pytest.mark.parametrize(
    ("code", "exit_code", "signal"),
    [("import os; os._exit(5)", 5, None), ("import os; os.kill(os.getpid(), 9)", None, "SIGKILL")],
)
def test_a_kernel_that_ends_is_replaced(service, make, code, exit_code, signal):
    path = make()
    ended = run(service, path, code)
    assert (ended["exit_code"], ended["signal"], ended["state"]) == (exit_code, signal, "lost")
    assert run(service, path, "1 + 1")["results"][0]["text"] == "2"


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "a = bytearray(400 << 20)"),
        ("node", "const a = []; while (true) a.push(Buffer.alloc(1 << 20, 1))"),
        ("node", "const a = []; while (true) a.push({ b: [a.length] })"),
        ("typescript", "const a: Buffer[] = []; while (true) a.push(Buffer.alloc(1 << 20, 1))"),
        ("ruby", "a = 'x' * (400 << 20)"),
        ("ruby", "a = []; loop { a << 'x' * 1000 }"),
    ],
    ids=["python", "node-buffers", "node-objects", "typescript", "ruby-text", "ruby-objects"],
)
def test_a_kernel_that_is_out_of_memory_is_replaced(service, make, language, code):
    path = make(language=language, limits={"memory_mb": 256})
    ended = run(service, path, code)
    assert (ended["status"], ended["oom_killed"], ended["state"]) == ("oom", True, "lost"), ended
    assert (ended["exit_code"], ended["signal"]) == (None, "SIGKILL")
    assert [hint["code"] for hint in ended["hints"]] == ["out_of_memory"]
    assert run(service, path, "1 + 1")["results"][0]["text"] == "2"


def test_output_between_cells_is_of_no_run(service, make):
    path = make()
    code = "import threading, time\ndef late(): time.sleep(0.2); print('between')\nthreading.Thread(target=late).start()"
    assert run(service, path, code)["stdout"] == ""
    time.sleep(0.6)
    assert run(service, path, "print('own')")["stdout"] == "own\n"


def test_a_stream_has_clears_in_order_with_displays(service, session):
    code = "from IPython.display import clear_output\ndisplay(1); clear_output(); print('a'); clear_output(wait=True); display(2)"
    with service.events(f"{session}/runs", json={"code": code, "stream": True}) as stream:
        events = [event for _, event in stream]
    seen = [(one["event"], one["data"]) for one in events if one["event"] in ("stdout", "display", "clear")]
    assert [name for name, _ in seen] == ["display", "clear", "stdout", "clear", "display"]
    assert [data for name, data in seen if name == "clear"] == [{"wait": False}, {"wait": True}]
    again = service.request("GET", f"/v1/runs/{events[-1]['data']['id']}/events").raw.decode()
    replayed = [json.loads(line)["event"] for line in again.splitlines()]
    assert [name for name in replayed if name in ("display", "clear")] == ["display", "clear", "clear", "display"]


def test_artifacts_are_the_files_that_a_cell_has_changed(service, make):
    path = make()
    first = run(service, path, "open('outputs/a.txt', 'w').write('a');")
    assert [one["path"] for one in first["artifacts"]] == ["a.txt"]
    assert run(service, path, "1")["artifacts"] == []
    second = run(service, path, "open('outputs/b.txt', 'w').write('b');")
    assert [one["path"] for one in second["artifacts"]] == ["b.txt"]
    service.request("PUT", f"{path}/files?path=outputs/c.txt", b"c")
    assert run(service, path, "open('outputs/a.txt', 'a').write('a');")["artifacts"][0]["path"] == "a.txt"


def test_results_are_bounded_and_the_rest_is_counted(service, session):
    many = run(service, session, "for i in range(150): display(i)")
    assert (len(many["results"]), many["results_dropped"]) == (100, 50)
    large = run(
        service, session, "from IPython.display import HTML\nfor _ in range(3): display(HTML('x' * 4_000_000))"
    )
    assert (len(large["results"]), large["results_dropped"]) == (2, 1)
    kept = service.get(f"/v1/runs/{large['id']}").body
    assert [len(one["html"]) for one in kept["results"]] == [4_000_000] * 2


def test_completion_and_inspection(service, session):
    context = service.get(f"{session}/contexts").body["data"][0]["id"]
    run(service, session, "a_long_name = 1")
    found = service.post(f"{session}/contexts/{context}/complete", json={"code": "a_lon", "cursor": 5}).body
    assert (found["matches"], found["start"], found["end"]) == (["a_long_name"], 0, 5)
    told = service.post(f"{session}/contexts/{context}/inspect", json={"code": "len", "cursor": 3}).body
    assert told["found"]
    assert "number of items" in told["text"]


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("/runs", {"code": "1", "context": "no such"}, "invalid_value", "context"),
        ("/runs", {"code": "1", "context": 5}, "invalid_type", "context"),
        ("/runs", {"code": "1", "language": "bash"}, "invalid_value", "language"),
        ("/contexts", {"language": "rust"}, "not_supported", "language"),
        ("/contexts", {"name": "a b"}, "invalid_value", "name"),
        ("/contexts", {"cwd": "a\0b"}, "invalid_value", "cwd"),
        ("/contexts", {"env": {"1": "a"}}, "invalid_value", "env"),
        ("/contexts", {"other": 1}, "unknown_field", "other"),
    ],
)
def test_bad_input_is_refused(service, session, path, body, code, param):
    reply = service.post(session + path, json=body)
    assert (reply.status, reply.body["error"]["code"], reply.body["error"]["param"]) == (400, code, param), (
        reply.body
    )


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"code": "x", "cursor": -1}, "invalid_value", "cursor"),
        ({"code": "x", "cursor": "1"}, "invalid_type", "cursor"),
        ({"cursor": 1}, "missing_field", "code"),
        ({"code": "x", "line": 1}, "unknown_field", "line"),
    ],
)
@pytest.mark.parametrize("call", ["complete", "inspect"])
def test_a_cursor_that_is_none_is_refused(service, session, call, body, code, param):
    run(service, session, "1")
    context = service.get(f"{session}/contexts").body["data"][0]["id"]
    reply = service.post(f"{session}/contexts/{context}/{call}", json=body)
    assert (reply.status, reply.body["error"]["code"], reply.body["error"]["param"]) == (400, code, param), (
        reply.body
    )


def test_a_session_has_at_most_16_contexts(service, make):
    path = make()
    for _ in range(16):
        assert service.post(f"{path}/contexts", json={}).status == 201
    reply = service.post(f"{path}/contexts", json={})
    assert (reply.status, reply.body["error"]["code"]) == (409, "too_many_contexts")
    reply = service.post(f"{path}/runs", json={"code": "1"})
    assert (reply.status, reply.body["error"]["code"]) == (409, "too_many_contexts")


def test_entrypoints_are_processes_beside_the_contexts(service, session):
    files = [{"path": "m.py", "content": "print('x' in globals())"}]
    done = service.post(f"{session}/runs", json={"entrypoint": "m.py", "files": files}).body
    assert (done["stdout"], done["context"], done["state"]) == ("False\n", None, None)


@pytest.mark.parametrize(
    "fields", [{"isolation": "container"}, {"env": {"PYTHONHASHSEED": "1"}}, {"env": {"TZ": "UTC"}}]
)
def test_a_kernel_that_cannot_be_forked_is_executed(service, make, fields):
    path = make(**fields)
    assert run(service, path, "x = 3; x")["results"][0]["text"] == "3"
    assert run(service, path, "x + 1")["results"][0]["text"] == "4"


def test_a_frozen_session_keeps_its_variables(service, make):
    path = make(freeze_after_s=1)
    run(service, path, "x = 5")
    deadline = time.monotonic() + 15
    while service.get(path).body["status"] != "frozen" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert service.get(path).body["status"] == "frozen"
    assert run(service, path, "x")["results"][0]["text"] == "5"


def test_a_kernel_that_is_started_ahead_is_no_context_and_no_process(service, make):
    path = make()
    time.sleep(0.5)
    facts = service.get(path).body
    assert (facts["status"], facts["runs"], facts["usage"]["processes"]) == ("ready", 0, 0)
    assert service.get(f"{path}/contexts").body["data"] == []
    assert service.get(f"{path}/processes").body["data"] == []
    before = time.time()
    done = run(service, path, "x = 5; x")
    assert (done["results"][0]["text"], done["state"], done["usage"]["shared"]) == ("5", "kept", False)
    (context,) = service.get(f"{path}/contexts").body["data"]
    assert datetime.fromisoformat(context["created_at"]).timestamp() >= before - 1
    assert service.get(path).body["usage"]["processes"] == 1


def test_a_kernel_that_was_killed_before_its_first_run_is_started_again(service, make):
    path = make()
    time.sleep(0.5)
    code = "kill -9 -1; true"
    service.post(f"{path}/processes", json={"command": code, "wait": True})
    done = run(service, path, "x = 5; x")
    assert (done["results"][0]["text"], done["state"], done["status"]) == ("5", "kept", "succeeded")


def test_64_processes_fit_beside_a_kernel_that_nobody_uses(service, make):
    path = make(limits={"pids": 200})
    time.sleep(0.3)
    for _ in range(64):
        assert service.post(f"{path}/processes", json={"argv": ["sleep", "60"]}).status == 201
    assert service.post(f"{path}/processes", json={"argv": ["sleep", "60"]}).status == 409
