"""`make up`: install what is missing, build the first language, start the service, wait until it is healthy.

Run by the system's Python before anything is installed, so standard library only. Every step is skipped when
its result is there already. A service that runs is stopped only after code, settings and port of the new one have
been found good; if the new one does not become healthy, the earlier one is started again (`ops.takeover`).
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from config.roles import Role, role_of
from config.variables import find_other
from ops import install, settings, version
from ops.down import stop
from ops.environment import clean
from ops.fitness import check_account, check_machine, check_role, check_state_dir
from ops.health import HealthWait, last_lines
from ops.hints import first_language, greeting, make_command
from ops.install import InstallError
from ops.installed import runs_as_units
from ops.ports import listening_problem
from ops.record import ServiceRecord
from ops.staging import StagedCode
from ops.state import StatePlace, address, is_running, processes, service_lock
from ops.takeover import Earlier

LONGEST_LOG_BYTES = 64 * 1024 * 1024


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
        self._place = StatePlace.of_environment()
        self._log_start = 0
        self._image: Future[None] | None = None

    def run(self) -> None:
        """Install and start the service. Raises InstallError with the sentence to show."""
        settings.take_other_names()
        if settings.has_file(settings.folder_of(self._place)):
            check_account()  # the file may choose another engine; the rest is checked when it has been read
            check_state_dir()
        else:
            check_role()
            check_machine()
        try:
            self._place.state_dir.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise InstallError(f"STATE_DIR: {e}") from e
        with ThreadPoolExecutor(max_workers=1) as background, service_lock(self._place, self.say):
            self._start_if_needed(background)
        self._greet()

    def _start_if_needed(self, background: ThreadPoolExecutor) -> None:
        if runs_as_units(self._place):
            raise InstallError("the service runs under systemd: make install upgrades it, make down stops it")
        running = is_running(self._place)
        code = StagedCode(self._place, self.say, is_running=running)
        begin: Callable[[], None] = lambda: None  # noqa: E731  # nothing is built while a service runs
        if not running and not settings.has_file(settings.folder_of(self._place)):
            self.check_port()  # all settings are known already
            # The builder is a process of the service too: it would be ended with what a killed supervisor left.
            if self.role.has_worker and not processes(self._place):
                begin = functools.partial(self._begin_image, background)
        record = self.prepare(code, lambda: settings.resolve(code.python, self._place), begin)
        wanted = {"code": code.digest, "settings": settings_digest(record)}
        if running and self._is_as_wanted(wanted) and not self._images_outdated():
            self.say("already running with the current code and settings")
            return self.wait_until_healthy(None)
        self.check(code)
        self.check_port(processes(self._place))
        if not running:
            return self._start_first(record, wanted)
        earlier = Earlier.of(self._place, record)
        self.say("code or settings have changed: stopping the running service")
        with earlier.brought_back(code, self):
            earlier.stop(self.say)
            code.activate()
            self._launch(record, wanted)
        return None

    def _start_first(self, record: ServiceRecord, wanted: dict[str, str]) -> None:
        """Start where no service runs. One that runs but is not healthy is left to be looked at."""
        if self._image is None and processes(self._place):
            self.say("cleaning up after a killed supervisor")
            stop(self._place, self.say)
        try:
            self._launch(record, wanted)
        except InstallError as e:
            if is_running(self._place):
                raise InstallError(f"{e}\n({make_command(self._place, 'down')} stops it)") from e
            self._place.settings.unlink(missing_ok=True)
            raise

    def _begin_image(self, background: ThreadPoolExecutor) -> None:
        """Build the first image while the service is being installed.

        If it is installed already, nothing is built before the settings are known to be valid.
        """
        self._image = background.submit(self.build_first_image)

    @property
    def role(self) -> Role:
        """Return the role in this process's environment; before the settings are known that of the caller's."""
        return role_of(os.environ)

    @property
    def url(self) -> str:
        return address(os.environ.get("BIND") or "127.0.0.1", os.environ.get("PORT") or "8080")

    def _is_as_wanted(self, wanted: dict[str, str]) -> bool:
        try:
            started = json.loads(self._place.started.read_text())
        except (OSError, ValueError):
            return False
        return all(started.get(name) == value for name, value in wanted.items())

    def prepare(
        self, code: StagedCode, resolve: Callable[[], ServiceRecord], begin: Callable[[], None]
    ) -> ServiceRecord:
        """Install packages and code while a service may run, and make the settings those of this process.

        `begin` is called before the code is installed, if it has to be. Raises InstallError, also for settings that
        are not valid.
        """
        self._place.make()
        knows_role = not settings.has_file(settings.folder_of(self._place))
        builds = knows_role and self.role.has_worker
        self._install_packages(install.PACKAGES if builds else install.BASE_PACKAGES)
        code.update(begin)
        record = resolve()
        record.adopt()
        code.update()  # the settings may ask for traces
        self._install_packages(install.needed_packages())
        return record

    def check(self, code: StagedCode) -> None:
        """Check that the service can start with this process's settings. Raises InstallError with all obstacles."""
        check_machine()
        try:
            # The file has been read; it is not read again, since it may have changed meanwhile.
            settings.resolve(code.python, self._place, check=True, folder=Path("/nonexistent"))
        except InstallError as e:
            raise InstallError(f"the service cannot start:\n{e}") from e

    def _install_packages(self, wanted: dict[str, str]) -> None:
        missing = install.missing_packages(wanted)
        if missing:
            self.say(f"installing {', '.join(missing)}")
            install.install_packages(missing)

    def build_first_image(self) -> None:
        """Build the image of the first language. Raises InstallError if the build fails."""
        done = subprocess.run(self._builder(first_language()), env=clean(), cwd=install.ROOT, check=False)
        if done.returncode != 0:
            raise InstallError("the first runner image could not be built (see above)")

    def _images_outdated(self) -> bool:
        """Return whether a built image was made from other inputs. The builder makes those not built yet."""
        if not self.role.has_worker:
            return False
        argv = [*self._builder(), "--check"]
        done = subprocess.run(argv, env=clean(), cwd=install.ROOT, capture_output=True, text=True, check=False)
        return any((self._place.images / f"{name}.json").exists() for name in done.stdout.split())

    def _builder(self, *languages: str) -> list[str]:
        return [str(self._place.python), "-m", "ops.images", "--images", str(self._place.images), *languages]

    def _launch(self, record: ServiceRecord, wanted: dict[str, str]) -> None:
        """Build the first image where programs run, start the supervisor and wait until the service is healthy."""
        if self._image is not None:
            self._image.result()
        elif self.role.has_worker:
            self.build_first_image()
        process = self.start_supervisor(record)
        self._place.started.write_text(json.dumps({**wanted, "url": self.url, "role": self.role.name}))
        self.wait_until_healthy(process)

    def start_supervisor(self, record: ServiceRecord) -> subprocess.Popen[bytes]:
        """Start it, detached, with these settings, and record them."""
        log = self._place.log
        if log.exists() and log.stat().st_size > LONGEST_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        self.say("starting")
        record.write(self._place.settings)
        with record.adopted(), log.open("ab") as out:
            self._log_start = out.tell()
            return subprocess.Popen(
                [str(self._place.python), "-P", "-s", "-m", "ops.supervisor"],
                env=clean(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def wait_until_healthy(self, process: subprocess.Popen[bytes] | None) -> None:
        """Wait until the service is healthy. Raises InstallError if it does not become so."""
        wait = HealthWait(
            self._place,
            self.url,
            first_language(),
            role=self.role,
            say=self.say,
            log_tail=self._log_tail,
            failed=self._failed,
        )
        wait.wait(process)

    def _file_tail(self) -> str:
        try:
            with self._place.log.open(errors="replace") as log:
                log.seek(self._log_start)
                return last_lines(log.read())
        except OSError:
            return "    (none)"

    def check_port(self, ours: list[int] | None = None) -> None:
        """Check that no process other than `ours` listens on the address of the api. Raises InstallError."""
        if not self.role.has_api:
            return
        bind, port = os.environ.get("BIND") or "127.0.0.1", os.environ.get("PORT") or "8080"
        problem = listening_problem(bind, port, ours or [])
        if problem is not None:
            raise InstallError(problem)

    def _greet(self) -> None:
        print(f"\n{greeting(self._place, self.url, self.role, time.monotonic() - self._start)}\n", flush=True)

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._start:5.1f} s] {text}", file=sys.stderr, flush=True)


def settings_digest(record: ServiceRecord) -> str:
    """Name the settings, and the other variables that only api or worker read."""

    def counts(name: str) -> bool:
        facts = find_other(name)
        return name in record.names or (facts is not None and "images" not in facts.readers)

    read = {name: value for name, value in record.environment.items() if value and counts(name)}
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()


def main() -> int:
    """Start the service. Returns 0 when it is healthy."""
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
