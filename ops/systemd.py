"""`make install` and `make uninstall`: the service as units of systemd, started at boot, upgraded in place.

Run by the system's Python before anything is installed, so standard library only. An uninstall keeps /etc/runyard
and STATE_DIR, with records, files and images. A second `make install` changes only differences.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from config.roles import ALL, role_of
from config.version import VERSION
from ops.down import stop
from ops.environment import PATH
from ops.fitness import check_account, check_role
from ops.hints import token_line
from ops.install import InstallError
from ops.installed import (
    HELD,
    SETTINGS,
    has_systemd,
    installed_services,
    is_installed,
    runs_as_units,
    services_of,
    systemctl,
    unit_states,
)
from ops.record import ServiceRecord, read_record
from ops.settings import has_file, resolve, take_other_names
from ops.staging import StagedCode
from ops.state import DEFAULT_STATE_DIR, StatePlace, is_running, processes, service_lock
from ops.takeover import AGAIN
from ops.unit_files import read_files, remove_files, restore_files, write_files
from ops.up import Up, settings_digest

#: Comes with the others, which are started at boot.
PREPARE = "runyard-prepare.service"
#: Of runyard.sysusers.conf.
ACCOUNT, ACCOUNT_UID = "runyard-api", 0x7000_0000
ACCOUNTS = (ACCOUNT, "runyard-egress")
#: Settings of a caller's shell that a new file of settings does not take over.
NOT_KEPT = frozenset({"STATE_DIR", "RUNYARD_ENV"})
#: The settings file of a new installation.
NEW_SETTINGS = SETTINGS.parent / "runyard.toml"
#: In STATE_DIR: digests of the code and the settings that were installed last.
MARKS = "installed.json"


def check_settings(given: dict[str, str]) -> None:
    """Check that no setting is given that the units decide. Raises InstallError."""
    if given.get("STATE_DIR", DEFAULT_STATE_DIR) != DEFAULT_STATE_DIR:
        raise InstallError(
            f"STATE_DIR={given['STATE_DIR']}: the units use {DEFAULT_STATE_DIR}; remove this setting"
        )
    if given.get("UID_BASE", str(ACCOUNT_UID)) != str(ACCOUNT_UID):
        raise InstallError(
            f"UID_BASE={given['UID_BASE']}: the account of the api has {ACCOUNT_UID}; remove this setting"
        )
    for name in ("IMAGES_DIR", "STORAGE_DIR"):
        path = given.get(name)
        if path and not Path(path).is_relative_to(DEFAULT_STATE_DIR):
            raise InstallError(f"{name}={path}: must be inside {DEFAULT_STATE_DIR}: the units can write only there")


class Installation:
    """One `make install`. Raises InstallError with the sentence to show."""

    def __init__(self) -> None:
        self._place = StatePlace(Path(DEFAULT_STATE_DIR).resolve())
        self._is_new = False
        self._asked_role = os.environ.get("ROLE")

    def run(self) -> None:
        """Install or upgrade, and return once a program has run."""
        check_account()
        if is_running(self._place):
            raise InstallError(f"a service started by make up uses {self._place.state_dir}: run make down first")
        self._is_new = not SETTINGS.exists() and not has_file(SETTINGS.parent)
        self._check_callers_settings()
        os.environ["STATE_DIR"] = str(self._place.state_dir)
        up = Up(log_tail=_journal, failed=_failed_units)
        self._place.state_dir.mkdir(parents=True, exist_ok=True)
        with service_lock(self._place, up.say):
            self._install(up)
        where = (
            f"{up.url}\n{token_line(self._place)}"
            if up.role.has_api
            else "a worker, which takes runs from the broker"
        )
        print(
            f"\nRunyard is installed and up: {where}\n"
            f"Settings: {SETTINGS.parent}{' (with a generated token and key)' if self._generates else ''}. "
            "It starts at boot. Log: make logs\nStop with: make down. Remove with: make uninstall",
            flush=True,
        )

    def _check_callers_settings(self) -> None:
        """Refuse what the units decide, and a settings file that they would not read."""
        if not self._is_new:
            return
        take_other_names()
        check_role()
        check_settings(dict(os.environ))
        if has_file(self._place.state_dir):
            raise InstallError(
                f"the settings file in {self._place.state_dir} is not read once the service is installed: "
                f"mkdir -p {SETTINGS.parent} && mv {self._place.state_dir}/runyard.* {SETTINGS.parent}/"
            )
        for name in NOT_KEPT:
            os.environ.pop(name, None)
        if not self._generates:
            return
        generated = {
            "SIGNING_KEY": secrets.token_urlsafe(48),
            "API_KEYS": f"{secrets.token_urlsafe(32)}:default:50:100",
        }
        os.environ.update({name: value for name, value in generated.items() if not os.environ.get(name)})

    @property
    def _generates(self) -> bool:
        """Return whether a token and a key are generated: several machines must have the same."""
        return self._is_new and role_of({"ROLE": self._asked_role or ""}) == ALL

    def _read_settings(self, code: StagedCode) -> ServiceRecord:
        """Return the settings of the files, as the units read them; of the caller where there are none yet."""
        found = resolve(code.python, self._place, folder=SETTINGS.parent, installed_files=not self._is_new)
        check_settings(found.environment)
        role = found.environment.get("ROLE") or ALL.name
        if self._asked_role not in (None, "", role):
            raise InstallError(
                f"ROLE={self._asked_role}: the installed service has ROLE={role}; change role in {SETTINGS.parent}"
            )
        return found

    def _install(self, up: Up) -> None:
        running = runs_as_units(self._place)
        code = StagedCode(self._place, up.say, is_running=running)
        record = up.prepare(code, lambda: self._read_settings(code), lambda: None)
        up.check(code)
        up.check_port(processes(self._place))
        if self._is_new:
            _run([str(code.python), "-P", "-s", "-m", "ops.new_settings", str(NEW_SETTINGS)])
        marks = {"code": code.digest, "settings": settings_digest(record)}
        held = self._place.state_dir / HELD
        units, had = read_files(), installed_services()
        wanted = services_of(up.role)
        changed = self._marks() != marks or held.exists()
        gvisor, broker = shutil.which("runsc", path=PATH) is not None, bool(os.environ.get("AMQP_URL"))
        leaving = [name for name in had if name not in wanted]
        if leaving:
            _run(["systemctl", "disable", "--quiet", *leaving])
        changed = write_files(Path("/"), gvisor=gvisor, role=up.role, broker=broker) or changed
        if changed:  # until it has been installed whole, the next call sees that there is something to do
            (self._place.state_dir / MARKS).unlink(missing_ok=True)
        earlier = read_record(self._place.settings) if running and changed else None
        _run(["systemd-sysusers", "runyard.conf"])
        _run(["systemctl", "daemon-reload"])
        if running and changed:
            up.say("upgrading: stopping the service")
            _run(["systemctl", "stop", *reversed(had)])
        try:
            code.activate()
            held.unlink(missing_ok=True)
            if up.role.has_worker:
                up.build_first_image()
            _run(["systemd-tmpfiles", "--create", "runyard.conf"])
            _run(["systemctl", "enable", "--quiet", *_started(wanted)])
            up.say("starting the units")
            self._start_units(up, wanted)
        except BaseException as e:  # an interruption too must not leave the service stopped
            if not running or not changed:
                raise
            up.say("the service did not start: starting it again as it was")
            systemctl("stop", *reversed(wanted))
            code.revert()
            restore_files(units)
            if earlier is not None:
                earlier.write(held)
                earlier.adopt()
            systemctl("daemon-reload")
            systemctl("enable", "--quiet", *_started(had))
            self._start_units(up, had)
            raise InstallError(f"{str(e) or 'interrupted'}\n{AGAIN}") from e
        code.discard()
        (self._place.state_dir / MARKS).write_text(json.dumps(marks))

    def _start_units(self, up: Up, services: tuple[str, ...]) -> None:
        systemctl("reset-failed", *services)
        _run(["systemctl", "start", "--no-block", *_started(services)])
        up.wait_until_healthy(None)

    def _marks(self) -> dict[str, str] | None:
        """Return what was installed last, None before the first time."""
        try:
            found = json.loads((self._place.state_dir / MARKS).read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def _started(services: Iterable[str]) -> list[str]:
    return [name for name in services if name != PREPARE]


def _journal() -> str:
    """Return the last lines of the units' log."""
    argv = ["journalctl", "--no-pager", "-q", "-o", "cat", "-n", "20", "-u", "runyard-*"]
    said = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    return "\n".join("    " + line for line in said.splitlines())


def _failed_units() -> str | None:
    """Name the units that have ended and are not started again, None if there are none."""
    failed = [name for name, state in unit_states().items() if state == "failed"]
    return f"ended: {', '.join(failed)}" if failed else None


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InstallError(f"{' '.join(argv)} failed: {done.stderr.strip()[-1000:]}")


def uninstall(*, purge: bool) -> None:
    """Stop the units and remove them. Raises InstallError for remains; then nothing is purged."""
    place = StatePlace(Path(DEFAULT_STATE_DIR).resolve())
    if not is_installed() and not purge:
        raise InstallError("no systemd units of the service are installed")
    if is_running(place):
        raise InstallError(f"a service started by make up uses {place.state_dir}: run make down first")

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with service_lock(place, say):
        services = installed_services()
        if is_installed():
            _run(["systemctl", "disable", "--now", "--quiet", *reversed(services)])
        left = stop(place, say)
        if left:
            raise InstallError("could not remove: " + ", ".join(left))
        remove_files(Path("/"))
        _run(["systemctl", "daemon-reload"])
        if services:  # without a name it would mean every unit of the machine
            systemctl("reset-failed", *services)
        for account in ACCOUNTS:
            for program in ("userdel", "groupdel"):  # the account goes with its group, unless that had members
                subprocess.run([program, account], capture_output=True, check=False)
    if purge:
        shutil.rmtree(SETTINGS.parent, ignore_errors=True)
        shutil.rmtree(place.state_dir, ignore_errors=True)
    kept = "nothing was kept" if purge else f"kept: {SETTINGS.parent}, {place.state_dir} (PURGE=1 removes them)"
    print(f"The service was removed; {kept}.")


def _wants_purge() -> bool:
    """Read PURGE. Raises InstallError for anything but 1."""
    given = os.environ.get("PURGE", "")
    if given not in {"", "0", "1"}:
        raise InstallError(f"PURGE={given}: must be 1, which removes records and settings, or unset")
    return given == "1"


def _check_systemd() -> None:
    if os.geteuid() != 0:
        raise InstallError("must be run as root: it writes systemd units")
    if not has_systemd():
        raise InstallError("this machine does not run systemd: start the service with make up")


def main() -> int:
    """Run the command. Returns 0 on success."""
    parser = argparse.ArgumentParser(prog="ops.systemd", description=__doc__)
    parser.add_argument("--version", action="version", version=f"runyard {VERSION}")
    parser.add_argument("what", choices=["install", "uninstall"])
    what = parser.parse_args().what
    os.umask(0o022)
    try:
        _check_systemd()
        if what == "install":
            Installation().run()
        else:
            uninstall(purge=_wants_purge())
    except (InstallError, OSError, subprocess.SubprocessError) as e:
        print(f"make {what}: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"make {what}: interrupted; run it again to continue", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
