"""What a start does before it stops a running service, and how it finds its way back."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess

import pytest

from ops import hints
from ops.install import InstallError
from ops.ports import listening_problem
from ops.record import ServiceRecord, read_record
from ops.staging import StagedCode
from ops.state import StatePlace
from ops.takeover import AGAIN, Earlier


@pytest.fixture
def place(tmp_path):
    found = StatePlace(tmp_path / "s")
    found.make()
    return found


def listener(family=socket.AF_INET, address="127.0.0.1", port=0):
    one = socket.socket(family, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((address, port))
    one.listen()
    return one


def test_a_port_of_the_service_itself_is_free_for_the_next_one_and_a_strangers_is_not():
    with listener() as one:
        port = one.getsockname()[1]
        ours = [os.getpid()]
        assert f"PORT={port}: [Errno 98]" in listening_problem("127.0.0.1", str(port))
        for bind in ("127.0.0.1", "0.0.0.0"):
            assert listening_problem(bind, str(port), ours) is None
        # 127.0.0.2 is free, and so is what the service leaves.
        assert listening_problem("127.0.0.2", str(port)) is None
    assert listening_problem("127.0.0.1", str(port)) is None


def test_a_stranger_beside_the_service_keeps_it_from_all_addresses():
    with listener() as ours:
        port = ours.getsockname()[1]
        code = f"import socket; s = socket.create_server(('127.0.0.2', {port})); print(1, flush=True); input()"
        other = subprocess.Popen(["python3", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            assert other.stdout.readline() == b"1\n"
            assert "BIND=0.0.0.0" in listening_problem("0.0.0.0", str(port), [os.getpid()])
            assert listening_problem("127.0.0.1", str(port), [os.getpid()]) is None
        finally:
            other.communicate(b"\n")


@pytest.mark.parametrize(
    ("bind", "port"), [("127.0.0.1", "abc"), ("192.0.2.1", "8080"), ("127.0.0.1", "70000"), ("no such name", "1")]
)
def test_an_address_that_nobody_can_listen_on_is_named(bind, port):
    assert f"BIND={bind} PORT={port}: " in listening_problem(bind, port, [os.getpid()])


def test_ipv6_is_looked_up_alike():
    with listener(socket.AF_INET6, "::1") as one:
        port = str(one.getsockname()[1])
        assert "[Errno 98]" in listening_problem("::1", port)
        assert listening_problem("::1", port, [os.getpid()]) is None


def staged(place):
    """New code beside the code in use."""
    place.venv.mkdir()
    (place.venv / "code").write_text("old")
    code = StagedCode(place, lambda _text: None, is_running=True)
    shutil.copytree(place.venv, place.state_dir / "venv.next")
    (place.state_dir / "venv.next/code").write_text("new")
    code.venv = place.state_dir / "venv.next"
    return code


def in_use(place):
    return (place.venv / "code").read_text(), sorted(path.name for path in place.state_dir.glob("venv*"))


def test_new_code_takes_the_place_of_the_old_which_goes_when_it_is_not_needed(place):
    code = staged(place)
    assert in_use(place)[0] == "old"
    code.activate()
    assert in_use(place) == ("new", ["venv", "venv.previous"])
    code.discard()
    assert in_use(place) == ("new", ["venv"])


def test_the_old_code_comes_back(place):
    code = staged(place)
    code.activate()
    code.revert()
    assert in_use(place) == ("old", ["venv"])


def test_nothing_comes_back_that_was_never_replaced(place):
    code = staged(place)
    (place.state_dir / "venv.previous").mkdir()  # of an attempt that was killed
    code.revert()
    assert in_use(place)[0] == "old"


class Starter:
    """What starts a service, as far as bringing one back asks of it."""

    def __init__(self, place, problem=None):
        self.place, self.problem, self.started = place, problem, []

    def say(self, text):
        self.started.append(text)

    def start_supervisor(self, record):
        self.started.append(dict(record.environment))

    def wait_until_healthy(self, process):
        if self.problem:
            raise InstallError(self.problem)
        self.started.append("healthy")


OLD = {"MAX_RUNS": "5", "PORT": "1"}


@pytest.fixture
def earlier(place, monkeypatch):
    for name in ("MAX_RUNS", "PORT", "QUEUE_MAX"):
        monkeypatch.setenv(name, "3")
    monkeypatch.setenv("STATE_DIR", str(place.state_dir))
    return Earlier(place, ServiceRecord(OLD, None, [], ["MAX_RUNS", "PORT", "QUEUE_MAX"]), "{}", was_ready=True)


@pytest.mark.parametrize("failure", [InstallError("no sandbox"), KeyboardInterrupt(), OSError("disk full")])
def test_whatever_ends_a_start_the_earlier_service_is_started_with_its_settings(place, earlier, failure):
    code, starter = staged(place), Starter(place)

    def start():
        with earlier.brought_back(code, starter):
            code.activate()
            raise failure

    with pytest.raises(InstallError) as caught:
        start()
    assert str(caught.value) == f"{str(failure) or 'interrupted'}\n{AGAIN}"
    assert starter.started[1:] == [OLD, "healthy"]
    assert "QUEUE_MAX" not in os.environ
    assert in_use(place)[0] == "old"
    assert place.started.read_text() == "{}"


def test_a_service_that_cannot_be_brought_back_is_told_of(place, earlier):
    with pytest.raises(InstallError) as caught, earlier.brought_back(staged(place), Starter(place, "not healthy")):
        raise InstallError("no sandbox")
    assert str(caught.value) == "no sandbox\nThe earlier service could not be started again: not healthy"


def test_a_record_is_roots_alone_and_read_back_as_it_was(place):
    record = ServiceRecord({"ADMIN_TOKEN": "s3cret ü\n"}, "/f", ["ADMIN_TOKEN"], ["ADMIN_TOKEN", "PORT"])
    previous = os.umask(0)
    try:
        record.write(place.settings)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(place.settings.stat().st_mode) == 0o600
    assert read_record(place.settings) == record
    for text in ("", "[]", "{}", '{"environment": {}}', "\x00"):
        place.settings.write_text(text)
        assert read_record(place.settings) is None


def test_settings_are_adopted_whole_and_for_a_while(monkeypatch):
    monkeypatch.setenv("QUEUE_MAX", "3")
    monkeypatch.setenv("HTTPS_PROXY", "http://x")
    record = ServiceRecord({"MAX_RUNS": "5"}, None, [], ["MAX_RUNS", "QUEUE_MAX"])
    with record.adopted():
        assert os.environ["MAX_RUNS"] == "5"
        assert not {"QUEUE_MAX", "HTTPS_PROXY"} & set(os.environ)
        assert "PATH" in os.environ
    assert os.environ["QUEUE_MAX"] == "3"


def test_hints_quote_what_a_shell_would_take_apart(monkeypatch):
    place = StatePlace.__new__(StatePlace)
    object.__setattr__(place, "state_dir", "/var/lib/my state")
    assert hints.make_command(place, "down") == "STATE_DIR='/var/lib/my state' make down"
    monkeypatch.setenv("API_KEYS", "s3cret:a, other:b")
    monkeypatch.delenv("LANGUAGES", raising=False)
    said = hints.token_line(place) + hints.example(place, "http://[::1]:8080")
    assert "s3cret" not in said
    assert 'Bearer $TOKEN"' in said
    assert hints.first_token() == "s3cret"
