"""The packages of runs and sessions from the request to their end: a real api, a real worker's daemon over its
socket, real waiting and admission. Layers are made by the test, and sandboxes cannot be had."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from api.app import create_app
from config.settings import Settings
from dispatch.unix import UnixDispatcher
from protocol.packages import PackagesFailed
from records import open_records
from sandbox.admission.control import Admission
from sandbox.engines import EngineError
from sandbox.executor import Executor
from sandbox.languages import Catalogue
from sandbox.layers.facts import LayerFacts, LockedPackage
from sandbox.lock_watch import LockWatch
from sandbox.metrics import Metrics
from sandbox.run.package_layers import KEY_BYTES, LayerSupply, LayerWait, ReadyLayer, TooManyWait
from sandbox.sessions.hub import SessionHub
from sandbox.sessions.memory import SessionMemory
from sandbox.sessions.table import SessionTable
from tests.unit.test_api_app import AUTH, SIGNING_KEY, areas, empty_database
from worker.server import Server
from worker.telemetry import Observer

LANGUAGES = ("python", "node", "go", "rust", "bash")
OTHER = {"Authorization": "Bearer other"}


class Layers:
    """Makes layers as the test says: `make` is called with what is asked for."""

    def __init__(self):
        self.asked, self.held, self.released = [], [], []
        self.make = lambda _asked: None
        self.known = {}
        #: (key, packages) of layers that need not be made.
        self.there = set()

    @contextmanager
    def ready(self, **asked):
        self.asked.append(asked)
        self.make(asked)
        self.held.append(asked["key"])
        try:
            yield ReadyLayer("lay_1", Path("/layers/lay_1/files"), (LockedPackage("numpy", "2.0", "0" * 64),))
        finally:
            self.held.remove(asked["key"])
            self.released.append(asked["key"])

    @contextmanager
    def at_hand(self, *, key, language, packages):
        if (key, packages) not in self.there:
            yield None
            return
        with self.ready(key=key, language=language, packages=packages) as layer:
            yield layer

    def known_to(self, key, layer_id):
        return self.known.get((key, layer_id))


class Pool:
    """Has no sandboxes: it notes for which layer one was wanted, and who holds a layer then."""

    def __init__(self, layers):
        self.layers, self.wanted = layers, []

    def check(self, language):
        pass

    def take(self, language, _flavour="", _owner="", *, layer=None):
        self.wanted.append((language.id, layer.files if layer else None, list(self.layers.held)))
        raise EngineError("there are no sandboxes in this test")

    def run_begins(self):
        pass

    run_ends = run_begins


def language(name):
    return {
        "id": name, "aliases": [name[:2]], "version": "1", "entry_file": "main.x", "packages": [], "ready": True,
        "example": "", "keeps": "files", "kernels": [], "results": False, "package_ecosystem": None,
        "pids_default": 64,
    }  # fmt: skip


class Rig:
    """An api and a worker that share a directory."""

    def __init__(self, folder, *, has_layers=True, **settings):
        self.layers = Layers()
        self.pool = Pool(self.layers)
        self.supply = LayerSupply(self.layers, 5) if has_layers else None
        (folder / "run").mkdir(exist_ok=True)
        (folder / "db.sqlite").write_bytes(empty_database())
        self.settings = Settings(
            state_dir=folder, api_keys="tok:me:1000:1000,other:you:1000:1000", signing_key=SIGNING_KEY,
            **{"packages": "any"} | settings,
        )  # fmt: skip
        self.admission = Admission(max_runs=1, memory_mb=4096, queue_max=8, queue_wait_s=5)
        catalogue, metrics = Catalogue.load(), Metrics()
        parts = (catalogue, self.pool, self.admission)
        self.executor = Executor(*parts, None, cells=None, locks=LockWatch(), layers=self.supply)
        self.sessions = SessionTable(
            *parts,
            None,
            locks=LockWatch(),
            memory=SessionMemory(self.admission, 2048),
            hub=SessionHub(),
            most=4,
            output_mb=1,
            layers=self.supply,
        )
        service = SimpleNamespace(
            executor=self.executor, sessions=self.sessions, session_executor=None, catalogue=catalogue,
            observer=Observer(metrics), metrics=metrics, layers=self.supply,
            status=lambda: {"languages": [language(name) for name in LANGUAGES]},
        )  # fmt: skip
        self.server = Server(service, self.settings.worker_socket, os.getuid(), most_runs=16)
        threading.Thread(target=self.server.serve, daemon=True).start()
        self.records = open_records(f"sqlite:///{folder}/db.sqlite")
        self.dispatcher = UnixDispatcher(self.settings.worker_socket)
        self.app = create_app(self.settings, self.dispatcher, self.records, areas())
        self.client = self.app.test_client()

    def close(self):
        self.server.stop(0)
        self.app.extensions["runyard"].lifecycle.stop(5)
        self.dispatcher.close()
        self.records.close()

    def post(self, path="/v1/runs", *, auth=AUTH, headers=None, **fields):
        body = {"language": "python"} | ({} if "sessions" in path else {"code": "1"}) | fields
        return self.client.post(path, data=json.dumps(body), headers=auth | JSON | (headers or {}))

    def get(self, path, auth=AUTH):
        return self.client.get(path, headers=auth)

    def ended(self, run_id):
        deadline = time.monotonic() + 10
        while (run := self.get(f"/v1/runs/{run_id}").json)["finished_at"] is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return run


JSON = {"Content-Type": "application/json"}


@pytest.fixture
def make_rig(tmp_path):
    made = []

    def make(**settings):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Rig(folder, **settings))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(make_rig):
    return make_rig()


def fail(code, message, index=None):
    def make(_asked):
        raise PackagesFailed(code, message, index)

    return make


FAILURES = [
    ("package_not_found", "no version 9", 0, "packages.1"),
    ("package_not_allowed", "is withdrawn", 1, "packages.0"),
    ("package_build_failed", "error: cc failed", None, "packages"),
]


@pytest.mark.parametrize(("code", "message", "index", "param"), FAILURES)
def test_a_failed_build_is_a_400_that_names_the_entry_of_the_request(rig, code, message, index, param):
    rig.layers.make = fail(code, message, index)
    reply = rig.post(packages=["zope", "Attrs"])
    assert rig.layers.asked[0]["packages"] == ("attrs", "zope")
    assert reply.status_code == 400
    assert reply.json["error"] == {
        "message": f"{param}: {message}", "type": "invalid_request_error", "param": param, "code": code,
    }  # fmt: skip
    assert rig.get("/v1/runs").json["data"] == []
    assert rig.admission.load().running == 0


@pytest.mark.parametrize(("code", "message", "index", "param"), FAILURES)
def test_a_failed_build_ends_a_stream_with_an_error(rig, code, message, index, param):
    def make(asked):
        asked["on_output"]("Collecting attrs\n")
        asked["on_output"]("x" * 10_000)
        asked["on_output"]("\ud800")
        fail(code, message, index)(asked)

    rig.layers.make = make
    reply = rig.post(packages=["zope", "Attrs"], stream=True, headers={"Idempotency-Key": "k"})
    events = [json.loads(line) for line in reply.data.splitlines()]
    assert reply.status_code == 200
    assert [event["event"] for event in events] == ["info"] * 4 + ["error"]
    assert events[0]["data"]["status"] == "queued"
    assert [event["data"].get("output") for event in events[1:4]] == ["Collecting attrs", "x" * 300, "?"]
    assert (events[-1]["data"]["code"], events[-1]["data"]["param"]) == (code, param)
    run = rig.get("/v1/runs").json["data"][0]
    assert (run["status"], run["layer"], run["error"]["param"]) == ("error", None, param)
    again = rig.post(packages=["zope", "Attrs"], stream=True, headers={"Idempotency-Key": "k"})
    assert [json.loads(line)["event"] for line in again.data.splitlines()][-1] == "error"
    assert len(rig.layers.asked) == 1


@pytest.mark.parametrize(("code", "message", "index", "param"), FAILURES)
def test_a_failed_build_is_the_end_of_a_run_in_the_background(rig, code, message, index, param):
    rig.layers.make = fail(code, message, index)
    reply = rig.post(packages=["zope", "Attrs"], background=True)
    assert reply.status_code == 202
    run = rig.ended(reply.json["id"])
    assert (run["status"], run["error"]["code"], run["error"]["param"]) == ("error", code, param)


@pytest.mark.parametrize(("code", "message", "index", "param"), FAILURES)
def test_a_failed_build_creates_no_session(rig, code, message, index, param):
    rig.layers.make = fail(code, message, index)
    reply = rig.post("/v1/sessions", packages=["zope", "Attrs"])
    assert (reply.status_code, reply.json["error"]["code"], reply.json["error"]["param"]) == (400, code, param)
    assert rig.get("/v1/sessions").json["data"] == []


@pytest.mark.parametrize("index", [-1, 2, 10**9])
def test_a_place_that_is_none_and_a_long_message_are_no_fault_of_the_service(rig, index):
    rig.layers.make = fail("package_build_failed", "x" * 5000 + "\ud800 the end", index)
    for path in ("/v1/runs", "/v1/sessions"):
        error = rig.post(path, packages=["zope", "Attrs"]).json["error"]
        assert (error["code"], error["param"]) == ("package_build_failed", "packages")
        assert error["message"].startswith("packages: … x")
        assert error["message"].endswith("? the end")
        assert len(error["message"]) < 2100


def test_the_creation_of_a_session_tells_of_the_build(rig):
    def make(asked):
        asked["on_output"]("Collecting attrs")
        fail("package_build_failed", "conflict")(asked)

    rig.layers.make = make
    reply = rig.post("/v1/sessions", packages=["attrs"], stream=True)
    events = [json.loads(line) for line in reply.data.splitlines()]
    assert [event["event"] for event in events] == ["info", "info", "error"]
    assert events[1]["data"] == {"status": "creating", "output": "Collecting attrs"}
    assert events[2]["data"]["code"] == "package_build_failed"


def test_a_session_in_the_background_ends_failed(rig):
    rig.layers.make = fail("package_not_found", "no version 9", 0)
    reply = rig.post("/v1/sessions", packages=["attrs==9"], background=True)
    assert (reply.status_code, reply.json["status"], reply.json["packages"]) == (202, "creating", ["attrs==9"])
    deadline = time.monotonic() + 10
    while (session := rig.get(f"/v1/sessions/{reply.json['id']}").json)["status"] != "ended":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert session["error"]["code"] == "package_not_found"
    assert session["layer"] is None


def test_the_sandbox_is_taken_with_the_layer_which_is_held_until_the_end(rig):
    reply = rig.post(packages=["numpy"], stream=True)
    events = [json.loads(line) for line in reply.data.splitlines()]
    key = rig.layers.asked[0]["key"]
    assert rig.pool.wanted == [("python", Path("/layers/lay_1/files"), [key])]
    assert events[-1]["data"]["code"] == "engine_error"
    assert rig.get("/v1/runs").json["data"][0]["layer"] == "lay_1"
    assert (rig.layers.held, rig.layers.released) == ([], [key])
    assert rig.layers.asked[0]["language"] == "python"
    assert rig.layers.asked[0]["patience_s"] == 5


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/sessions"])
def test_a_layer_that_is_there_is_held_until_the_end_without_a_wait(rig, path, monkeypatch):
    rig.post(path, packages=["numpy"])
    key = rig.layers.asked[0]["key"]
    rig.layers.there.add((key, ("numpy",)))
    monkeypatch.setattr(LayerSupply, "wait", lambda *_, **__: pytest.fail("a thread waited"))
    assert rig.post(path, packages=["numpy"]).json["error"]["code"] == "engine_error"
    assert rig.pool.wanted == [("python", Path("/layers/lay_1/files"), [key])] * 2
    assert (rig.layers.held, rig.layers.released) == ([], [key, key])


def test_a_session_takes_its_sandbox_with_the_layer_and_lets_go_of_it_when_it_fails(rig):
    reply = rig.post("/v1/sessions", packages=["numpy"])
    assert reply.json["error"]["code"] == "engine_error"
    key = rig.layers.asked[0]["key"]
    assert rig.pool.wanted == [("python", Path("/layers/lay_1/files"), [key])]
    assert (rig.layers.held, rig.layers.released) == ([], [key])
    assert rig.admission.load().memory_mb == 0


def test_a_build_holds_no_place_of_the_runs(rig):
    """With one place in all, a build that needs one can be made while its run waits for it."""
    under_way, go = threading.Event(), threading.Event()

    def make(asked):
        place = rig.admission.reserve("builder", 64)
        assert place.held
        rig.admission.release(place)
        under_way.set()
        assert go.wait(10)

    rig.layers.make = make
    slow = rig.post(packages=["numpy"], background=True).json
    assert under_way.wait(10)
    assert rig.post().json["error"]["code"] == "engine_error", "a run beside it gets the place"
    assert rig.get(f"/v1/runs/{slow['id']}").json["status"] == "queued"
    go.set()
    assert rig.ended(slow["id"])["layer"] == "lay_1"


def test_a_run_can_be_cancelled_while_its_packages_are_made(rig):
    under_way, go = threading.Event(), threading.Event()

    def make(_asked):
        under_way.set()
        assert go.wait(10)

    rig.layers.make = make
    run = rig.post(packages=["numpy"], background=True).json
    assert under_way.wait(10)
    began = time.monotonic()
    reply = rig.client.post(f"/v1/runs/{run['id']}/cancel", headers=AUTH)
    assert (reply.json["status"], reply.json["cancelled"]) == ("cancelled", True)
    assert time.monotonic() - began < 5
    go.set()
    deadline = time.monotonic() + 5
    while not rig.layers.released:
        assert time.monotonic() < deadline, "the layer was not released"
        time.sleep(0.01)
    assert rig.pool.wanted == []


def test_a_maker_that_never_ends_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("sandbox.run.package_layers.GRACE_S", 0.1)
    layers, go = Layers(), threading.Event()
    layers.make = lambda _asked: go.wait(30)
    waiting = LayerWait(layers, key="k", language="python", packages=("x",), patience_s=0.1)
    deadline = time.monotonic() + 5
    assert waiting.layer() is None
    time.sleep(0.25)
    with pytest.raises(PackagesFailed, match=r"not ready within 0\.1 s") as failed:
        waiting.layer()
    assert failed.value.code == "package_build_failed"
    waiting.close()
    go.set()
    while not layers.released:
        assert time.monotonic() < deadline, "a layer that came too late was not released"
        time.sleep(0.01)


def test_a_flood_of_output_is_cut(rig):
    def make(asked):
        for number in range(5000):
            asked["on_output"](f"line {number}")

    rig.layers.make = make
    reply = rig.post(packages=["numpy"], stream=True)
    lines = [json.loads(line)["data"].get("output") for line in reply.data.splitlines()]
    told = [line for line in lines if line]
    assert (len(told), told[0], told[-1]) == (200, "line 0", "more output is not shown")


def test_so_many_wait_and_no_more(rig):
    supply = rig.supply
    supply.enter("k", KEY_BYTES)
    with pytest.raises(TooManyWait, match="memory"):
        supply.enter("k", 1)
    for _ in range(63):
        supply.enter("k")
    with pytest.raises(TooManyWait, match="too many"):
        supply.enter("k")
    supply.enter("other")
    supply.leave("other")
    for _ in range(63):
        supply.leave("k")
    supply.leave("k", KEY_BYTES)
    supply.enter("k", KEY_BYTES)
    assert (supply._waiting.total(), supply._sizes.total()) == (1, KEY_BYTES)


def test_a_worker_without_a_maker_says_that_packages_are_off(make_rig):
    rig = make_rig(has_layers=False)
    for path in ("/v1/runs", "/v1/sessions"):
        for form in ({}, {"stream": True}):
            reply = rig.post(path, packages=["numpy"], **form)
            found = reply.json or {"error": json.loads(reply.data.splitlines()[-1])["data"]}
            assert (found["error"]["code"], found["error"]["param"]) == ("package_not_allowed", "packages"), path
    assert rig.get("/v1/layers/lay_1").status_code == 404


def test_a_layer_is_shown_to_those_that_used_it(rig):
    rig.post(packages=["numpy"])
    key = rig.layers.asked[0]["key"]
    facts = LayerFacts(
        id="lay_1", key=key, language="python", image="i", request=("numpy",), size=4096, sha256="0" * 64,
        packages=(LockedPackage("numpy", "2.0.1", "a" * 64),), is_pinned=False, is_shared=True,
        created_at=1_700_000_000.5, users=(key,),
    )  # fmt: skip
    rig.layers.known[key, "lay_1"] = facts
    assert rig.get("/v1/layers/lay_1").json == {
        "id": "lay_1", "object": "layer", "language": "python", "size": 4096,
        "packages": [{"name": "numpy", "version": "2.0.1", "sha256": "a" * 64}],
        "created_at": "2023-11-14T22:13:20.500Z",
    }  # fmt: skip
    for path, auth in (("lay_1", OTHER), ("lay_2", AUTH), ("..%2f..%2fetc", AUTH), ("x" * 5000, AUTH)):
        reply = rig.get(f"/v1/layers/{path}", auth)
        assert (reply.status_code, reply.json["error"]["code"]) in ((404, "layer_not_found"), (404, "not_found"))


def test_a_session_of_the_same_name_must_have_the_same_packages(rig):
    """The order means nothing; a session that cannot be created is not found by its name."""
    go = threading.Event()
    rig.layers.make = lambda _asked: go.wait(10)
    first = rig.post("/v1/sessions", name="n", packages=["b", "a"], background=True).json
    again = rig.post("/v1/sessions", name="n", packages=["a", "b"], background=True)
    other = rig.post("/v1/sessions", name="n", packages=["a"], background=True)
    go.set()
    assert again.json.get("id") == first["id"]
    assert (other.status_code, other.json["error"]["code"]) == (409, "session_differs")


def test_a_session_can_be_deleted_while_its_packages_are_made(rig):
    under_way, go = threading.Event(), threading.Event()

    def make(_asked):
        under_way.set()
        assert go.wait(10)

    rig.layers.make = make
    session = rig.post("/v1/sessions", packages=["numpy"], background=True).json
    assert under_way.wait(10)
    assert rig.get(f"/v1/sessions/{session['id']}").json["status"] == "creating"
    other = rig.client.delete(f"/v1/sessions/{session['id']}", headers=OTHER)
    assert other.status_code == 404
    assert rig.client.delete(f"/v1/sessions/{session['id']}", headers=AUTH).status_code == 200
    ended = rig.get(f"/v1/sessions/{session['id']}").json
    assert (ended["status"], ended["end_reason"]) == ("ended", "deleted")
    deadline = time.monotonic() + 5
    while rig.sessions._creating:
        assert time.monotonic() < deadline, "it is still being created"
        time.sleep(0.01)
    go.set()
    while not rig.layers.released:
        assert time.monotonic() < deadline, "the layer was not released"
        time.sleep(0.01)
    assert (rig.pool.wanted, rig.sessions._unwanted, rig.sessions._counted.total()) == ([], set(), 0)
