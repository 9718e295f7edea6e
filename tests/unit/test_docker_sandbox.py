"""Taking a container apart when the daemon does not do it at the first word."""

from __future__ import annotations

import pytest

from sandbox.engines import EngineError
from sandbox.engines.cgroups.group import Bounds
from sandbox.engines.docker import sandbox as module
from sandbox.engines.docker.sandbox import REMOVE_AGAIN_S, DockerSandbox
from sandbox.engines.traits import Traits


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
        made = DockerSandbox("name", None, None, Bounds(1 << 20, 1.0, 8), None, Traits(), daemon)
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
