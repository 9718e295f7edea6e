"""deploy/scaled/docker-compose.yml as it stands, on a Docker daemon of the tests' own, used through nginx's port alone.

The parts that are not of this project are built of Debian's packages (tests/support/parts), where no registry can be
reached. The tests go in the order of the file: later ones stop and kill parts of the service.
"""

from __future__ import annotations

import json
import re
import secrets
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from tests.support.composed import NEEDS_DOCKER, NOTHING, Composed, base_image, compose_daemon, stage
from tests.support.dockerd import Dockerd
from tests.support.part_images import part_image
from tests.support.place import IMAGES, STATE
from tests.support.service import Service
from tests.support.websocket import WebSocket
from tests.support.workers import until

FILE = "deploy/scaled/docker-compose.yml"
PASSWORDS = ("RABBITMQ_PASSWORD", "POSTGRES_PASSWORD", "VALKEY_PASSWORD", "S3_PASSWORD")
PARTS = {"RABBITMQ": "rabbitmq", "POSTGRES": "postgres", "VALKEY": "valkey", "S3": "s3", "NGINX": "nginx"}
APIS, WORKERS = ("api-1", "api-2"), ("worker-1", "worker-2")
#: nginx's default is 1 MiB.
LARGE = 3 * 1024 * 1024
#: Requests that are made until both apis have answered one of them.
TRIES = 60
#: A line of the format in deploy/scaled/nginx.conf.
LOGGED = re.compile(
    r'"(?P<method>\S+) (?P<path>\S+)" (?P<status>\d+) \d+ \S+ (?P<sent_to>.+) (?P<request>req_\w+|-)$'
)
pytestmark = [NEEDS_DOCKER, pytest.mark.slow, pytest.mark.timeout(2400)]


class Scaled(Composed):
    """The project of two apis and two workers."""

    project = "runyard-scaled-test"
    options = ("-f", FILE)

    def __init__(self, daemon: Dockerd, folder: Path, base: str) -> None:
        super().__init__(daemon, folder, base, Service)
        self.environment |= {name: secrets.token_hex(32) for name in PASSWORDS}
        self.environment |= {f"{name}_IMAGE": part_image(daemon, base, part) for name, part in PARTS.items()}
        self.environment |= {"LANGUAGES": "bash,python", "MAX_RUNS": "8"}

    def build(self) -> None:
        """Build the images of this project by the compose file that has their recipes."""
        self.options = ()
        self.call("build", "worker", "api", "runner-bash", "runner-python")
        del self.options

    def healthy(self, *names: str) -> None:
        """Wait until the health checks of the file say so."""
        for name in names:
            until(lambda name=name: self.container(name)["State"]["Health"]["Status"] == "healthy", 90)

    def lines(self, name: str) -> list[str]:
        """What a service wrote, over all starts of its container."""
        (found,) = self.client.containers(all=True, filters={"label": f"com.docker.compose.service={name}"})
        return self.client.logs(found["Id"]).decode(errors="replace").splitlines()

    def requests(self) -> list[dict]:
        """All requests that nginx has answered: method, path, status, request, and the apis that it was sent to."""
        names = {
            self.container(name)["NetworkSettings"]["Networks"][f"{self.project}_front"]["IPAddress"]: name
            for name in self.running(*APIS)
        }
        found = [match.groupdict() for line in self.lines("nginx") if (match := LOGGED.search(line))]
        for one in found:
            addresses = [address.partition(":")[0] for address in one["sent_to"].split(", ")]
            one["sent_to"] = [names.get(address, address) for address in addresses]
        return found

    def sent_to(self, path: str) -> list[list[str]]:
        """The apis of each request for a path."""
        return [one["sent_to"] for one in self.requests() if one["path"] == path]

    def running(self, *names: str) -> list[str]:
        found = self.client.containers(filters={"label": f"com.docker.compose.project={self.project}"})
        return [name for name in names if name in {one["Labels"]["com.docker.compose.service"] for one in found}]

    def answered_by(self, reply) -> str:
        """The api that answered."""
        wanted = reply.headers["x-request-id"]
        found = []

        def logged():
            found[:] = [one["sent_to"][-1] for one in self.requests() if one["request"] == wanted]
            return found

        until(logged, 10)
        return found[0]

    def by_each_api(self, call) -> dict:
        """Repeat a request until every running api has answered it; the replies by their names."""
        wanted, found = set(self.running(*APIS)), {}
        for _ in range(TRIES):
            reply = call()
            found[self.answered_by(reply)] = reply
            if set(found) == wanted:
                return found
        raise AssertionError(f"{set(found)} of {wanted} answered {TRIES} requests")

    def workers_of(self, runs: list[str]) -> dict[str, str]:
        """The worker that ended each run, by its own log."""
        found = {}
        for name in WORKERS:
            for line in self.lines(name):
                if '"run ended"' in line and (run := json.loads(line).get("run_id")) in runs:
                    assert run not in found, f"{run} ended twice"
                    found[run] = name
        return found

    @contextmanager
    def without(self, name: str, *, killed: bool = False) -> Iterator[None]:
        """Stop a service, or kill it, for a while; it is healthy again at the end.

        Its restart policy does not start a container that somebody has killed.
        """
        if killed:
            self.client.kill(self.container(name)["Id"])
        else:
            self.call("stop", name)
        try:
            until(lambda: not self.running(name), 10)
            yield
        finally:
            self.call("start", name)
            self.healthy(name)

    def background(self, count: int, code: str, **fields) -> list[str]:
        """Runs in the background that wait no longer."""
        runs = [self.service.submit("bash", code, **fields) for _ in range(count)]
        until(lambda: all(self.service.get(f"/v1/runs/{run}").body["status"] != "queued" for run in runs), 30)
        return runs

    def both_workers_work(self) -> None:
        runs = self.background(8, "sleep 2; echo done")
        assert {self.service.ended(run)["stdout"] for run in runs} == {"done\n"}
        until(lambda: len(self.workers_of(runs)) == len(runs), 10)
        assert set(self.workers_of(runs).values()) == set(WORKERS)


@pytest.fixture(scope="module")
def scaled():
    with compose_daemon(STATE) as daemon, tempfile.TemporaryDirectory() as scratch:
        project = Scaled(daemon, stage(Path(scratch)), base_image(daemon, IMAGES))
        project.call("down", "-v", "-t", "10")
        project.build()
        try:
            project.call("up", "-d", "--no-build")
            project.wait()
            yield project
        finally:
            project.call("down", "-v", "-t", "40")


class Follower:
    """A client that reads the events of a run as server-sent events."""

    def __init__(self, service: Service, run: str) -> None:
        self.connection = service.connection(30)
        headers = {"Authorization": f"Bearer {service.token}", "Accept": "text/event-stream"}
        self.connection.request("GET", f"/v1/runs/{run}/events?after=0", headers=headers)
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()
        self.headers = {name.lower(): value for name, value in self.response.getheaders()}
        self.seen = b""

    def until(self, wanted: bytes) -> None:
        while wanted not in self.seen:
            line = self.response.readline()
            assert line, self.seen
            self.seen += line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.connection.close()


def address_of(link: str) -> str:
    return link.partition("://")[2].partition("/")[2]


def test_two_apis_and_two_workers_are_well(scaled):
    scaled.healthy(*APIS, *WORKERS, "rabbitmq", "postgres", "valkey")
    health = scaled.service.get("/v1/health", token=None).body
    assert (health["status"], health["checks"]["broker"], health["checks"]["storage"]) == ("ok", "ok", "ok"), health
    assert set(scaled.by_each_api(lambda: scaled.service.get("/v1/languages"))) == set(APIS)


def test_both_workers_take_runs_and_no_request_is_sent_twice(scaled):
    def run(number: int):
        return scaled.service.post("/v1/runs", {"language": "bash", "code": f"sleep 1; echo {number}"})

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(run, range(24)))
    assert [(reply.status, reply.body["stdout"]) for reply in replies] == [(200, f"{n}\n") for n in range(24)]
    runs = [reply.body["id"] for reply in replies]
    until(lambda: len(scaled.workers_of(runs)) == len(runs), 10)
    assert set(scaled.workers_of(runs).values()) == set(WORKERS)
    made = [one["sent_to"] for one in scaled.requests() if one["method"] == "POST"]
    assert {len(sent_to) for sent_to in made} == {1}
    assert {name for sent_to in made for name in sent_to} == set(APIS)


def test_the_link_of_an_artifact_opens_at_each_api(scaled):
    run = scaled.service.run("python", "open('outputs/kept.txt', 'w').write('kept')")
    (artifact,) = run["artifacts"]
    assert artifact["url"].startswith(f"{scaled.service.url}/")
    path = f"/{address_of(artifact['url'])}"
    found = scaled.by_each_api(lambda: scaled.service.get(path, token=None))
    assert {name: reply.raw for name, reply in found.items()} == dict.fromkeys(APIS, b"kept")
    assert {scaled.service.get(path[:-4] + "AAAA", token=None).status for _ in range(4)} == {403}


@pytest.mark.parametrize("name", ["X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-For", "Forwarded"])
def test_a_client_cannot_forge_what_nginx_says_of_it(scaled, name):
    value = {"X-Forwarded-Proto": "https", "Forwarded": "host=evil.example;for=198.51.100.9"}.get(
        name, "198.51.100.9"
    )
    body = {"language": "bash", "code": "echo 1 > outputs/a.txt"}
    ran = scaled.service.post("/v1/runs", body, headers={name: value})
    assert ran.body["artifacts"][0]["url"].startswith(f"{scaled.service.url}/"), ran.body
    accepted = [line for api in APIS for line in scaled.lines(api) if ran.headers["x-request-id"] in line]
    assert accepted
    assert not [line for line in accepted if "198.51.100.9" in line]


def test_no_log_has_the_token_of_a_link_that_failed(scaled):
    token = secrets.token_hex(16)
    failed = scaled.service.get(f"/v1/files/file_none/content?token={token}", token=None)
    scaled.answered_by(failed)
    for name in ("nginx", *APIS):
        assert token not in "\n".join(scaled.lines(name)), name


def test_an_upload_is_read_by_programs_of_both_workers_and_at_each_api(scaled):
    content = bytes(range(256)) * (LARGE // 256)
    file = scaled.service.upload(content)
    assert (file.status, file.body["size"]) == (200, LARGE), file.body
    path = f"/v1/files/{file.body['id']}/content"
    found = scaled.by_each_api(lambda: scaled.service.get(path))
    assert {name: reply.raw == content for name, reply in found.items()} == dict.fromkeys(APIS, True)
    fields = {"files": [{"path": "a.bin", "id": file.body["id"]}]}
    runs = scaled.background(6, "sleep 2; wc -c < inputs/a.bin", **fields)
    assert {scaled.service.ended(run)["stdout"] for run in runs} == {f"{LARGE}\n"}
    assert set(scaled.workers_of(runs).values()) == set(WORKERS)


def test_a_background_run_is_followed_and_cancelled_at_the_api_that_did_not_accept_it(scaled):
    service = scaled.service
    body = {
        "language": "bash",
        "code": "echo first; sleep 50",
        "background": True,
        "limits": {"timeout_ms": 55_000},
    }
    followed, cancelled = set(), set()
    for _ in range(TRIES):
        made = service.post("/v1/runs", body)
        assert made.status == 202, made.body
        run, maker = made.body["id"], scaled.answered_by(made)
        with Follower(service, run) as follower:
            follower.until(b"first")  # the program runs for 50 s: nothing on the way collects events
            assert service.get(f"/v1/runs/{run}").body["status"] == "running"
            reply = service.post(f"/v1/runs/{run}/cancel", {})
            assert (reply.status, reply.body["status"]) == (200, "cancelled"), reply.body
            follower.until(b'"status":"cancelled"')
            follower.response.read()
        followed.add((maker, scaled.answered_by(follower)))
        cancelled.add((maker, scaled.answered_by(reply)))
        if all({APIS, APIS[::-1]} <= pairs for pairs in (followed, cancelled)):
            return
    raise AssertionError(f"{followed=} {cancelled=}")


def test_a_session_works_over_many_requests_at_both_apis(scaled):
    service = scaled.service
    made = service.post("/v1/sessions", {"language": "bash"})
    assert made.status == 201, made.body
    session = f"/v1/sessions/{made.body['id']}"
    answered = set()
    for number in range(1, 21):
        ran = service.post(f"{session}/runs", {"code": "echo x >> kept; wc -l < kept"})
        assert (ran.status, ran.body["stdout"]) == (200, f"{number}\n"), ran.body
        answered.add(scaled.answered_by(ran))
    assert answered == set(APIS)
    read = scaled.by_each_api(lambda: service.get(f"{session}/files?path=kept"))
    assert {reply.raw for reply in read.values()} == {b"x\n" * 20}, read
    terminal = {"argv": ["bash", "--norc", "-i"], "env": {"PS1": "$ "}, "pty": {"cols": 80, "rows": 24}}
    process = service.post(f"{session}/processes", terminal).body["id"]
    attach, attached = f"{session}/processes/{process}/attach", set()
    for number in range(TRIES):
        with WebSocket(service, attach, token=service.token) as shell:
            shell.send(b"echo $((%d + 1000))\n" % number)
            shell.expect(b"\r%d\r\n" % (number + 1000))
        until(lambda number=number: len(scaled.sent_to(attach)) == number + 1, 10)
        if (attached := {name for sent in scaled.sent_to(attach) for name in sent}) == set(APIS):
            break
    assert attached == set(APIS)
    assert service.request("DELETE", session).status == 200


def test_a_request_under_way_ends_well_when_its_api_is_stopped(scaled):
    def run(_):
        return scaled.service.post("/v1/runs", {"language": "bash", "code": "sleep 3; echo done"})

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(run, number) for number in range(8)]
        time.sleep(1)
        with scaled.without("api-2"):
            for _ in range(10):
                assert scaled.service.run("bash", "echo on")["stdout"] == "on\n"
            assert {scaled.answered_by(scaled.service.get("/v1/languages")) for _ in range(4)} == {"api-1"}
            replies = [one.result() for one in waiting]
    assert [(reply.status, reply.body["stdout"]) for reply in replies] == [(200, "done\n")] * 8
    assert set(scaled.by_each_api(lambda: scaled.service.get("/v1/languages"))) == set(APIS)


def test_the_service_goes_on_without_an_api_that_was_killed_and_sends_no_run_twice(scaled):
    """A run that its client waits for at the killed api is interrupted; one in the background goes on."""
    service, test = scaled.service, secrets.token_hex(8)
    body = {"language": "bash", "code": "sleep 25; echo done", "limits": {"timeout_ms": 55_000}}
    by_get = "/v1/agent-coderunner/api/run/python"

    def run(number: int):
        return service.post("/v1/runs", {**body, "metadata": {"test": test, "number": str(number)}})

    def made() -> list[dict]:
        return service.get(f"/v1/runs?metadata.test={test}&limit=100").body["data"]

    def accepted_by(name: str) -> list[str]:
        lines = [line for line in scaled.lines(name) if "run.accepted" in line]
        return [one["id"] for one in made() if any(one["id"] in line for line in lines)]

    runs = scaled.background(3, "sleep 12; echo done", limits={"timeout_ms": 55_000})
    with ThreadPoolExecutor(TRIES) as pool:
        waiting = []
        while not all(map(accepted_by, APIS)):
            waiting.append(pool.submit(run, len(waiting)))
            until(lambda: len(made()) == len(waiting), 10)
        got = [pool.submit(service.get, f"{by_get}?code=import%20time%3Btime.sleep(25)") for _ in range(4)]
        time.sleep(2)
        with scaled.without("api-1", killed=True):
            for number in range(10):
                assert service.run("bash", f"echo {number}")["stdout"] == f"{number}\n"
                assert service.get(f"/v1/runs/{runs[0]}").status == 200
            replies = [one.result() for one in waiting]
            assert {one.result().status for one in got} <= {200, 502}
            until(lambda: all(one["status"] not in {"queued", "running"} for one in made()), 60)
            ended = [service.ended(run, seconds=60) for run in runs]
    assert [(run["status"], run["stdout"]) for run in ended] == [("succeeded", "done\n")] * len(runs)
    assert {reply.status for reply in replies} == {200, 502}
    statuses = {one["metadata"]["number"]: one["status"] for one in made()}
    assert len(made()) == len(statuses) == len(replies)
    for number, reply in enumerate(replies):
        assert (statuses[str(number)] == "succeeded") == (reply.status == 200), (statuses, replies)
    # One that no connection could be made for was not sent; it is the only one with two addresses.
    assert {one["status"] for one in scaled.requests() if one["method"] == "POST" and len(one["sent_to"]) > 1} <= {
        "200"
    }
    assert [len(sent_to) for sent_to in scaled.sent_to(by_get)] == [1] * len(got)
    found = scaled.by_each_api(lambda: service.get(f"/v1/runs/{runs[0]}"))
    assert {name: reply.body["status"] for name, reply in found.items()} == dict.fromkeys(APIS, "succeeded")


def test_what_a_killed_worker_had_is_lost_and_the_rest_goes_on(scaled):
    service = scaled.service
    sessions = [service.post("/v1/sessions", {"language": "bash"}).body["id"] for _ in range(4)]
    runs = scaled.background(8, "sleep 20; echo done", limits={"timeout_ms": 55_000})
    with scaled.without("worker-1", killed=True):
        ended = [service.ended(run, seconds=90) for run in runs]
        found = [service.get(f"/v1/sessions/{session}").body for session in sessions]
        for one in found:
            if one["status"] != "ended":
                ran = service.post(f"/v1/sessions/{one['id']}/runs", {"code": "echo on"})
                assert (ran.status, ran.body["stdout"]) == (200, "on\n")
                assert service.request("DELETE", f"/v1/sessions/{one['id']}").status == 200
        assert service.run("bash", "echo on")["stdout"] == "on\n"
    lost = [run for run in ended if (run["status"], (run["error"] or {}).get("code")) == ("error", "worker_lost")]
    others = [run["id"] for run in ended if (run["status"], run["stdout"]) == ("succeeded", "done\n")]
    assert len(lost) + len(others) == len(runs), ended
    assert (bool(lost), bool(others)) == (True, True), ended
    assert scaled.workers_of(runs) == dict.fromkeys(others, "worker-2")
    assert {(one["status"], one["end_reason"]) for one in found} == {("ended", "worker_lost"), ("ready", None)}, (
        found
    )
    scaled.both_workers_work()


def test_runs_go_on_while_the_broker_restarts_and_it_is_used_again(scaled):
    def broker() -> dict[str, tuple[str, str]]:
        found = scaled.by_each_api(lambda: scaled.service.get("/v1/health", token=None))
        return {name: (reply.body["status"], reply.body["checks"]["broker"]) for name, reply in found.items()}

    runs = scaled.background(6, "sleep 5; echo done")
    with scaled.without("rabbitmq"):
        until(lambda: broker() == dict.fromkeys(APIS, ("degraded", "fail")), 30)
        refused = scaled.service.post("/v1/runs", {"language": "bash", "code": "echo 1"})
        assert (refused.status, refused.body["error"]["code"]) == (503, "worker_unavailable")
        assert int(refused.headers["retry-after"]) > 0
    until(lambda: broker() == dict.fromkeys(APIS, ("ok", "ok")), 30)
    ended = [scaled.service.ended(run, seconds=60) for run in runs]
    assert [(run["status"], run["stdout"]) for run in ended] == [("succeeded", "done\n")] * 6
    scaled.both_workers_work()


def test_a_database_that_restarts_is_used_again(scaled):
    with scaled.without("postgres"):
        refused = scaled.service.post("/v1/runs", {"language": "bash", "code": "echo 1"})
        assert (refused.status, refused.body["error"]["code"]) == (503, "records_unavailable")
    for _ in APIS:
        until(lambda: scaled.service.get("/v1/health", token=None).body["status"] == "ok", 30)
    found = scaled.by_each_api(lambda: scaled.service.post("/v1/runs", {"language": "bash", "code": "echo on"}))
    assert {name: reply.body["stdout"] for name, reply in found.items()} == dict.fromkeys(APIS, "on\n")


def test_runs_are_taken_without_the_buckets_of_rate_limits(scaled):
    with scaled.without("valkey"):
        assert scaled.service.run("bash", "echo on")["stdout"] == "on\n"


def test_down_leaves_nothing(scaled):
    """Comes last."""
    running = scaled.left()
    assert len(running["networks"]) == 4
    assert running["sandboxes"]
    scaled.call("down", "-v")
    assert scaled.left() == NOTHING
