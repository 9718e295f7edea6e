"""`runyard repl`: typed at a terminal, and given on stdin."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.clients.conftest import COMMAND
from tests.clients.terminals import Terminal


def live(service):
    return [one["id"] for one in service.get("/v1/sessions?status=live&limit=100").body["data"]]


def test_cells_are_typed_completed_and_interrupted(environment, service, tmp_path):
    before = set(live(service))
    terminal = Terminal(environment | {"XDG_STATE_HOME": str(tmp_path)}, "repl")
    terminal.until(b">>> ")
    (session,) = set(live(service)) - before
    terminal.types(b"answer_of_all = 41\r")
    terminal.until(b">>> ")
    terminal.types(b"answer_of\t + 1\r")
    terminal.until(b"42\r\n")
    terminal.types(b"def f(a):\r")
    terminal.until(b"... ")
    terminal.types(b"    '''Adds.'''; return a + 1\r\r")
    terminal.until(b">>> ")
    terminal.types(b"?f\r")
    terminal.until(b"Adds.")
    terminal.types(b"import time; print('be' + 'gun', flush=True); time.sleep(60)\r")
    terminal.until(b"begun")
    time.sleep(0.3)
    terminal.types(b"\x03")
    terminal.until(b"KeyboardInterrupt")
    terminal.until(b">>> ")
    terminal.types(b"1 /")
    terminal.until(b"1 /")
    time.sleep(0.5)  # readline misses a signal that comes before it waits for the next key
    terminal.types(b"\x03")  # and the terminal drops what is typed behind it too soon
    terminal.until(b">>> ")
    terminal.types(b"f(answer_of_all)\r")
    terminal.until(b"42\r\n>>> ")
    terminal.types(b"\x04")
    assert terminal.ended() == 0
    assert session not in live(service)
    history = tmp_path / "runyard/repl_history"
    assert "answer_of_all = 41" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600


def test_cleared_output_is_erased_and_the_lines_above_are_left(environment, tmp_path):
    terminal = Terminal(environment | {"XDG_STATE_HOME": str(tmp_path)}, "repl")
    terminal.until(b">>> ")
    terminal.types(b"from IPython.display import clear_output\r")
    terminal.until(b">>> ")
    terminal.types(b"print('1' + '1'); display(22); clear_output(); display(33)\r")
    shown = terminal.until(b"33\r\n")
    assert shown.endswith(b"11\r\n22\r\n\r\x1b[2A\x1b[J"), shown
    terminal.until(b">>> ")
    terminal.types(b"display(44); clear_output(wait=True); display(55); clear_output(wait=True)\r")
    shown = terminal.until(b"55\r\n")
    assert shown.endswith(b"44\r\n\r\x1b[1A\x1b[J"), shown
    assert b"\x1b[J" not in terminal.until(b">>> ")
    terminal.types(b"\x04")
    assert terminal.ended() == 0


def test_a_named_session_is_left_and_found_again(runyard, service):
    name = f"repl-{time.monotonic_ns()}"
    assert runyard("repl", "--session", name, stdin=b"kept = 6\n")[0] == 0
    code, out, err = runyard("repl", "--session", name, stdin=b"kept * 7\n")
    assert (code, out) == (0, b"42\n"), err
    (session,) = service.get(f"/v1/sessions?name={name}").body["data"]
    assert session["status"] != "ended"
    service.request("DELETE", f"/v1/sessions/{session['id']}")


@pytest.mark.parametrize(
    ("runtime", "program", "out", "code"),
    [
        ("python", "def f(a):\n    return a\n\nprint(f(1))\n%pwd\nif True:\n    print(2)\n", "1\n'/work'\n2\n", 0),
        ("bash", "x=5\nfor i in 1 2; do\necho $i $x\ndone\nfalse\n", "1 5\n2 5\n", 1),
        ("node", "const f = (a) => {\n  return a + 1\n}\nf(1)\n", "2\n", 0),
        ("ruby", "def f\n  3\nend\nf\n[1].each do |x|\n  puts x\nend;\n", ":f\n3\n1\n[1]\n", 0),
    ],
)
def test_a_program_on_stdin_is_executed_cell_by_cell(runyard, service, runtime, program, out, code):
    if not any(one["id"] == runtime and one["ready"] for one in service.get("/v1/languages").body["data"]):
        pytest.skip(f"{runtime} is not among the languages of this service")
    found = runyard("repl", "--runtime", runtime, stdin=program.encode())
    assert (found[0], found[1].decode()) == (code, out), found[2]


def test_figures_are_saved_and_failures_explained(environment, tmp_path):
    program = b"import matplotlib.pyplot as plt; plt.plot([1]); plt.show()\nimport nunpy\n"
    argv = [*COMMAND, "repl", "--save", str(tmp_path / "figures")]
    done = subprocess.run(argv, input=program, env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    err = done.stderr
    assert (tmp_path / "figures/figure-1.png").read_bytes().startswith(b"\x89PNG")
    assert b"ModuleNotFoundError" in err
    assert b"numpy" in err


def test_an_interpreter_that_ends_is_replaced_and_said(runyard):
    code, out, err = runyard("repl", stdin=b"x = 1\nimport os; os._exit(3)\nprint('x' in globals())\n")
    assert (code, out) == (0, b"False\n")
    assert b"its variables are gone" in err


def test_a_language_without_contexts_is_refused(runyard):
    code, _, err = runyard("repl", "--runtime", "cobol", stdin=b"1\n")
    assert code == 125
    assert b"language" in err


def test_contexts_of_a_session_in_the_client(client):
    with client.sessions.create("python") as session:
        made = session.contexts.create(name="analysis", env={"A": "b"})
        assert session.run("import os; os.environ['A']", context=made.id).results[0].text == "'b'"
        assert [one.name for one in session.contexts.list()] == ["analysis"]
        assert "append" in [one.rpartition(".")[2] for one in session.contexts.complete(made, "[].app").matches]
        assert session.contexts.inspect("analysis", "len").found
        assert session.contexts.restart(made).id == made.id
        assert session.contexts.interrupt(made).name == "analysis"
        session.contexts.delete(made)
        assert session.contexts.list() == []


def test_results_of_a_single_use_run_in_the_client(client):
    run = client.runs.create("python", "6 * 7", results=True)
    assert (run.results[0].text, run.context) == ("42", None)
