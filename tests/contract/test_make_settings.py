"""A service with a settings file of its own: which changes reach it, which are refused, and who finds it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from ops.down import left_over
from ops.record import read_record
from ops.state import StatePlace, processes, running_places, supervisor_pid
from tests.support.own_service import new_state
from tests.support.workers import the_first_of

REPO = Path(__file__).resolve().parents[2]
TOKEN, ADMIN_TOKEN = "file_t0ken_1", "an-admin-token-of-the-file"
UID_BASE = 0x7C00_0000
PLAN = "[free]\nrate_per_minute = 60\nburst = 5\n"


def make(*arguments, **variables):
    """`make` in a shell that sets nothing but these variables."""
    env = {"PATH": os.environ["PATH"], "HOME": "/root", **variables}
    argv = ["make", "--no-print-directory", *arguments]
    return subprocess.run(
        argv,
        cwd=REPO,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )


class Configured:
    """The service, its file, and its commands."""

    def __init__(self, images, state, port):
        self.state, self.port = state, port
        self.place = StatePlace(state)
        self.file = state / "runyard.yaml"
        self.lines = {
            "port": port,
            "uid_base": UID_BASE,
            "images_dir": str(images),
            "api_keys": f"[{TOKEN}:of-the-file:100:100]",
            "admin_token": ADMIN_TOKEN,
            "languages": "[python, bash]",
            "warm_pool": "[python=1, bash=1]",
            "max_runs": 9,
            "queue_max": 50,
            "drain_s": 1,
        }

    def write(self, **changes):
        """Write the file, with other or further lines."""
        text = "".join(f"{name}: {value}\n" for name, value in {**self.lines, **changes}.items())
        self.file.write_text(text)
        self.file.chmod(0o600)

    def make(self, *arguments, **variables):
        return make(*arguments, STATE_DIR=str(self.state), **variables)

    def pid(self):
        return supervisor_pid(self.place)

    def serves(self):
        """Whether a program runs there with the token of the file."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            connection.request("POST", "/v1/runs", '{"language": "bash", "code": "echo $((1+1))"}', headers)
            return json.loads(connection.getresponse().read()).get("stdout") == "2\n"

    def shown(self, **variables):
        """What `make doctor` shows: source and value of each setting, and the whole text."""
        text = self.make("doctor", **variables).stdout
        rows = [line.split() for line in text.splitlines()]
        return {
            row[0]: tuple(row[1:3]) for row in rows if len(row) > 2 and row[1] in {"set", "file", "default"}
        }, text


@pytest.fixture(scope="module")
def configured(service):
    state = new_state()
    (state / "venv").symlink_to(service.state / "venv")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = Configured(service.images, state, port)
    found.write()
    found.up = found.make("up", "DRAIN_S=2", QUEUE_MAX="40", DRAIN_S="3")
    try:
        assert found.up.returncode == 0, found.up.stdout
        yield found
    finally:
        found.make("down")
        shutil.rmtree(state, ignore_errors=True)


@pytest.mark.timeout(300)
def test_flags_are_above_the_environment_above_the_file_above_defaults(configured):
    rows, text = configured.shown()
    assert rows["MAX_RUNS"] == ("file", "9")
    assert rows["QUEUE_MAX"] == ("set", "40")
    assert rows["DRAIN_S"] == ("set", "2.0")
    assert rows["LINK_TTL_S"] == ("default", "600")
    assert f"Settings of the running service (STATE_DIR={configured.state})" in text


def test_the_commands_use_the_running_services_settings_and_not_the_shells(configured):
    rows, text = configured.shown(MAX_RUNS="3", API_KEYS="x", ADMIN_TOKEN="another-admin-token")
    assert rows["MAX_RUNS"] == ("file", "9")
    assert rows["ADMIN_TOKEN"] == ("file", "***")
    assert "other values in this shell: ADMIN_TOKEN, API_KEYS, MAX_RUNS (not in force)" in text
    assert ADMIN_TOKEN not in text
    created = configured.make(
        "keys", "KEYS=create --plan free --label of-the-test", UID_BASE="1879048192", PORT="1"
    )
    assert re.search(r"^ry_\w+$", created.stdout, re.MULTILINE), created.stdout
    assert "of-the-test" in configured.make("keys").stdout
    status = configured.make("status", PORT="1")
    assert (status.returncode, f"http://127.0.0.1:{configured.port}" in status.stdout) == (0, True), status.stdout
    assert configured.make("-s", "token").stdout == f"{TOKEN}\n"
    refused = configured.make("gc")
    assert f"run STATE_DIR={configured.state} make down first" in refused.stdout
    assert configured.place in running_places()


def test_what_make_up_prints_works_as_it_stands(configured):
    said = configured.up.stdout
    assert f"Stop with: STATE_DIR={configured.state} make down" in said
    assert TOKEN not in said
    commands = said[said.index("TOKEN=$(") :]
    env = {"PATH": os.environ["PATH"], "HOME": "/root"}
    done = subprocess.run(
        ["bash", "-c", commands], cwd=REPO, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert '"stdout":"2\\n"' in done.stdout, done


def test_each_process_has_the_variables_that_it_reads_and_root_alone_the_record(configured):
    environments, arguments = {}, {}
    for pid in processes(configured.place):
        with contextlib.suppress(OSError):  # a sandbox that has ended meanwhile
            environments[pid] = Path(f"/proc/{pid}/environ").read_bytes()
            arguments[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    worker = the_first_of(pid for pid, argv in arguments.items() if b"worker" in argv)
    apis = [pid for pid, argv in arguments.items() if b"gunicorn" in argv]
    assert apis
    for pid in apis:
        assert ADMIN_TOKEN.encode() in environments[pid]
        assert b"WARM_POOL=" not in environments[pid]
    assert b"WARM_POOL=python=1,bash=1" in environments[worker]
    assert not {ADMIN_TOKEN.encode(), TOKEN.encode()} & set(re.split(rb"[=:\0]", environments[worker]))
    assert configured.place.settings.stat().st_mode & 0o777 == 0o600
    assert read_record(configured.place.settings).environment["ADMIN_TOKEN"] == ADMIN_TOKEN


@pytest.fixture
def occupied():
    """A port on which somebody else listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield str(other.getsockname()[1])


@pytest.mark.timeout(300)
def test_a_change_that_cannot_start_leaves_the_service_alone(configured, occupied, tmp_path):
    before = configured.pid()
    hidden = tmp_path / "plans.toml"
    hidden.write_text(PLAN)
    hidden.chmod(0o600)
    for variables, sentence in (
        ({"MAX_RUNS": "abc"}, "MAX_RUNS: "),
        ({"BIND": "0.0.0.0", "API_KEYS": "dev_123:dev"}, "development token dev_123 is refused"),
        ({"PORT": occupied}, f"cannot listen on BIND=127.0.0.1 PORT={occupied}"),
        ({"PLANS_FILE": str(hidden)}, f"PLANS_FILE: {hidden} cannot be read: Permission denied"),
        (
            {
                "ENGINE": "docker",
                "DOCKER_HOST": "unix:///nonexistent.sock",
                "WARM_POOL": "bogus",
                "SECCOMP_PROFILE": "/nonexistent.json",
                "STORAGE_DIR": "relative",
                "RUNNER_IMAGE_COBOL": "/",
                "UID_BASE": "200000",
                "DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/none",
            },
            "no Docker daemon answers",
        ),
    ):
        done = configured.make("up", **variables)
        assert done.returncode != 0, variables
        assert sentence in done.stdout
        assert "Traceback" not in done.stdout
        assert "stopping" not in done.stdout
    for part in (
        "WARM_POOL: 'bogus'",
        "SECCOMP_PROFILE=/nonexistent.json",
        "STORAGE_DIR: relative",
        "DATABASE_URL: ",
    ):
        assert part in done.stdout
    assert "secret@" not in done.stdout
    assert configured.pid() == before
    assert configured.serves()


@pytest.mark.timeout(300)
def test_a_wrong_file_is_refused_by_key_and_name_and_changes_nothing(configured):
    before = configured.pid()
    try:
        configured.write(max_run=3, max_runs="'9'")
        done = configured.make("up")
        assert f"max_run in {configured.file}: unknown setting; nearest known: max_runs" in done.stdout
        assert f"max_runs in {configured.file}: must be an integer (≥ 1, ≤ 1024), not text" in done.stdout
        _, text = configured.shown()
        assert "nearest known: max_runs" in text
        configured.write(api_keys="dev_123", bind="0.0.0.0")
        done = configured.make("up")
        assert f"(bind in {configured.file})" in done.stdout
        configured.write(max_runs=8)
        configured.file.chmod(0o644)
        second = configured.state / "runyard.toml"
        second.write_text("")
        done = configured.make("up")
        assert f"{second} and {configured.file}: only one settings file may exist" in done.stdout
        second.unlink()
        _, text = configured.shown()
        assert f"{configured.file} holds secrets and other accounts can read it" in text
        assert "since the start: MAX_RUNS (not in force yet)" in text
    finally:
        configured.write()
    assert configured.pid() == before
    assert configured.serves()


@pytest.mark.timeout(300)
def test_a_start_that_fails_brings_the_earlier_service_back(configured):
    """The worker refuses this image when it opens it; nothing short of a start can tell."""
    before = configured.pid()
    done = configured.make("up", RUNNER_IMAGE_BASH="/etc/hostname", QUEUE_MAX="7")
    assert done.returncode != 0
    assert "RUNNER_IMAGE_BASH=/etc/hostname" in done.stdout
    assert "The service runs again with its earlier settings and code." in done.stdout
    assert configured.pid() not in {None, before}
    assert configured.serves()
    rows, _ = configured.shown()
    assert (rows["QUEUE_MAX"], rows["DRAIN_S"]) == (("set", "40"), ("set", "2.0"))


@pytest.mark.timeout(300)
def test_a_killed_supervisor_leaves_its_settings_to_make_down(configured):
    os.kill(configured.pid(), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while processes(configured.place) and time.monotonic() < deadline:
        time.sleep(0.1)
    configured.file.write_text("not: [valid")
    done = configured.make("down")
    assert done.returncode == 0, done.stdout
    assert "the settings file is not used" in done.stdout
    assert left_over(configured.place) == []
    assert not configured.place.settings.exists()
