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
import shutil
import subprocess
import sys
from pathlib import Path

from ops import install
from ops.down import stop
from ops.environment import PATH, clean
from ops.install import InstallError
from ops.installed import SETTINGS, UNITS, has_systemd, is_installed, read_settings, runs_as_units, systemctl
from ops.state import DEFAULT_STATE_DIR, Place, is_running, turn
from ops.up import Up, check_machine

SOURCES = install.ROOT / "deploy/systemd"
ACCOUNT = "runyard-api"
#: In STATE_DIR: digests of the code and the settings that were installed last.
MARKS = "installed.json"
#: Where each file of SOURCES goes.
TARGETS = {
    **{f"{name}.service": f"etc/systemd/system/{name}.service" for name in UNITS},
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


def write_settings(path: Path) -> bool:
    """Write settings with a generated signing key and token. Returns False and leaves those that are there."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with open(fd, "w") as file:
        file.write(
            "# Settings of the service, NAME=value as in docs/configuration.md. After a change: make install\n"
            "RUNYARD_ENV=production\n"
            f"SIGNING_KEY={secrets.token_urlsafe(48)}\n"
            "# token:label:requests a second:burst\n"
            f"API_KEYS={secrets.token_urlsafe(32)}:default:50:100\n"
        )
    return True


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
        self._new_settings = write_settings(SETTINGS)
        given = read_settings(SETTINGS.read_text())
        given.pop("STATE_DIR", None)  # the units name their own
        os.environ.pop("STATE_DIR", None)
        os.environ.update(given)
        self._up = Up()
        self._place = Place(Path(DEFAULT_STATE_DIR).resolve())

    def run(self) -> None:
        """Install or upgrade, and return once a program has run."""
        check_machine()
        if is_running(self._place):
            raise InstallError(f"a service that make up has started uses {self._place.state_dir}: make down first")
        self._place.state_dir.mkdir(parents=True, exist_ok=True)
        with turn(self._place, self._up.say):
            self._install()
        print(
            f"\nRunyard is installed and up: {self._up.url}\nToken: the first of API_KEYS in {SETTINGS}"
            f"{' (generated)' if self._new_settings else ''}. It starts at boot. Log: journalctl -u 'runyard-*'\n"
            "Stop with: make down. Remove with: make uninstall",
            flush=True,
        )

    def _install(self) -> None:
        digest = install.code_digest()
        marks = {"code": digest, "settings": hashlib.sha256(SETTINGS.read_bytes()).hexdigest()}
        running = runs_as_units(self._place)
        if running and self._place.python.exists():
            self._check_settings()  # before anything is stopped
        changed = write_files(Path("/"), gvisor=shutil.which("runsc", path=PATH) is not None)
        self._run(["systemd-sysusers", "runyard.conf"])
        changed = self._marks() != marks or changed
        if running and changed:
            self._up.say("upgrading: stopping the service")
            systemctl("stop", *(f"{name}.service" for name in reversed(UNITS)))
        self._up.install(digest)
        if not running:
            self._check_settings()
        self._run(["systemd-tmpfiles", "--create", "runyard.conf"])
        self._run(["systemctl", "daemon-reload"])
        names = [f"{name}.service" for name in UNITS if name != "runyard-prepare"]
        self._run(["systemctl", "enable", "--quiet", *names])
        self._up.say("starting the units")
        self._run(["systemctl", "restart" if changed else "start", "runyard-prepare.service"])
        self._run(["systemctl", "start", "--no-block", *names])
        (self._place.state_dir / MARKS).write_text(json.dumps(marks))
        self._place.started.write_text(json.dumps({**marks, "url": self._up.url}))
        self._up.wait_until_healthy(None)

    def _marks(self) -> dict[str, str] | None:
        """Return what was installed last, None before the first time."""
        try:
            found = json.loads((self._place.state_dir / MARKS).read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _check_settings(self) -> None:
        argv = [str(self._place.python), "-P", "-s", "-m", "ops.supervisor", "--check"]
        environment = {**clean(), "STATE_DIR": str(self._place.state_dir)}
        done = subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise InstallError(f"{SETTINGS}: the service cannot start:\n{done.stderr.strip()}")

    @staticmethod
    def _run(argv: list[str]) -> None:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise InstallError(f"{' '.join(argv)} failed: {done.stderr.strip()[-1000:]}")


def uninstall(*, purge: bool) -> None:
    """Stop the units and remove them. Raises InstallError for what is left all the same."""
    if not is_installed() and not purge:
        raise InstallError("no units of the service are installed")
    place = Place(Path(DEFAULT_STATE_DIR).resolve())
    names = [f"{name}.service" for name in reversed(UNITS)]
    systemctl("disable", "--now", "--quiet", *names)
    left = stop(place, lambda text: print(text, file=sys.stderr, flush=True)) if not is_running(place) else []
    remove_files(Path("/"))
    systemctl("daemon-reload")
    systemctl("reset-failed", *names)
    subprocess.run(["userdel", ACCOUNT], capture_output=True, check=False)
    subprocess.run(["groupdel", ACCOUNT], capture_output=True, check=False)
    if purge:
        shutil.rmtree(SETTINGS.parent, ignore_errors=True)
        shutil.rmtree(place.state_dir, ignore_errors=True)
    if left:
        raise InstallError("still there: " + ", ".join(left))
    kept = "nothing is kept" if purge else f"kept: {SETTINGS.parent}, {place.state_dir} (PURGE=1 removes them)"
    print(f"The service is removed; {kept}.")


def _check_systemd() -> None:
    if os.geteuid() != 0:
        raise InstallError("must be run as root: it writes units of systemd")
    if not has_systemd():
        raise InstallError("systemd does not run this machine: make up starts the service without it")


def main() -> int:
    """0 when it is done."""
    parser = argparse.ArgumentParser(prog="ops.systemd", description=__doc__)
    parser.add_argument("what", choices=["install", "uninstall"])
    what = parser.parse_args().what
    os.umask(0o022)
    try:
        _check_systemd()
        if what == "install":
            Installation().run()
        else:
            uninstall(purge=bool(os.environ.get("PURGE")))
    except (InstallError, OSError, subprocess.SubprocessError) as e:
        print(f"make {what}: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
