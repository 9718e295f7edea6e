"""The two commands of the README, `make up` and `make down`, on a service of their own."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ops.down import left_over
from ops.state import StatePlace, processes, supervisor_pid
from tests.support.place import IMAGES, SHARED
from tests.support.workers import the_first_of

REPO = Path(__file__).resolve().parents[2]
STATE = Path(f"{SHARED}-make")
TOKEN = "make_789"
WARM_UP_S = 15
READY_S = 600


@pytest.fixture(scope="module")
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module", autouse=True)
def _nothing_left(port):
    if os.geteuid() != 0:
        pytest.fail("make up needs root")
    yield
    make(port, "down")


def make(port, *arguments, umask=0o022, **variables):
    """`make` as a caller with an awkward environment; images are shared with the other tests."""
    env = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL"}}
    env |= {
        "STATE_DIR": str(STATE),
        "IMAGES_DIR": str(IMAGES),
        "PORT": str(port),
        "API_KEYS": f"{TOKEN}:make:100:100",
        "PYTHONPATH": "/nonexistent",
        "PIP_TARGET": "/nonexistent",
        **variables,
    }
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=REPO,
        env=env,
        umask=umask,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )


def call(port, method, path, body=None, token=TOKEN):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def arguments():
    """What each process of the service was started as; those that end meanwhile are left out."""
    found = {}
    for pid in processes(StatePlace(STATE)):
        with contextlib.suppress(OSError):
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return found


def hello(port, token=TOKEN):
    body = {"language": "python", "code": "print(1+1)"}
    status, reply = call(port, "POST", "/v1/runs", body, token)
    return status, reply.get("stdout")


@pytest.mark.timeout(900)
def test_up_serves_a_run_and_down_leaves_nothing(port):
    done = make(port, "up", umask=0o077)
    assert done.returncode == 0, done.stdout
    assert f"http://127.0.0.1:{port}" in done.stdout
    assert "curl" in done.stdout
    assert TOKEN not in done.stdout
    assert hello(port) == (200, "2\n")
    assert hello(port, "dev_123")[0] == 401, "API_KEYS replaces the built-in token"

    started = time.monotonic()
    again = make(port, "up")
    assert again.returncode == 0
    assert "already running" in again.stdout
    assert time.monotonic() - started < WARM_UP_S

    down = make(port, "down")
    assert down.returncode == 0, down.stdout
    assert left_over(StatePlace(STATE)) == []
    with pytest.raises(ConnectionRefusedError):
        hello(port)
    assert make(port, "down").returncode == 0, "it may be said twice"
    assert make(port, "status").stdout.startswith("not running")


@pytest.mark.timeout(900)
def test_a_warm_start_is_quick_and_every_language_becomes_ready(port):
    started = time.monotonic()
    assert make(port, "up").returncode == 0
    assert time.monotonic() - started < WARM_UP_S
    deadline = time.monotonic() + READY_S
    known, ready = {path.parent.name for path in REPO.glob("runners/*/runner.toml")}, set()
    while ready != known and time.monotonic() < deadline:
        languages = call(port, "GET", "/v1/languages")[1]["data"]
        ready = {language["id"] for language in languages if language["ready"]}
        time.sleep(0.2)
    assert ready == known
    assert make(port, "status").stdout.count(": ready ") == len(languages)


@pytest.mark.timeout(300)
def test_those_who_start_it_at_once_start_it_once(port):
    assert make(port, "down").returncode == 0
    with ThreadPoolExecutor() as both:
        first, second = both.map(lambda _: make(port, "up"), range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stdout + second.stdout
    said = first.stdout + second.stdout
    assert said.count("waiting for another make up") == said.count("already running") == 1
    assert hello(port) == (200, "2\n")


@pytest.mark.timeout(300)
def test_other_settings_restart_the_service(port):
    assert make(port, "up").returncode == 0
    before = supervisor_pid(StatePlace(STATE))
    done = make(port, "up", MAX_RUNS="5")
    assert done.returncode == 0, done.stdout
    assert "code or settings have changed" in done.stdout
    assert supervisor_pid(StatePlace(STATE)) not in {None, before}
    assert hello(port) == (200, "2\n")


@pytest.mark.timeout(300)
def test_the_api_runs_unprivileged_from_a_copy_of_its_own(port):
    assert make(port, "up").returncode == 0
    found = arguments()
    apis = [pid for pid, argv in found.items() if b"gunicorn" in argv]
    assert len(apis) == 2  # gunicorn's own keeper and the one process that serves
    for pid in apis:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        assert {int(uid) for uid in status["Uid"].split()} == {0x7000_0000}
        assert {int(gid) for gid in status["Gid"].split()} == {0x7000_0000}
        assert status["Groups"].split() == []
        assert status["NoNewPrivs"].strip() == "1"
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[name], 16) == 0, name
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert str(REPO).encode() not in Path(f"/proc/{pid}/maps").read_bytes()
    worker = the_first_of(pid for pid, argv in found.items() if b"worker" in argv)
    assert TOKEN.encode() not in Path(f"/proc/{worker}/environ").read_bytes()


@pytest.mark.timeout(300)
def test_a_killed_worker_is_replaced_and_a_killed_supervisor_takes_everything_with_it(port):
    assert make(port, "up").returncode == 0
    place = StatePlace(STATE)
    worker = the_first_of(pid for pid, argv in arguments().items() if b"worker" in argv)
    os.kill(worker, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while hello(port) != (200, "2\n") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert hello(port) == (200, "2\n")

    os.kill(supervisor_pid(place), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while processes(place) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes(place) == []
    assert make(port, "up").returncode == 0, "the remains of the killed one are no obstacle"
    assert hello(port) == (200, "2\n")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"PORT": "abc"}, "PORT=abc"),
        ({"BIND": "0.0.0.0", "API_KEYS": ""}, "development token dev_123 is refused"),
        ({"API_KEYS": "s3cret_token:a:b:c"}, "API_KEYS: entry 1: rps must be a number"),
        ({"MAX_RUNS": "0", "QUEUE_MAX": "x"}, "QUEUE_MAX"),
        ({"WARM_POOL": "bogus"}, "WARM_POOL: 'bogus'"),
        ({"LANGUAGES": "cobol"}, "no runner for cobol"),
        ({"STORAGE_DIR": "relative"}, "STORAGE_DIR: relative must be an absolute path"),
        ({"STATE_DIR": "relative"}, "STATE_DIR: relative must be an absolute path"),
        ({"STATE_DIR": "/etc/passwd/state"}, "STATE_DIR: /etc/passwd is not a directory"),
    ],
)
@pytest.mark.timeout(300)
def test_what_cannot_start_says_why_in_a_sentence(port, variables, sentence):
    assert make(port, "down").returncode == 0
    done = make(port, "up", **variables)
    assert done.returncode != 0
    assert sentence in done.stdout
    assert "Traceback" not in done.stdout
    assert "s3cret_token" not in done.stdout
    assert left_over(StatePlace(STATE)) == []


def test_a_port_that_is_taken_is_named():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        make(taken, "down")
        done = make(taken, "up")
    assert done.returncode != 0
    assert f"PORT={taken}: [Errno 98]" in done.stdout


def test_a_caller_who_is_not_root_is_told_so():
    # The rights are given up after the import: the checkout may be closed to others.
    code = (
        f"import os, sys; sys.path.insert(0, {str(REPO)!r}); from ops.up import main; "
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(main())"
    )
    done = subprocess.run(["/usr/bin/python3", "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 1
    assert "must be started as root" in done.stderr


def test_doctor_shows_settings_and_requirements_but_no_secret(port):
    done = make(port, "doctor", SIGNING_KEY="sign_me_not", MAX_RUNS="7")
    assert done.returncode == 0, done.stdout
    assert TOKEN not in done.stdout
    assert "sign_me_not" not in done.stdout
    (runs,) = (line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["MAX_RUNS"])
    assert runs[1:3] == ["set", "7"]
    (port_line,) = (line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["QUEUE_MAX"])
    assert port_line[1] == "default"
    assert "MISSING" not in done.stdout


def confinement(text):
    """The rows of that part of the page, by layer."""
    rows = text.partition("Confinement\n")[2].partition("\n\n")[0].splitlines()[1:]
    return {row.split()[0]: " ".join(row.split()[1:]) for row in rows if row.split()}


def test_doctor_shows_each_layer_of_a_running_service(service):
    done = make(service.port, "doctor", STATE_DIR=str(service.state))
    rows = confinement(done.stdout)
    for layer in (
        "user_namespace",
        "capabilities",
        "no_new_privileges",
        "seccomp",
        "masked",
        "cgroup",
        "descriptors",
    ):
        assert rows[layer].startswith("required in force"), done.stdout
    assert rows["landlock"].startswith(("- reported", "not here without"))
    assert "apparmor" in rows
    assert "MISSING" not in done.stdout


def test_doctor_measures_by_itself_where_no_service_runs(port):
    """In a state directory of its own: the one of this module may have a service by now."""
    own = {"STATE_DIR": f"{STATE}-doctor"}
    done = make(port, "doctor", **own)
    rows = confinement(done.stdout)
    assert rows["seccomp"].startswith("required in force"), done.stdout
    assert done.returncode == 0
    relaxed = make(port, "doctor", DISABLE_SANDBOX_SECURITY="1", **own)
    assert "RELAXED" in confinement(relaxed.stdout)["seccomp"]
    assert "RELAXED" not in confinement(relaxed.stdout)["masked"]
    wrong = make(port, "doctor", SECCOMP_PROFILE="/nowhere.json", **own)
    assert wrong.returncode != 0
    assert "SECCOMP_PROFILE=/nowhere.json" in wrong.stdout


def test_doctor_fails_when_a_setting_is_wrong(port):
    done = make(port, "doctor", MAX_RUNS="none")
    assert done.returncode != 0
    assert "MAX_RUNS" in done.stdout


def test_images_that_are_up_to_date_are_not_built_again(port):
    done = make(port, "images", "LANG=bash", STATE_DIR=str(SHARED), IMAGES_DIR=str(IMAGES))
    assert done.returncode == 0, done.stdout
    assert "bash: up to date" in done.stdout
    assert "build.sh" not in done.stdout
