"""`make up ROLE=…` on one machine that plays several: what each role starts, says and refuses."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ops.down import left_over
from ops.state import StatePlace, processes, supervisor_pid
from ops.worker_socket import canary
from tests.contract.test_make_settings import make
from tests.support.own_service import new_state
from tests.support.postgres import Postgres
from tests.support.rabbit import RabbitMQ
from tests.support.redisserver import Redis
from tests.support.s3 import S3_ENVIRONMENT, s3_server
from tests.support.service import Service
from tests.support.workers import until

TOKEN = "r0le_t0ken"
RUN = {"language": "bash", "code": "echo $((1+1))"}
UID_BASES = {"api": 0x2000_0000, "worker": 0x3000_0000, "second": 0x4000_0000}


class Machine:
    """One of several machines: a state directory, accounts and a port of its own."""

    def __init__(self, name, role, images, shared):
        self.state = new_state()
        self.place = StatePlace(self.state)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.settings = {
            "STATE_DIR": str(self.state),
            "IMAGES_DIR": str(images),
            "UID_BASE": str(UID_BASES[name]),
            "PORT": str(self.port),
            "API_KEYS": f"{TOKEN}:roles:100:100",
            "LANGUAGES": "bash",
            "WARM_POOL": "bash=1",
            "DRAIN_S": "1",
            "ROLE": role,
            **shared,
        }

    def make(self, *arguments, **variables):
        return make(*arguments, **{**self.settings, **variables})

    def programs(self):
        """The programs of the service that run here."""
        known = {b"ops.supervisor": "supervisor", b"worker": "worker", b"gunicorn": "api", b"egress": "egress"}
        found = set()
        for pid in processes(self.place):
            with contextlib.suppress(OSError):
                argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                found |= {name for program, name in known.items() if program in argv}
        return found

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())

    def remove(self):
        down = self.make("down")
        remains = left_over(self.place)
        shutil.rmtree(self.state, ignore_errors=True)
        assert (down.returncode, remains) == (0, []), down.stdout


@pytest.fixture(scope="module")
def servers():
    """A broker, a database and a server of limits, started at once."""
    with ThreadPoolExecutor() as at_once:
        found = [one.result() for one in [at_once.submit(kind) for kind in (RabbitMQ, Postgres, Redis)]]
    yield found
    broker, database, limits = found
    limits.stop()
    database.remove()
    broker.remove()


@pytest.fixture(scope="module")
def broker(servers):
    return servers[0]


@pytest.fixture(scope="module")
def shared(servers):
    """The parts that all machines share."""
    broker, database, limits = servers
    with s3_server("roles") as storage:
        yield {
            **S3_ENVIRONMENT,
            "AMQP_URL": broker.url,
            "DATABASE_URL": database.new_database(),
            "RATELIMIT_URL": limits.url,
            "SIGNING_KEY": "k" * 48,
            "STORAGE_URL": "s3://roles/of-tests",
            "S3_ENDPOINT_URL": storage.url,
            "S3_ADDRESSING": "path",
        }


def said_by(service):
    reply = service.post("/v1/runs", RUN, token=TOKEN)
    return reply.status, reply.body.get("stdout")


class Foreground:
    """`runyard-server` as a process of the tests, with what it has written so far."""

    def __init__(self, machine, *arguments):
        self.machine = machine
        self.file = machine.state / "config.yaml"
        self.log = machine.state / f"said-{time.monotonic_ns()}"
        settings = machine.settings
        self.file.write_text(
            f"address: 127.0.0.1\nport: 1\nmaxWorkers: 2\nimages_dir: {settings['IMAGES_DIR']}\n"
            f"uid_base: {settings['UID_BASE']}\nsupportedLanguages: [bash]\nwarm_pool: [bash=1]\ndrain_s: 1\n"
            f"api_keys: ['{TOKEN}:roles:100:100']\npackages: 'off'\nsandboxImages: {{bash: other}}\n"
        )
        self.file.chmod(0o600)
        program = machine.state / "venv/bin/runyard-server"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [program, *arguments, "--config", self.file, "--port", str(machine.port)],
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "STATE_DIR": str(machine.state), "PYTHONPATH": "/nonexistent"},
                stdout=out,
                stderr=out,
            )

    def said(self):
        return self.log.read_text()

    def is_up(self):
        assert self.process.poll() is None, self.said()
        return "Runyard is up after" in self.said()


@pytest.fixture(scope="module")
def machines(service, shared):
    """An api and two workers, started at once."""
    found = {
        name: Machine(name, role, service.images, shared)
        for name, role in (("api", "api"), ("worker", "worker"), ("second", "worker"))
    }
    for machine in found.values():
        (machine.state / "venv").symlink_to(service.state / "venv")
    try:
        with ThreadPoolExecutor() as at_once:
            for machine, up in zip(
                found.values(), at_once.map(lambda one: one.make("up"), found.values()), strict=True
            ):
                machine.up = up
        yield found
    finally:
        with ThreadPoolExecutor() as at_once:
            list(at_once.map(lambda one: one.remove(), found.values()))


@pytest.mark.timeout(300)
def test_an_api_alone_sets_up_nothing_that_only_a_worker_needs(machines):
    api = machines["api"]
    assert api.up.returncode == 0, api.up.stdout
    assert "Runyard's api is up after" in api.up.stdout
    assert f"http://127.0.0.1:{api.port}" in api.up.stdout
    assert api.programs() == {"supervisor", "api"}
    assert not list((api.state / "images").iterdir())
    assert not (api.state / "run/egress").exists()
    doctor = api.make("doctor")
    assert "Confinement" not in doctor.stdout
    assert "crun works" not in doctor.stdout


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["worker", "second"])
def test_two_workers_of_one_machine_are_up_when_each_has_run_a_program(machines, name):
    worker = machines[name]
    assert worker.up.returncode == 0, worker.up.stdout
    assert "running a test program in bash" in worker.up.stdout
    assert "Runyard's worker is up" in worker.up.stdout
    assert "http://" not in worker.up.stdout
    assert worker.programs() == {"supervisor", "worker", "egress"}
    assert canary(worker.place, "bash") == ("", "")
    assert not any((worker.state / folder).exists() for folder in ("api", "db"))
    with pytest.raises(ConnectionRefusedError):
        worker.get("/readyz")
    shown = worker.make("status")
    assert (shown.returncode, "role worker" in shown.stdout) == (0, True), shown.stdout
    assert "bash: ready" in shown.stdout
    assert "this machine has no records" in worker.make("keys").stdout


@pytest.mark.timeout(300)
def test_the_api_takes_runs_while_the_broker_is_connected_and_says_when_it_is_not(machines, broker):
    api, worker = machines["api"], machines["worker"]
    served = Service("127.0.0.1", api.port, api.state, token=TOKEN)
    until(lambda: api.get("/readyz")[0] == 200, 30)
    assert api.get("/readyz")[1]["checks"]["broker"] == "ok"
    assert api.get("/health")[1]["status"] == "ok"
    assert said_by(served) == (200, "2\n")
    broker.kill()
    until(lambda: api.get("/v1/health")[1]["checks"]["broker"] == "fail", 10)
    assert api.get("/v1/health")[1]["status"] == "degraded"
    assert api.get("/health") == (200, api.get("/health")[1] | {"status": "degraded", "ok": False})
    until(lambda: api.get("/readyz")[0] == 503, 10)
    refused = served.post("/v1/runs", RUN, token=TOKEN)
    assert (refused.status, "retry-after" in {name.lower() for name in refused.headers}) == (503, True)
    assert "no connection to the broker" in worker.make("status").stdout
    broker.start()
    until(lambda: api.get("/readyz")[0] == 200, 30)
    assert said_by(served) == (200, "2\n")


@pytest.mark.timeout(300)
def test_another_role_that_cannot_start_is_refused_and_the_one_that_runs_stays(machines):
    worker = machines["worker"]
    before = supervisor_pid(worker.place)
    done = worker.make("up", ROLE="api", DATABASE_URL="", SIGNING_KEY="")
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if "ROLE=api" in line]
    assert "DATABASE_URL=postgresql://" in line
    assert "SIGNING_KEY" in line
    assert "RATELIMIT_URL" not in line
    unheard = worker.make("up", AMQP_URL="amqp://127.0.0.1:1/")
    assert "AMQP_URL: no broker answers (127.0.0.1:1: Connection refused)" in unheard.stdout
    wrong = worker.make("up", ROLE="both")
    assert "ROLE=both: must be one of all, api, worker" in wrong.stdout
    assert "Traceback" not in wrong.stdout
    assert supervisor_pid(worker.place) == before


@pytest.mark.timeout(300)
def test_an_api_without_workers_stays_up_and_says_that_none_is_there(machines):
    api = machines["api"]
    for name in ("worker", "second"):
        assert machines[name].make("down").returncode == 0
    until(lambda: api.get("/readyz")[0] == 503, 20)
    checks = api.get("/readyz")[1]["checks"]
    assert {name: checks[name] for name in ("worker", "broker", "database", "storage")} == {
        "worker": "fail",
        "broker": "ok",
        "database": "ok",
        "storage": "ok",
    }
    again = api.make("up")
    assert (again.returncode, "already running" in again.stdout) == (0, True), again.stdout
    shown = api.make("status")
    assert (shown.returncode != 0, "role api" in shown.stdout, "worker fail" in shown.stdout) == (True,) * 3


@pytest.mark.timeout(300)
@pytest.mark.parametrize("end", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_the_program_serves_in_the_foreground_and_leaves_nothing(service, end):
    machine = Machine("worker", "all", service.images, {})
    (machine.state / "venv").symlink_to(service.state / "venv")
    server = Foreground(machine, "all")
    try:
        until(server.is_up, 60)
        assert f"http://127.0.0.1:{machine.port}" in server.said()
        assert "sandboxImages" in server.said()
        assert TOKEN not in server.said()
        served = Service("127.0.0.1", machine.port, machine.state, token=TOKEN)
        assert said_by(served) == (200, "2\n")
        again = Foreground(machine, "all")
        assert again.process.wait(60) == 1
        assert "a service runs in" in again.said()
        server.process.send_signal(end)
        assert server.process.wait(60) == (0 if end == signal.SIGTERM else -signal.SIGKILL)
        until(lambda: not processes(machine.place), 30)
        if end == signal.SIGTERM:
            assert left_over(machine.place) == []
            assert not machine.place.settings.exists()
    finally:
        server.process.kill()
        server.process.wait()
        machine.remove()
