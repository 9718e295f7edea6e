"""Wait until a service that was started answers and has run a test program. Standard library only."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from ops.install import InstallError
from ops.state import StatePlace
from ops.worker_socket import canary, failing

#: On a machine that is emulated, or busy with its first images. What cannot work is found and told at once.
HEALTHY_WITHIN_S = 180.0
POLL_S = 0.1
LOG_LINES = 20


class HealthWait:
    """The wait for one start. `failed` returns what has ended for good, `log_tail` the last lines of the log."""

    def __init__(
        self,
        place: StatePlace,
        url: str,
        language: str,
        *,
        say: Callable[[str], None],
        log_tail: Callable[[], str],
        failed: Callable[[], str | None],
    ) -> None:
        self._place = place
        self._url = url
        self._language = language
        self._say = say
        self._log_tail = log_tail
        self._failed = failed

    def wait(self, process: subprocess.Popen[bytes] | None) -> None:
        """Wait. Raises InstallError if the service ends, does not become healthy, or cannot run a program."""
        deadline = time.monotonic() + HEALTHY_WITHIN_S
        said = "nothing"
        while time.monotonic() < deadline:
            if process is not None and process.poll() is not None:
                raise InstallError(f"the service ended with {process.returncode}; its log:\n{self._log_tail()}")
            ready, said = is_ready(self._url)
            if ready:
                return self._send_canary()
            ended = self._failed()
            if ended is not None:
                raise InstallError(f"{ended}; its log:\n{self._log_tail()}")
            self._check_sandboxes()
            time.sleep(POLL_S)
        raise InstallError(
            f"not healthy after {HEALTHY_WITHIN_S:.0f} s ({self._url}/readyz says: {said}); its log:\n"
            f"{self._log_tail()}"
        )

    def _check_sandboxes(self) -> None:
        """Raise InstallError with the engine's own words if the first language's sandboxes cannot be made."""
        found = failing(self._place).get(self._language)
        if found is not None:
            raise self._no_sandboxes(f"tried {found['times']} times: {found['words']}", found["remedy"])

    def _send_canary(self) -> None:
        """Run the first language's example as any job. Raises InstallError with the words about its failure."""
        self._say(f"running a test program in {self._language}")
        words, remedy = canary(self._place, self._language)
        if words:
            raise self._no_sandboxes(words, remedy)

    def _no_sandboxes(self, words: str, remedy: str) -> InstallError:
        return InstallError(
            f"the service runs, but cannot run a program in {self._language}: {words}\n    -> {remedy}\n"
            f"its log:\n{self._log_tail()}"
        )


def is_ready(url: str) -> tuple[bool, str]:
    """Ask a service once. Returns whether it is ready, and its answer or the reason why there is none."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:  # noqa: S310
            return answer.status == 200, ""
    except urllib.error.HTTPError as e:
        return False, e.read().decode(errors="replace")
    except OSError as e:
        return False, str(e)


def last_lines(text: str) -> str:
    """Return the last lines of a log, indented."""
    return "\n".join("    " + line for line in text.splitlines()[-LOG_LINES:])
