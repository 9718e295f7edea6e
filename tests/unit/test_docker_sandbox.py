"""What a container has used when its group is gone; taking one apart when the daemon does not at the first word."""

from __future__ import annotations

import pytest

from sandbox.engines import EngineError, Stats
from sandbox.engines.cgroups.group import Bounds
from sandbox.engines.docker import sandbox as module
from sandbox.engines.docker.freezer import DaemonFreezer
from sandbox.engines.docker.sandbox import REMOVE_AGAIN_S, DockerSandbox
from sandbox.engines.runtime_features import RuntimeFeatures


class Daemon:
    """Answers each removal as told; the last answer stays."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), 0

    def remove(self, container):
        assert container == "c"
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def never_started(monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda _seconds: None)

    def never_started(daemon):
        made = DockerSandbox("name", None, None, Bounds(1 << 20, 1.0, 8), None, RuntimeFeatures(), daemon)
        made.container = "c"
        given_back = []
        made.undo.callback(given_back.append, "uid")
        return made, given_back

    return never_started


@pytest.mark.parametrize("failures", [0, 1, len(REMOVE_AGAIN_S)])
def test_a_container_is_asked_away_again_after_failures(never_started, failures):
    daemon = Daemon(*[EngineError("no")] * failures, False, True)
    sandbox, given_back = never_started(daemon)
    sandbox.destroy()
    assert (daemon.asked, given_back) == (failures + 2, ["uid"])


def test_a_daemon_that_never_removes_is_given_up_and_that_is_said(never_started, caplog):
    daemon = Daemon(EngineError("no"))
    sandbox, given_back = never_started(daemon)
    sandbox.destroy()
    assert daemon.asked == len(REMOVE_AGAIN_S) + 1
    assert given_back == ["uid"]
    assert "a container was not removed" in caplog.text


class Group:
    """Is there until it is removed."""

    def __init__(self):
        self.removed = False

    def stats(self):
        if self.removed:
            raise FileNotFoundError
        return Stats(cpu_ns=5, memory_peak_bytes=7, oom_kills=0)


@pytest.mark.parametrize(
    ("answer", "kills"), [(True, 1), (False, 0), (EngineError("no"), 0)], ids=["oom", "no oom", "not known"]
)
def test_of_a_group_that_is_gone_the_daemon_knows_whether_memory_was_the_cause(never_started, answer, kills):
    daemon = Daemon(answer)
    daemon.ran_out_of_memory = lambda container, _since: daemon.remove(container)
    sandbox, _ = never_started(daemon)
    sandbox._group = group = Group()
    sandbox.stats()
    group.removed = True
    assert sandbox.stats() == Stats(cpu_ns=5, memory_peak_bytes=7, oom_kills=kills)


# -- freezing through the daemon ---------------------------------------------------------------------


class PausingDaemon:
    """Notes what it is asked for; `fails` names what it refuses."""

    def __init__(self, fails=()):
        self.asked = []
        self._fails = fails

    def pause(self, container):
        self._do("pause", container)

    def unpause(self, container):
        self._do("unpause", container)

    def _do(self, what, container):
        self.asked.append((what, container))
        if what in self._fails:
            raise EngineError(what)


def test_a_container_is_frozen_and_thawed_once():
    daemon = PausingDaemon()
    freezer = DaemonFreezer(daemon, "c1")
    assert freezer.freeze()
    freezer.thaw()
    freezer.thaw()
    freezer.close()
    assert daemon.asked == [("pause", "c1"), ("unpause", "c1")]


def test_what_the_daemon_does_not_freeze_goes_on():
    daemon = PausingDaemon(fails=("pause",))
    assert not DaemonFreezer(daemon, "c1").freeze()
    assert daemon.asked == [("pause", "c1"), ("unpause", "c1")]


def test_a_container_that_dies_frozen_is_thawed_so_that_it_can():
    daemon = PausingDaemon(fails=("unpause",))
    freezer = DaemonFreezer(daemon, "c1")
    assert freezer.freeze()
    freezer.close()
    assert daemon.asked[-1] == ("unpause", "c1")
