"""A service that is started with tinirun's names of settings, and serves."""

from __future__ import annotations

import shutil
import socket

import pytest

from ops.state import StatePlace, processes, supervisor_pid
from tests.contract.test_make_settings import make
from tests.support.own_service import new_state
from tests.support.service import Service

KEY = "api-key-123"
UID_BASE = 0x7C40_0000


class Named:
    """The service and its commands, in a shell that has these names."""

    def __init__(self, service, state, port):
        self.state = state
        self.place = StatePlace(state)
        self.service = Service("127.0.0.1", port, state, token=KEY)
        self.names = {
            "RUNNER_API_KEY": KEY,
            "RUNNER_CLEANUP_INTERVAL": "60",
            "RUNNER_HOST": "127.0.0.1",
            "RUNNER_LOG_LEVEL": "warn",
            "RUNNER_PORT": str(port),
        }
        self.others = {
            "STATE_DIR": str(state),
            "IMAGES_DIR": str(service.images),
            "UID_BASE": str(UID_BASE),
            "LANGUAGES": "bash",
            "WARM_POOL": "bash=1",
        }

    def make(self, *arguments, **variables):
        return make(*arguments, **{**self.others, **self.names, **variables})

    def serves(self):
        reply = self.service.post("/v1/runs", {"language": "bash", "code": "echo $((1+1))"}, token=KEY)
        return (reply.status, reply.body.get("stdout")) == (200, "2\n")


@pytest.fixture(scope="module")
def named(service):
    state = new_state()
    (state / "venv").symlink_to(service.state / "venv")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found = Named(service, state, probe.getsockname()[1])
    up = found.make("up")
    try:
        assert up.returncode == 0, up.stdout
        assert KEY not in up.stdout
        yield found
    finally:
        down = make("down", STATE_DIR=str(state))
        shutil.rmtree(state, ignore_errors=True)
    assert down.returncode == 0, down.stdout


@pytest.mark.timeout(300)
def test_the_key_is_a_static_key_in_place_of_the_development_token(named):
    assert named.serves()
    assert named.service.get("/v1/runs", token="dev_123").status == 401


def test_no_process_has_a_name_that_is_not_ours(named):
    assert len(processes(named.place)) >= 3
    for pid in [supervisor_pid(named.place), *processes(named.place)]:
        with open(f"/proc/{pid}/environ", "rb") as file:
            names = {entry.partition(b"=")[0] for entry in file.read().split(b"\0")}
        assert not {name for name in names if name.startswith(b"RUNNER_") and not name.startswith(b"RUNNER_IMAGE_")}


@pytest.mark.parametrize("shell", ["the same names", "a bare one"])
def test_doctor_shows_our_settings_and_no_key(named, shell):
    done = named.make("doctor") if shell == "the same names" else make("doctor", STATE_DIR=str(named.state))
    rows = {row[0]: row[1:3] for line in done.stdout.splitlines() if len(row := line.split()) > 2}
    assert rows["API_KEYS"] == ["set", "***"]
    assert rows["PORT"] == ["set", str(named.service.port)]
    assert rows["LOG_LEVEL"] == ["set", "WARNING"]
    assert rows["CLEANUP_INTERVAL_S"] == ["set", "60.0"]
    assert KEY not in done.stdout
    assert KEY not in (named.state / "log/service.log").read_text()


@pytest.mark.timeout(300)
def test_the_same_names_again_change_nothing(named):
    before = supervisor_pid(named.place)
    done = named.make("up")
    assert (done.returncode, "already running with the current code and settings" in done.stdout) == (0, True), (
        done.stdout
    )
    assert supervisor_pid(named.place) == before


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PORT": "1"}, "RUNNER_PORT and PORT are both set and differ: unset one of the two"),
        ({"RUNNER_LOG_LEVEL": "loud"}, "RUNNER_LOG_LEVEL: must be trace, debug, info, warn or error"),
        ({"DOCKER_HOST": "tcp://192.0.2.7:2375"}, "DOCKER_HOST=tcp://192.0.2.7: the daemon is on another machine"),
        ({"RUNNER_CLEANUP_INTERVAL": "0"}, "CLEANUP_INTERVAL_S: "),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence_and_the_service_stays(named, variables, words):
    before = supervisor_pid(named.place)
    done = named.make("up", **variables)
    assert (done.returncode != 0, words in done.stdout) == (True, True), done.stdout
    assert KEY not in done.stdout
    assert supervisor_pid(named.place) == before
    assert named.serves()
