"""An api and workers at a broker, killed at the named points of a run's life (`config.failpoints`), and after 202."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from tests.support.marks import marked
from tests.support.own_service import UNREACHABLE, is_ready
from tests.support.workers import until

PROGRAM = "echo begun; echo x > outputs/f; sleep 0.3; echo done"


class Asked:
    """Requests at the same time, by the names of their programs."""

    def __init__(self, service, bodies):
        self.replies = {}

        def ask(name, body):
            with suppress(*UNREACHABLE):
                self.replies[name] = service.post("/v1/runs", json=body)

        self.threads = [threading.Thread(target=ask, args=each) for each in bodies.items()]
        for thread in self.threads:
            thread.start()

    def end(self):
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()

    def check(self, cluster, runs):
        """Check that what was answered is true: a run that is named is there, and what is refused has not begun."""
        known = {run["id"]: run for run in runs}
        for name, (status, _, body) in self.replies.items():
            assert status in (200, 202, 500, 503), body
            if status == 503:
                assert cluster.marks.names[name] == 0
                continue
            run = known[body["run_id"] if status == 500 else body["id"]]
            assert cluster.marks.names[name] == cluster.marks.runs[run["id"]]
            if status == 200:
                assert run == body
            elif status == 500:
                assert run["error"]["code"] == body["error"]["code"]


@pytest.mark.parametrize(
    "points",
    [
        ["started", "resulted"],
        pytest.param(["leased", "created", "exited", "collecting"], marks=pytest.mark.slow),
    ],
    ids=",".join,
)
def test_workers_that_are_killed_at_a_point_lose_their_runs_and_nothing_else(start_cluster, tmp_path, points):
    cluster = start_cluster()
    died = {point: tmp_path / point for point in points}
    members = [cluster.add(RUNYARD_DIE_AT=f"{point}:{path}") for point, path in died.items()]
    cluster.wait()
    ways = {f"{way}.{n}": way == "background" for n in range(len(points)) for way in ("waited", "background")}
    asked = Asked(cluster.service, {name: marked(name, PROGRAM, background=way) for name, way in ways.items()})
    for member in members:
        member.worker.process.wait(20)
        member.again(RUNYARD_DIE_AT="")
    asked.end()
    assert [point for point, path in died.items() if not path.exists()] == []
    assert set(asked.replies) == set(ways)
    cluster.wait()
    runs = cluster.settle()
    assert {(run["status"], run["error"] and run["error"]["code"]) for run in runs} == {("error", "worker_lost")}
    asked.check(cluster, runs)
    cluster.run("again")
    cluster.check()


@pytest.mark.slow
def test_the_queue_of_a_worker_that_is_killed_is_removed_with_what_is_in_it(start_cluster):
    cluster = start_cluster()
    kept, killed = cluster.add(), cluster.add()
    cluster.wait()
    assert len(cluster.queues()) == 3
    killed.kill()
    # Half of these are sent to its queue, as it is not missed yet.
    asked = Asked(cluster.service, {f"late.{n}": marked(f"late.{n}", "echo done") for n in range(4)})
    asked.end()
    until(lambda: all(consumers for _, consumers in cluster.queues().values()), 90)
    assert len(cluster.queues()) == 2
    assert {messages for messages, _ in cluster.queues().values()} == {0}
    asked.check(cluster, cluster.settle())
    assert kept.is_idle()
    cluster.check()


@pytest.mark.parametrize("way", ["background", pytest.param("waited", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("point", "status", "code"),
    [
        pytest.param("accepted", "error", "interrupted", marks=pytest.mark.slow),
        pytest.param("ended", "succeeded", None, marks=pytest.mark.slow),
        ("recorded", "succeeded", None),
    ],
)
def test_an_api_that_is_killed_at_a_point_leaves_its_run_one_end(
    lasting_cluster, tmp_path, point, status, code, way
):
    cluster, name = lasting_cluster, f"{point}.{way}"
    died = tmp_path / "died"
    cluster.die_at.write_text(f"{point}:{died}")
    known = {run["id"] for run in cluster.settle()}
    asked = Asked(cluster.service, {name: marked(name, PROGRAM, background=way == "background")})
    until(died.exists, 20)
    cluster.die_at.write_text("")
    asked.end()
    until(lambda: is_ready(cluster.service), 60)
    (run,) = [run for run in cluster.settle() if run["id"] not in known]
    assert (run["status"], run["error"] and run["error"]["code"]) == (status, code)
    assert run["stdout"] == ("begun\ndone\n" if status == "succeeded" else "")
    assert cluster.marks.names[name] == (status == "succeeded")
    cluster.run(f"after.{name}")
    cluster.check()


@pytest.mark.parametrize("seconds", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_api_that_is_killed_after_202_loses_no_run(lasting_cluster, seconds):
    cluster = lasting_cluster
    waits = {"waited": marked("waited", "sleep 50", limits={"timeout_ms": 60_000})} if seconds else {}
    waited = Asked(cluster.service, waits)
    until(lambda: all(cluster.marks.names[name] for name in waits))
    programs = {f"after-202.{seconds}.{n}": f"sleep {seconds}; echo done" for n in range(3)}
    accepted = [
        cluster.service.post("/v1/runs", json=marked(name, code, background=True))
        for name, code in programs.items()
    ]
    cluster.api.kill()
    waited.end()
    cluster.api.again()
    cluster.wait()
    assert [reply.status for reply in accepted] == [202] * 3
    assert [cluster.service.ended(reply.body["id"])["stdout"] for reply in accepted] == ["done\n"] * 3
    if seconds:
        run = cluster.service.ended(cluster.marks.run_of["waited"])
        assert (run["status"], run["error"]["code"]) == ("error", "interrupted")
    cluster.check()
