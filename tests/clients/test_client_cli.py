"""`runyard` as it is typed, on the real service."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time

import pytest
from runyard import __version__

from tests.clients.conftest import COMMAND, SECONDS, SOURCES

# -- what runs -------------------------------------------------------------------------------------


def test_code_from_the_command_line(runyard):
    assert runyard("exec", "--runtime", "python", "print(1+1)") == (0, b"2\n", b"")


def test_a_file_with_arguments_of_its_own(runyard, tmp_path):
    (tmp_path / "script.py").write_text("import sys; print(__file__, sys.argv[1:])")
    code, out, _ = runyard("exec", "./script.py", "--timeout", "20s", "--", "--fast", "in.csv")
    assert (code, out) == (0, b"/work/script.py ['--fast', 'in.csv']\n")


def test_a_folder_with_an_entry(runyard, tmp_path):
    for name, text in {
        "src/main.py": "from lib import helper; print(helper.word, open('data.bin', 'rb').read())",
        "src/lib/helper.py": "word = 'helped'",
        "src/.git/config": "hidden",
        "src/__pycache__/x.pyc": "cached",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "src/data.bin").write_bytes(b"\xff\x00")
    (tmp_path / "src/link").symlink_to("/etc/passwd")
    code, out, err = runyard("exec", "--entry", "main.py", "./src/")
    assert (code, out) == (0, b"helped b'\\xff\\x00'\n"), err
    code, _, err = runyard("exec", "--entry", "none.py", "./src/")
    assert (code, b"none.py" in err) == (2, True)


def test_stdin_is_the_program_or_its_input(runyard):
    assert runyard("exec", "-r", "bash", "-", stdin=b"echo from stdin")[:2] == (0, b"from stdin\n")
    assert runyard("exec", "-r", "bash", "cat", "--stdin", "-", stdin="über\n".encode())[:2] == (
        0,
        "über\n".encode(),
    )
    code, _, err = runyard("exec", "-r", "bash", "cat", "--stdin", "-", stdin=b"\xff")
    assert (code, b"UTF-8" in err) == (2, True)


def test_streams_and_exit_code_are_the_programs(runyard):
    code, out, err = runyard("exec", "-r", "bash", "printf 'out\\x1b[31m'; echo err >&2; exit 7")
    assert (code, out, err) == (7, b"out\x1b[31m", b"err\n")


def test_output_is_there_before_the_program_ends(environment):
    """Its first line arrives while it still runs: it is then told, by cancelling it, not to go on."""
    running = subprocess.Popen(
        [*COMMAND, "exec", "-r", "python", "import time\nprint('first')\ntime.sleep(50)"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert select.select([running.stdout], [], [], SECONDS)[0]
        assert running.stdout.readline() == b"first\n"
        assert running.poll() is None
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=SECONDS)
        assert running.returncode == 128 + signal.SIGTERM
        assert b"is cancelled" in err
    finally:
        running.kill()
        running.wait()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["sleep 50", "--timeout", "300ms"], 124, b"timed out: the limits were 300 ms"),
        (["kill -TERM $$"], 128 + 15, b"ended by SIGTERM"),
        (["x=$(head -c 900m /dev/zero | tr '\\0' x)", "-m", "32m"], 137, b"memory"),
        (["exit 124"], 124, b""),
    ],
)
def test_what_ended_a_program_is_an_exit_code_and_a_sentence(runyard, arguments, code, said):
    found, _, err = runyard("exec", "-r", "bash", *arguments)
    assert (found, said in err) == (code, True), err


def test_limits_variables_and_files_reach_the_program(runyard, tmp_path, client):
    (tmp_path / "in.csv").write_bytes(b"a,b\n")
    before = {file.id for file in client.files.list(limit=100).data}
    code, out, err = runyard(
        "exec", "-r", "bash", "cat inputs/in.csv inputs/d/x.csv; echo $MODE $FROM; ulimit -v >/dev/null",
        "--file", "in.csv", "--file", "in.csv=d/x.csv", "--env", "MODE=a=b", "--env", "FROM",
        "--memory", "64m", "--limit", "pids=20", "--cpus", "0.5",
        FROM="here",
    )  # fmt: skip
    assert (code, out) == (0, b"a,b\na,b\na=b here\n"), err
    run = client.runs.list(limit=1).data[0]
    assert (run.limits["memory_mb"], run.limits["pids"], run.limits["cpus"]) == (64, 20, 0.5)
    assert {file.id for file in client.files.list(limit=100).data} <= before  # its uploads are forgotten again


def test_json_is_the_run_and_nothing_else(runyard):
    code, out, err = runyard("exec", "-r", "bash", "--json", "echo out; echo err >&2; exit 3")
    run = json.loads(out)
    assert (code, err, run["stdout"], run["stderr"], run["exit_code"]) == (3, b"", "out\n", "err\n", 3)


def test_a_reader_that_goes_away_ends_the_run(environment, client):
    piped = "exec -r bash 'while :; do echo y; sleep 0.02; done'"
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m runyard {piped} | head -n 2; echo ${{PIPESTATUS[0]}}"],
        env=environment,
        capture_output=True,
        timeout=SECONDS,
        check=True,
    )
    assert done.stdout == b"y\ny\n141\n"
    assert b"Traceback" not in done.stderr
    assert client.runs.list(limit=1, language="bash").data[0].status == "cancelled"


# -- Ctrl-C, and a wire that breaks ----------------------------------------------------------------


def test_ctrl_c_in_a_terminal_cancels_the_run(environment, client):
    main, terminal = pty.openpty()
    running = subprocess.Popen(
        [*COMMAND, "exec", "-r", "bash", "echo up; sleep 50"],
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  # no thread runs here
    )
    os.close(terminal)
    try:
        seen = read_until(main, rb"up\r\n")
        os.write(main, b"\x03")
        seen += read_until(main, rb"(run_\w+) is cancelled")
        assert running.wait(SECONDS) == 130
        run_id = re.search(rb"(run_\w+) is cancelled", seen)[1].decode()
        assert client.runs.get(run_id).status == "cancelled"
    finally:
        running.kill()
        running.wait()
        os.close(main)


def read_until(descriptor, pattern):
    seen, deadline = b"", time.monotonic() + SECONDS
    while not re.search(pattern, seen):
        assert select.select([descriptor], [], [], max(0, deadline - time.monotonic()))[0], seen
        seen += os.read(descriptor, 4096)
    return seen


def test_a_broken_wire_is_said_and_the_output_goes_on(runyard, cut):
    cut.cut_at = [b"line 1"]
    code, out, err = runyard(
        "exec", "-r", "bash", "for i in 0 1 2 3; do echo line $i; sleep 0.3; done", RUNYARD_URL=cut.url
    )
    assert (code, out) == (0, b"line 0\nline 1\nline 2\nline 3\n")
    assert b"was lost" in err
    assert b"resuming in" in err


# -- artifacts -------------------------------------------------------------------------------------


def test_what_it_leaves_is_saved(runyard, tmp_path):
    program = "mkdir -p outputs/a; printf '\\377\\000' > outputs/a/b.bin; ln -s /etc/passwd outputs/link; echo x > outputs/c"
    code, _, err = runyard("exec", "-r", "bash", program, "--out", "got")
    assert (code, (tmp_path / "got/a/b.bin").read_bytes(), (tmp_path / "got/c").read_bytes()) == (
        0,
        b"\xff\x00",
        b"x\n",
    )
    assert b"saved got/a/b.bin (2 bytes)" in err
    assert b"link (symlink)" in err
    code, _, err = runyard("exec", "-r", "bash", "echo x > outputs/c")
    assert b"save them with --out DIR" in err


def test_hostile_names_escape_neither_to_the_disk_nor_to_the_terminal(runyard, tmp_path):
    """The program names its files to hurt whoever saves them; what the service lets through is made harmless."""
    program = (
        "import os\n"
        "os.chdir('outputs')\n"
        "for name in ['\\x1b]0;owned\\x07.txt', 'a\\u202egpj.exe', '-rf', '..\\\\up.txt', 'C:x', 'link/in', 'plain']:\n"
        "    os.makedirs(os.path.dirname(name) or '.', exist_ok=True)\n"
        "    open(name, 'w').write(name)\n"
    )
    out, secret = tmp_path / "got", tmp_path / "secret"
    out.mkdir()
    secret.mkdir()
    (secret / "kept").write_text("kept")
    (out / "link").symlink_to(secret)
    (out / "plain").symlink_to(secret / "kept")
    code, _, err = runyard("exec", "-r", "python", program, "--out", "got")
    assert code == 125  # two of them could not be saved, and that is said
    assert err.count(b"not saved") == 2
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", err)
    assert "\u202e".encode() not in err
    assert (os.listdir(secret), (secret / "kept").read_text()) == (["kept"], "kept")
    assert sorted(os.listdir(tmp_path)) == ["got", "secret"]
    saved = {path.name for path in out.rglob("*") if path.is_file() and not path.is_symlink()}
    assert {"-rf", "up.txt", "C_x"} <= saved
    assert all(name.isprintable() for name in saved)


# -- the other commands ----------------------------------------------------------------------------


def test_languages_and_doctor(here, service):
    code, out, _ = here("languages")
    assert (code, b"python" in out, b"bash" in out) == (0, True, True)
    assert {one["id"] for one in json.loads(here("languages", "--json")[1])} >= {"python", "bash"}
    code, out, _ = here("doctor")
    assert (code, b"FAIL" in out, service.url.encode() in out) == (0, False, True)
    assert service.token.encode() not in out
    code, out, _ = here("doctor", RUNYARD_API_KEY="wrong")
    assert (code, b"FAIL" in out) == (1, True)
    code, out, _ = here("doctor", RUNYARD_URL="http://127.0.0.1:9")
    assert (code, b"127.0.0.1:9" in out) == (1, True)


def test_runs_are_kept_track_of(here, client):
    code, out, _ = here("exec", "-r", "bash", "--detach", "echo hi; echo x > outputs/x; exit 4")
    run_id = out.decode().strip()
    assert (code, run_id.startswith("run_")) == (0, True)
    assert here("runs", "follow", run_id)[:2] == (4, b"hi\n")
    assert b"failed" in here("runs", "show", run_id)[1]
    assert json.loads(here("runs", "show", "--request", run_id)[1])["request"]["code"].startswith("echo hi")
    assert run_id.encode() in here("runs", "list")[1]
    assert run_id in [run["id"] for run in json.loads(here("runs", "list", "--json", "--status", "failed")[1])]
    code, _, err = here("runs", "save", run_id, "got")
    assert (code, b"saved got/x" in err) == (0, True)
    live = client.runs.start("bash", "sleep 50").id
    assert here("runs", "cancel", live)[:2] == (0, f"{live}  cancelled\n".encode())
    assert here("runs", "delete", live)[0] == 0
    code, _, err = here("runs", "show", live)
    assert (code, b"run_not_found" in err) == (125, True)


def test_files_go_there_and_back(here, tmp_path):
    (tmp_path / "data.bin").write_bytes(b"\x00\xff" * 100)
    code, out, _ = here("files", "upload", "data.bin")
    file_id = out.decode().strip()
    assert (code, file_id.startswith("file_")) == (0, True)
    assert file_id.encode() in here("files", "list")[1]
    assert json.loads(here("files", "show", file_id)[1])["size"] == 200
    assert here("files", "download", "--stdout", file_id)[1] == b"\x00\xff" * 100
    assert here("files", "download", file_id, "-o", "there")[0] == 0
    assert (tmp_path / "there/data.bin").read_bytes() == b"\x00\xff" * 100
    assert here("files", "delete", file_id)[0] == 0
    code, _, err = here("files", "show", file_id)
    assert (code, b"file_not_found" in err) == (125, True)


def test_an_upload_shows_its_progress_on_a_terminal(environment, tmp_path, client):
    (tmp_path / "data.bin").write_bytes(b"x" * 300_000)
    main, terminal = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "files", "upload", str(tmp_path / "data.bin")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=terminal,
        timeout=SECONDS,
        check=True,
    )
    os.close(terminal)
    try:
        assert b"100%  300000 of 300000 bytes" in read_until(main, rb"300000 of 300000")
    finally:
        os.close(main)
    client.files.delete(done.stdout.decode().strip())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete(runyard, shell):
    code, out, _ = runyard("completion", shell)
    assert (code, b"_RUNYARD_COMPLETE" in out) == (0, True)
    words = {"COMP_WORDS": "runyard exec --runtime py", "COMP_CWORD": "3" if shell != "fish" else "py"}
    assert b"python" in runyard(_RUNYARD_COMPLETE=f"{shell}_complete", **words)[1]


# -- wrong use -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["exec"], 2, "SOURCE"),
        (["exec", "print(1)"], 2, "--runtime"),
        (["exec", "./missing.py"], 125, "missing.py"),
        (["exec", "."], 2, "--entry"),
        (["exec", "-r", "bash", "true", "--timeout", "soon"], 2, "500ms"),
        (["exec", "-r", "bash", "true", "--memory", "0.0001"], 2, "at least 1"),
        (["exec", "-r", "bash", "true", "--env", "NOT_SET_ANYWHERE"], 2, "NOT_SET_ANYWHERE"),
        (["exec", "-r", "bash", "true", "--file", "none.csv"], 2, "none.csv"),
        (["exec", "-r", "bash", "true", "--limit", "pids=many"], 2, "pids"),
        (["exec", "-r", "bash", "true", "--limit", "nonsense=1"], 125, "limits.nonsense"),
        (["exec", "-r", "bash", "true", "--timeout", "999s"], 125, "--timeout"),
        (
            ["exec", "-r", "python", "1", "--package", "x", "-p", "-r y"],
            125,
            "option --package, code invalid_package",
        ),
        (["run", "-r", "python", "1", "-p", "humanize"], 125, "PACKAGES is off"),
        (["sessions", "create", "bash", "--package", "x"], 125, "python, node, typescript"),
        (["exec", "-r", "cobol", "true"], 125, "runyard languages"),
        (["exec", "-r", "bash", "-d", "--out", "x", "true"], 2, "--detach"),
        (["--url", "nonsense", "languages"], 125, "http"),
        (["--api-key", "wrong", "runs", "list"], 125, "RUNYARD_API_KEY"),
        (["--url", "http://127.0.0.1:9", "languages"], 125, "runyard doctor"),
    ],
)
def test_a_wrong_use_is_a_sentence_that_says_what_to_do(here, arguments, code, said):
    found, out, err = here(*arguments)
    assert (found, out, said in err.decode()) == (code, b"", True), err


def test_a_config_file_says_where_the_service_is(here, service, tmp_path):
    folder = tmp_path / "config/runyard"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f'url = "{service.url}"\napi_key = "{service.token}"\n')
    assert here(
        "exec",
        "-r",
        "bash",
        "echo hi",
        XDG_CONFIG_HOME=str(tmp_path / "config"),
        RUNYARD_URL="",
        RUNYARD_API_KEY="",
    )[:2] == (0, b"hi\n")
    (folder / "config.toml").write_text("nonsense = 1")
    code, _, err = here("languages")
    assert (code, b"nonsense" in err) == (125, True)


def test_the_wheel_holds_all_of_it(tmp_path):
    """Built as anybody would, installed away from the sources, run from there."""
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index",
         f"--wheel-dir={tmp_path}", str(SOURCES.parent)],
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("runyard-*.whl")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--no-index",
            f"--target={tmp_path}/there",
            str(wheel),
        ],
        timeout=SECONDS,
        check=True,
    )
    assert (tmp_path / "there/runyard/py.typed").exists()
    done = subprocess.run(
        [sys.executable, str(tmp_path / "there/bin/runyard"), "--version"],
        env={"PYTHONPATH": f"{tmp_path}/there", "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    assert done.stdout == f"runyard, version {__version__}\n"


def test_a_key_is_made_used_rotated_and_deleted(here, client):
    code, out, err = here("keys", "create")
    text = out.decode().strip()
    assert (code, text.startswith("ry_"), b"not shown again" in err) == (0, True, True), err
    own = {"RUNYARD_API_KEY": text}
    assert here("exec", "-r", "bash", "echo mine", **own)[:2] == (0, b"mine\n")
    assert json.loads(here("keys", "show", **own)[1])["plan"] == "free"
    assert "by_language" in json.loads(
        here("usage", "--json", "--from", time.strftime("%Y-%m-%d", time.gmtime()), **own)[1]
    )
    code, out, err = here("keys", "rotate", **own)
    newer = {"RUNYARD_API_KEY": out.decode().strip()}
    assert (code, newer != own, b"valid until" in err) == (0, True, True), err
    assert here("keys", "delete", "--yes", **newer)[0] == 0
    code, _, err = here("runs", "list", **newer)
    assert (code, b"RUNYARD_API_KEY" in err) == (125, True)
