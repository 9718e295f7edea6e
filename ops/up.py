"""`make up`: install what is missing, build the first language, start the service, wait until it is healthy.

Run by the system's Python before anything is installed, so standard library only. Every step is skipped when
its result is there already.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ops import checks, containers, host, install, version
from ops.down import stop
from ops.environment import clean
from ops.install import InstallError
from ops.installed import runs_as_units
from ops.state import DEFAULT_STATE_DIR, StatePlace, address, is_running, processes, turn, unusable
from ops.worker_socket import canary, failing

#: On a machine that is emulated, or busy with its first images. What cannot work is found and told at once.
HEALTHY_WITHIN_S = 180.0
POLL_S = 0.1
LOG_LINES = 20
LONGEST_LOG_BYTES = 64 * 1024 * 1024
FIRST_LANGUAGE = "python"


class Up:
    """One `make up`, with its clock."""

    def __init__(
        self, *, log_tail: Callable[[], str] | None = None, failed: Callable[[], str | None] = lambda: None
    ) -> None:
        """`log_tail` returns the last lines of the service's log where that is not a file of its own, `failed` what
        has ended for good.
        """
        self._log_tail = log_tail or self._file_tail
        self._failed = failed
        self._start = time.monotonic()
        os.environ.setdefault("RUNYARD_ENV", "development")
        self._place = StatePlace.of_environment()
        self._bind = os.environ.get("BIND") or "127.0.0.1"
        self._port = os.environ.get("PORT") or "8080"
        self._log_start = 0

    def run(self) -> None:
        """Raises InstallError with the sentence to show."""
        check_machine()
        try:
            self._place.state_dir.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise InstallError(f"STATE_DIR: {e}") from e
        with turn(self._place, self.say):
            self._start_if_needed()
        self._greet()

    def _start_if_needed(self) -> None:
        if runs_as_units(self._place):
            raise InstallError("the service runs under systemd: make install upgrades it, make down stops it")
        digest = install.code_digest()
        wanted = {"code": digest, "settings": _settings_digest()}
        if is_running(self._place):
            if self._is_as_wanted(wanted) and not self._images_outdated():
                self.say("already running with the current code and settings")
                return self.wait_until_healthy(None)
            self.say("code or settings have changed: stopping the running service")
            if stop(self._place, self.say):
                raise InstallError("the running service could not be stopped")
        elif processes(self._place):
            self.say("cleaning up after a killed supervisor")
            stop(self._place, self.say)
        self.check_port()
        self.install(digest)
        process = self._launch()
        self._place.started.write_text(json.dumps({**wanted, "url": self.url}))
        return self.wait_until_healthy(process)

    @property
    def url(self) -> str:
        return address(self._bind, self._port)

    def _is_as_wanted(self, wanted: dict[str, str]) -> bool:
        try:
            started = json.loads(self._place.started.read_text())
        except (OSError, ValueError):
            return False
        return all(started.get(name) == value for name, value in wanted.items())

    def install(self, digest: str) -> None:
        self._place.make()
        missing = install.missing_packages()
        if missing:
            self.say(f"installing {', '.join(missing)}")
            install.install_packages(missing)
        current = install.installed_digest(self._place) == digest
        if not current:
            self.say("creating a virtual environment")
            install.make_venv(self._place.venv)
        with ThreadPoolExecutor(max_workers=1) as background:
            image = background.submit(self._build_first_image)
            if not current:
                install.install_service(self._place, digest)
                self.say("the service is installed")
            image.result()

    def _build_first_image(self) -> None:
        done = subprocess.run(self._builder(_first_language()), env=clean(), cwd=install.ROOT, check=False)
        if done.returncode != 0:
            raise InstallError("the first runner image could not be built (see above)")

    def _images_outdated(self) -> bool:
        """Whether an image that is built was made of other inputs; one not built yet is the builder's to make."""
        argv = [*self._builder(), "--check"]
        done = subprocess.run(argv, env=clean(), cwd=install.ROOT, capture_output=True, text=True, check=False)
        return any((self._place.images / f"{name}.json").exists() for name in done.stdout.split())

    def _builder(self, *languages: str) -> list[str]:
        return [str(self._place.python), "-m", "ops.images", "--images", str(self._place.images), *languages]

    def _launch(self) -> subprocess.Popen[bytes]:
        """Start the supervisor, detached. The settings are judged before, so that it cannot end at once."""
        argv = [str(self._place.python), "-P", "-s", "-m", "ops.supervisor"]
        checked = subprocess.run(
            [*argv, "--check"], env=clean(), cwd="/", capture_output=True, text=True, check=False
        )
        if checked.returncode != 0:
            raise InstallError("the service cannot start:\n" + checked.stderr.strip())
        log = self._place.log
        if log.exists() and log.stat().st_size > LONGEST_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        self.say("starting")
        with log.open("ab") as out:
            self._log_start = out.tell()
            return subprocess.Popen(
                argv,
                env=clean(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def wait_until_healthy(self, process: subprocess.Popen[bytes] | None) -> None:
        deadline = time.monotonic() + HEALTHY_WITHIN_S
        said = "nothing"
        while time.monotonic() < deadline:
            if process is not None and process.poll() is not None:
                raise InstallError(f"the service ended with {process.returncode}; its log:\n{self._log_tail()}")
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:  # noqa: S310
                    if answer.status == 200:
                        return self._send_canary()
            except urllib.error.HTTPError as e:
                said = e.read().decode(errors="replace")
            except OSError as e:
                said = str(e)
            ended = self._failed()
            if ended is not None:
                raise InstallError(f"{ended}; its log:\n{self._log_tail()}")
            self._check_sandboxes()
            time.sleep(POLL_S)
        raise InstallError(
            f"not healthy after {HEALTHY_WITHIN_S:.0f} s ({self.url}/readyz says: {said}); its log:\n"
            f"{self._log_tail()}\n(make down stops it)"
        )

    def _check_sandboxes(self) -> None:
        """Raises InstallError with the engine's own words if the first language's sandboxes cannot be made."""
        found = failing(self._place).get(_first_language())
        if found is not None:
            raise self._no_sandboxes(f"tried {found['times']} times: {found['words']}", found["remedy"])

    def _send_canary(self) -> None:
        """Run the first language's example as any job. Raises InstallError with the words about its failure."""
        self.say(f"running a test program in {_first_language()}")
        words, remedy = canary(self._place, _first_language())
        if words:
            raise self._no_sandboxes(words, remedy)

    def _no_sandboxes(self, words: str, remedy: str) -> InstallError:
        return InstallError(
            f"the service runs, but cannot run a program in {_first_language()}: {words}\n    -> {remedy}\n"
            f"its log:\n{self._log_tail()}\n(make down stops it)"
        )

    def _file_tail(self) -> str:
        try:
            with self._place.log.open(errors="replace") as log:
                log.seek(self._log_start)
                lines = log.read().splitlines()
        except OSError:
            return "    (none)"
        return "\n".join("    " + line for line in lines[-LOG_LINES:])

    def check_port(self) -> None:
        """Say that somebody else has the port before anything is installed for it."""
        family = socket.AF_INET6 if ":" in self._bind else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._bind, int(self._port)))
            except (OSError, ValueError, OverflowError) as e:
                raise InstallError(f"cannot listen on BIND={self._bind} PORT={self._port}: {e}") from e

    def _greet(self) -> None:
        keys = os.environ.get("API_KEYS", "")
        token = keys.split(",")[0].split(":")[0].strip()
        shown = token or ("dev_123" if os.environ["RUNYARD_ENV"] == "development" else "TOKEN")
        origin = (
            "the first of API_KEYS" if token else "the development token" if shown != "TOKEN" else "none is set"
        )
        print(
            f"\nRunyard is up after {time.monotonic() - self._start:.1f} s: {self.url}\n"
            f"Token: {'***' if token else shown} ({origin}). Log: {self._place.log}. Stop with: make down\n\n"
            f"curl -s {self.url}/v1/runs -H 'Authorization: Bearer {'$TOKEN' if token else shown}' "
            "-H 'Content-Type: application/json' \\\n"
            f"""  -d '{{"language":"{_first_language()}","code":"{_HELLO.get(_first_language(), "")}"}}'\n""",
            flush=True,
        )

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._start:5.1f} s] {text}", file=sys.stderr, flush=True)


_HELLO = {
    "python": "print(1+1)",
    "node": "console.log(1+1)",
    "bash": "echo $((1+1))",
    "go": "package main\\nfunc main() { println(1+1) }",
    "rust": 'fn main() { println!(\\"{}\\", 1+1) }',
}


def _first_language() -> str:
    wanted = [name.strip() for name in os.environ.get("LANGUAGES", "").split(",") if name.strip()]
    return FIRST_LANGUAGE if not wanted or FIRST_LANGUAGE in wanted else wanted[0]


def check_machine() -> None:
    """Raises InstallError with what this machine lacks to run the service at all, and the remedy."""
    if os.geteuid() != 0:
        raise InstallError("the service must be started as root: it creates namespaces and control groups")
    if platform.machine() != "x86_64":
        raise InstallError(f"only x86-64 is supported; this is {platform.machine()}")
    if os.environ.get("ENGINE", "auto") in {"", "auto", "oci"}:
        _check_kernel()
    problem = unusable(Path(os.environ.get("STATE_DIR") or DEFAULT_STATE_DIR))
    if problem:
        raise InstallError(problem)


def _check_kernel() -> None:
    """Raises InstallError with each requirement of the engine oci that this machine lacks, and the remedy."""
    if os.environ.get("ENGINE") != "oci" and containers.version() is not None:
        return  # a Docker daemon may serve instead
    host.prepare()  # controllers that only have to be mounted are not missing
    missing = [check for check in checks.machine_checks() if check.required and not check.ok]
    if missing:
        lines = "\n".join(f"    {check.name}: {check.detail} -> {check.mend}" for check in missing)
        raise InstallError(f"this machine cannot run sandboxes:\n{lines}")


def _settings_digest() -> str:
    """Names the environment as far as the service reads it; the names are those of the settings table."""
    return hashlib.sha256(json.dumps(given_settings(), sort_keys=True).encode()).hexdigest()


def given_settings() -> dict[str, str]:
    """Return the settings of the caller's environment, by name."""
    source = (install.ROOT / "config/settings.py").read_text()
    given = {name.upper(): value for name, value in os.environ.items()}
    # A name that stands in the table's module in lower case is a setting, or close enough to restart for.
    return {
        name: value
        for name, value in given.items()
        if f"    {name.lower()}: " in source or name.startswith(("RUNNER_IMAGE_", "OTEL_"))
    }


def main() -> int:
    """0 when the service is healthy."""
    if version.asked():
        return 0
    os.umask(0o022)
    try:
        Up().run()
    except InstallError as e:
        print(f"make up: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make up: interrupted; run it again to continue, or run make down", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
