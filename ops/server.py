"""`runyard-server all|api|worker`: the service, or one part of it, in the foreground until a stop signal.

    runyard-server ROLE [--config FILE] [--address ADDRESS] [--port PORT]
    runyard-server config check|show [the same]

Flags are above the environment, which is above the settings file. This process checks the settings, starts the
supervisor, says that the service is up once it has been seen to work, and ends with it. `make up` does the same in
the background, after it has installed what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from config.roles import ROLES
from config.settings import Settings, SettingsError
from config.settings_file import LayeredSettings
from config.version import VERSION
from ops import config_command
from ops.down import STOP_MARGIN_S
from ops.environment import clean
from ops.fitness import check_machine
from ops.hints import greeting
from ops.install import InstallError
from ops.preflight import check_start
from ops.programs import UNTIL_PARENT_ENDS
from ops.record import ServiceRecord
from ops.state import StatePlace, is_running, service_lock
from ops.unit_settings import record_of
from ops.up import Up

EX_CONFIG = 78
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _StopRequested(BaseException):
    """A stop signal came; no other handler may take it for an error."""


class ForegroundService:
    """One start. Raises InstallError with the sentence to show."""

    def __init__(self, layered: LayeredSettings, settings: Settings) -> None:
        self._record: ServiceRecord = record_of(layered)
        self._settings = settings
        self._place = StatePlace.of_environment()
        self._up = Up(log_tail=lambda: "    (above)")
        self._began = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Serve until a stop signal, or until the supervisor ends. Returns the exit status."""
        check_machine()
        with _stop_signals_raise():
            try:
                self._place.state_dir.mkdir(parents=True, exist_ok=True)
                with service_lock(self._place, self._up.say):
                    self._start()
                self._greet()
                assert self._process is not None
                return self._process.wait()
            except _StopRequested:
                return 0
            finally:
                self._stop()

    def _start(self) -> None:
        if is_running(self._place):
            raise InstallError(f"a service runs in {self._place.state_dir} already")
        self._place.make()
        _link_environment(self._place)
        self._up.check_port()
        if self._settings.parts.has_worker:
            self._up.build_first_image()
        self._record.write(self._place.settings)
        # It ends with this process, however that ends. Ctrl-C of a terminal reaches only this process.
        self._process = subprocess.Popen(
            [*UNTIL_PARENT_ENDS, str(self._place.python), "-P", "-s", "-m", "ops.supervisor"],
            env=clean(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        started = {"url": self._up.url, "role": self._settings.role}
        self._place.started.write_text(json.dumps(started))
        self._up.wait_until_healthy(self._process)

    def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            process.terminate()
            process.wait(self._settings.drain_s + STOP_MARGIN_S)
        process.kill()
        process.wait()
        for path in (self._place.started, self._place.settings):
            path.unlink(missing_ok=True)

    def _greet(self) -> None:
        after_s = time.monotonic() - self._began
        print(greeting(self._place, self._up.url, self._settings.parts, after_s, in_foreground=True), flush=True)


@contextmanager
def _stop_signals_raise() -> Iterator[None]:
    """Raise _StopRequested in this thread for the first stop signal, and ignore those that follow."""

    def stop(_number: int, _frame: object) -> NoReturn:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise _StopRequested

    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _link_environment(place: StatePlace) -> None:
    """Give the place this program's own code where it has none: its processes are known by that path."""
    if not place.venv.exists() and _is_installed():
        place.venv.unlink(missing_ok=True)
        place.venv.symlink_to(sys.prefix)
    if not place.python.exists():
        raise InstallError(f"{place.venv} holds no interpreter: run make up once, which installs the service there")


def _is_installed() -> bool:
    """Return whether this code is installed, and not that of a checkout."""
    return Path(__file__).is_relative_to(sys.prefix)


def serve(role: str, flags: dict[str, str], file: Path | None) -> int:
    """Start the service with that role. Returns the exit status."""
    try:
        layered, settings = config_command.load({**flags, "ROLE": role}, file)
        config_command.show_warnings(layered)
        check_start(settings)
    except SettingsError as e:
        config_command.show_problems(e)
        return EX_CONFIG
    try:
        return ForegroundService(layered, settings).run()
    except InstallError as e:
        print(f"runyard-server: {e}", file=sys.stderr)
        return 1


def main() -> int:
    """Run a command. Returns its exit status."""
    if _is_installed() and not sys.flags.safe_path:  # nothing of a caller's own Python may decide which code runs
        os.execve(sys.executable, [sys.executable, "-P", "-s", "-m", "ops.server", *sys.argv[1:]], clean())  # noqa: S606
    options = _parser().parse_args()
    flags = {
        name: value for name, value in (("BIND", options.address), ("PORT", options.port)) if value is not None
    }
    file = None if options.config is None else options.config.absolute()
    os.umask(0o022)
    if options.command == "config":
        if options.what == "show":
            return config_command.show(flags, file)
        return config_command.check(flags, file, connects=options.connect)
    return serve(options.command, flags, file)


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, metavar="FILE", help="settings file, in TOML or YAML by its suffix")
    common.add_argument("--address", help="address that the api listens on (BIND)")
    common.add_argument("--port", help="port that the api listens on (PORT)")
    parser = argparse.ArgumentParser(prog="runyard-server", description="Runs programs in sandboxes: the service.")
    parser.add_argument("--version", action="version", version=f"runyard {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True)
    texts = {"all": "api and worker on this machine", "api": "the api alone", "worker": "a worker alone"}
    for role in ROLES:
        commands.add_parser(role, parents=[common], help=f"start {texts[role]}, in the foreground")
    config = commands.add_parser("config", help="check or show the settings; nothing is started")
    actions = config.add_subparsers(dest="what", required=True)
    check = actions.add_parser("check", parents=[common], help="name each problem; the status is 2 if there is one")
    check.add_argument("--connect", action="store_true", help="also ask the engine, database, bucket and broker")
    actions.add_parser("show", parents=[common], help="show each value and where it comes from, secrets masked")
    return parser


if __name__ == "__main__":
    sys.exit(main())
