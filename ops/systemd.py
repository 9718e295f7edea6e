"""`make install` and `make uninstall`: the service as units of systemd, started at boot, upgraded in place.

Run by the system's Python before anything is installed, so standard library only. What is kept: /etc/runyard and
STATE_DIR, with records, files and images. A second `make install` changes only what is other than before.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from config.version import VERSION
from ops import install
from ops.down import stop
from ops.environment import PATH, clean
from ops.install import InstallError
from ops.installed import (
    SERVICES,
    SETTINGS,
    has_systemd,
    is_installed,
    read_settings,
    runs_as_units,
    systemctl,
    unit_states,
)
from ops.state import DEFAULT_STATE_DIR, StatePlace, is_running, turn
from ops.up import Up, check_machine, given_settings

SOURCES = install.ROOT / "deploy/systemd"
#: Those that are started at boot; the first of SERVICES comes with them.
STARTED = SERVICES[1:]
#: Of runyard.sysusers.conf.
ACCOUNT, ACCOUNT_UID = "runyard-api", 0x7000_0000
#: Settings of a caller's shell that a new file of settings does not take over.
NOT_KEPT = frozenset({"STATE_DIR", "RUNYARD_ENV"})
#: In STATE_DIR: digests of the code and the settings that were installed last.
MARKS = "installed.json"
#: Where each file of SOURCES goes.
TARGETS = {
    **{name: f"etc/systemd/system/{name}" for name in SERVICES},
    "runyard.sysusers.conf": "etc/sysusers.d/runyard.conf",
    "runyard.tmpfiles.conf": "etc/tmpfiles.d/runyard.conf",
}
#: gVisor makes calls that the worker's unit refuses.
GVISOR_DROP_IN = "etc/systemd/system/runyard-worker.service.d/gvisor.conf"
GVISOR_TEXT = "# gVisor traces what it runs.\n[Service]\nSystemCallFilter=@debug\n"


def write_files(root: Path, *, gvisor: bool) -> bool:
    """Write units, account and directories beneath `root`. Returns whether anything is other than it was."""
    texts = {target: (SOURCES / name).read_text() for name, target in TARGETS.items()}
    if gvisor:
        texts[GVISOR_DROP_IN] = GVISOR_TEXT
    changed = False
    for target, text in texts.items():
        path = root / target
        if path.exists() and path.read_text() == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
        changed = True
    return changed


def write_settings(path: Path, given: dict[str, str]) -> bool:
    """Write settings with a generated signing key and token, beside those that are `given`.

    Returns False and leaves those that are there.
    """
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    generated = {
        "RUNYARD_ENV": "production",
        "SIGNING_KEY": secrets.token_urlsafe(48),
        "API_KEYS": f"{secrets.token_urlsafe(32)}:default:50:100",
    }
    with open(fd, "w") as file:
        file.write(
            "# Settings of the service, NAME=value as in docs/configuration.md. After a change: make install\n"
        )
        file.writelines(f"{name}={shlex.quote(value)}\n" for name, value in (generated | given).items())
    return True


def check_settings(given: dict[str, str]) -> None:
    """Raises InstallError for a setting that the units themselves decide."""
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


def remove_files(root: Path) -> None:
    """Remove what `write_files` writes."""
    for target in (*TARGETS.values(), GVISOR_DROP_IN):
        with contextlib.suppress(FileNotFoundError):
            (root / target).unlink()
    with contextlib.suppress(OSError):
        (root / GVISOR_DROP_IN).parent.rmdir()


class Installation:
    """One `make install`. Raises InstallError with the sentence to show."""

    def __init__(self) -> None:
        self._place = StatePlace(Path(DEFAULT_STATE_DIR).resolve())
        self._new_settings = False

    def run(self) -> None:
        """Install or upgrade, and return once a program has run."""
        check_machine()
        if is_running(self._place):
            raise InstallError(f"a service started by make up uses {self._place.state_dir}: run make down first")
        self._use_settings()
        up = Up(log_tail=_journal, failed=_failed_units)
        self._place.state_dir.mkdir(parents=True, exist_ok=True)
        with turn(self._place, up.say):
            self._install(up)
        print(
            f"\nRunyard is installed and up: {up.url}\nToken: the first of API_KEYS in {SETTINGS}"
            f"{' (generated)' if self._new_settings else ''}. It starts at boot. Log: make logs\n"
            "Stop with: make down. Remove with: make uninstall",
            flush=True,
        )

    def _use_settings(self) -> None:
        """Make the file's settings those of this process, as they are the units': what the caller has set goes into
        a new file, and does not count beside an old one.
        """
        callers = given_settings()
        check_settings(callers if not SETTINGS.exists() else {})
        self._new_settings = write_settings(SETTINGS, {n: v for n, v in callers.items() if n not in NOT_KEPT})
        for name in callers:
            os.environ.pop(name, None)
        found = read_settings(SETTINGS.read_text())
        check_settings(found)
        os.environ.update({"RUNYARD_ENV": "production", **found})

    def _install(self, up: Up) -> None:
        digest = install.code_digest()
        marks = {"code": digest, "settings": hashlib.sha256(SETTINGS.read_bytes()).hexdigest()}
        running = runs_as_units(self._place)
        if not running:
            up.check_port()
        if self._place.python.exists():
            self._check()  # before anything is stopped
        changed = self._marks() != marks
        changed = write_files(Path("/"), gvisor=shutil.which("runsc", path=PATH) is not None) or changed
        if changed:  # until it has been installed whole, the next call sees that there is something to do
            (self._place.state_dir / MARKS).unlink(missing_ok=True)
        _run(["systemd-sysusers", "runyard.conf"])
        _run(["systemctl", "daemon-reload"])
        if running and changed:
            up.say("upgrading: stopping the service")
            _run(["systemctl", "stop", *reversed(SERVICES)])
        try:
            up.install(digest)
            self._check()
            _run(["systemd-tmpfiles", "--create", "runyard.conf"])
        except BaseException:  # an interruption too must not leave the service stopped
            if running:
                up.say("starting the service again")
                systemctl("start", "--no-block", *STARTED)
            raise
        _run(["systemctl", "enable", "--quiet", *STARTED])
        up.say("starting the units")
        systemctl("reset-failed", *SERVICES)
        _run(["systemctl", "start", "--no-block", *STARTED])
        up.wait_until_healthy(None)
        (self._place.state_dir / MARKS).write_text(json.dumps(marks))

    def _marks(self) -> dict[str, str] | None:
        """Return what was installed last, None before the first time."""
        try:
            found = json.loads((self._place.state_dir / MARKS).read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _check(self) -> None:
        """Raises InstallError if the service would not start with these settings."""
        argv = [str(self._place.python), "-P", "-s", "-m", "ops.supervisor", "--check"]
        environment = {**clean(), "STATE_DIR": str(self._place.state_dir)}
        done = subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, check=False)
        if done.returncode != 0:
            if self._new_settings:  # else the next call would find what was refused
                SETTINGS.unlink()
            raise InstallError(f"{SETTINGS}: the service cannot start:\n{done.stderr.strip()}")


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
    """Stop the units and remove them. Raises InstallError for what is left all the same: then nothing is purged."""
    place = StatePlace(Path(DEFAULT_STATE_DIR).resolve())
    if not is_installed() and not purge:
        raise InstallError("no systemd units of the service are installed")
    if is_running(place):
        raise InstallError(f"a service started by make up uses {place.state_dir}: run make down first")

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with turn(place, say):
        if is_installed():
            _run(["systemctl", "disable", "--now", "--quiet", *reversed(SERVICES)])
        left = stop(place, say)
        if left:
            raise InstallError("could not remove: " + ", ".join(left))
        remove_files(Path("/"))
        _run(["systemctl", "daemon-reload"])
        systemctl("reset-failed", *SERVICES)
        for program in ("userdel", "groupdel"):  # the account goes with its group, unless that had members
            subprocess.run([program, ACCOUNT], capture_output=True, check=False)
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
    """0 when it is done."""
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
