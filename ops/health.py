"""Wait until a service that was started answers and has run a test program. Standard library only.

A machine whose ROLE is `api` is healthy when its own checks are good: the workers are on other machines, and may be
started later. One whose ROLE is `worker` has no address: it is asked at its socket.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from config.roles import ALL, Role
from ops.install import InstallError
from ops.progress import StartProgress, look_at
from ops.state import StatePlace
from ops.worker_socket import ask, canary, failing

#: Without progress. Permanent errors are reported at once; a start on a slow machine is waited for.
IDLE_AT_MOST_S = 180.0
#: With any progress.
HEALTHY_WITHIN_S = 3600.0
#: For one answer: the first one takes a slow machine several seconds.
ANSWER_S = 30.0
POLL_S = 0.1
#: The questions must not be what keeps a slow service busy: a pause of so many times what the last one took.
PAUSE_RATIO, LONGEST_PAUSE_S = 5.0, 5.0
SAY_EVERY_S = 60.0
#: The checks of /readyz that are about workers, and those that begin so.
WORKER_CHECKS = frozenset({"worker", "languages", "sandboxes", "posture"})
POSTURE_CHECKS = "posture."
LOG_LINES = 20


class HealthWait:
    """The wait for one start. `failed` returns what has ended for good, `log_tail` the last lines of the log."""

    def __init__(
        self,
        place: StatePlace,
        url: str,
        language: str,
        *,
        role: Role = ALL,
        say: Callable[[str], None],
        log_tail: Callable[[], str],
        failed: Callable[[], str | None],
    ) -> None:
        self._place = place
        self._url = url
        self._language = language
        self._role = role
        self._asked = f"{url}/readyz" if role.has_api else "the worker"
        self._say = say
        self._log_tail = log_tail
        self._failed = failed

    def wait(self, process: subprocess.Popen[bytes] | None) -> None:
        """Wait while there is progress. Raises InstallError if the service ends or cannot run a program."""
        began = said_at = time.monotonic()
        progress = StartProgress(lambda: look_at(self._place))
        while True:
            asked_at = time.monotonic()
            if process is not None and process.poll() is not None:
                raise InstallError(f"the service ended with {process.returncode}; its log:\n{self._log_tail()}")
            ready, said = readiness(self._place, self._url, self._role)
            if ready:
                return self._send_canary() if self._role.has_worker else None
            ended = self._failed()
            if ended is not None:
                raise InstallError(f"{ended}; its log:\n{self._log_tail()}")
            self._check_sandboxes()
            now, idle_s = time.monotonic(), progress.idle_s()
            if idle_s > IDLE_AT_MOST_S or now - began > HEALTHY_WITHIN_S:
                raise InstallError(self._not_healthy(now - began, idle_s, said))
            if now - said_at > SAY_EVERY_S:
                said_at = now
                self._say(f"not healthy yet after {now - began:.0f} s ({self._asked} says: {said.strip()})")
            time.sleep(min(max(POLL_S, PAUSE_RATIO * (now - asked_at)), LONGEST_PAUSE_S))

    def _not_healthy(self, waited_s: float, idle_s: float, said: str) -> str:
        return (
            f"not healthy after {waited_s:.0f} s, the last {idle_s:.0f} s without progress "
            f"({self._asked} says: {said.strip()}); its log:\n{self._log_tail()}"
        )

    def _check_sandboxes(self) -> None:
        """Raise InstallError with the engine's message if the first language's sandboxes cannot be made."""
        if not self._role.has_worker:
            return
        found = failing(self._place).get(self._language)
        if found is not None:
            raise self._no_sandboxes(f"tried {found['times']} times: {found['words']}", found["remedy"])

    def _send_canary(self) -> None:
        """Run the first language's example as any job. Raises InstallError with the reason of its failure."""
        self._say(f"running a test program in {self._language}")
        words, remedy = canary(self._place, self._language)
        if words:
            raise self._no_sandboxes(words, remedy)

    def _no_sandboxes(self, words: str, remedy: str) -> InstallError:
        return InstallError(
            f"the service runs, but cannot run a program in {self._language}: {words}\n    -> {remedy}\n"
            f"its log:\n{self._log_tail()}"
        )


def readiness(place: StatePlace, url: str, role: Role) -> tuple[bool, str]:
    """Ask the part of a service that this machine has, once. Returns as `is_ready` does."""
    if not role.has_api:
        return _is_worker_ready(place)
    ready, said = is_ready(url)
    return (ready, said) if ready or role.has_worker else (_is_good_but_for_workers(said), said)


def _is_good_but_for_workers(said: str) -> bool:
    """Return whether each check of an answer of /readyz is good that is not about workers."""
    try:
        checks = json.loads(said)["checks"]
        own = [state for name, state in checks.items() if not is_about_workers(name)]
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return bool(own) and all(state == "ok" for state in own)


def is_about_workers(check: str) -> bool:
    """Return whether a check of /readyz is about workers."""
    return check in WORKER_CHECKS or check.startswith(POSTURE_CHECKS)


def _is_worker_ready(place: StatePlace) -> tuple[bool, str]:
    status = (ask(place, {"op": "status"}) or {}).get("status")
    if not isinstance(status, dict):
        return False, "nothing: it does not answer"
    if not any(language.get("ready") for language in status.get("languages", ())):
        return False, "no language is ready"
    if status.get("broker") != "ok":
        return False, "no connection to the broker"
    return True, ""


def is_ready(url: str) -> tuple[bool, str]:
    """Ask a service once. Returns whether it is ready, and its answer or the reason why there is none."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=ANSWER_S) as answer:  # noqa: S310
            return answer.status == 200, ""
    except urllib.error.HTTPError as e:
        return False, e.read().decode(errors="replace")
    except OSError as e:
        return False, str(e)


def last_lines(text: str) -> str:
    """Return the last lines of a log, indented."""
    return "\n".join("    " + line for line in text.splitlines()[-LOG_LINES:])
