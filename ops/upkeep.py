"""`make images`, `make gc` and what `make test` needs beforehand: runner images outside of a running service."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from config.version import VERSION
from ops import host, install, web
from ops.environment import clean
from ops.hints import make_command
from ops.images.packages import LOCK, SOURCE, is_locked
from ops.images.run import BuildProgress
from ops.images.store import Store
from ops.install import InstallError
from ops.installed import runs
from ops.settings import use_service_settings
from ops.state import StatePlace

DEV_PYTHON = install.ROOT / ".venv/bin/python"
RUNNERS = install.ROOT / "runners"
#: Scripts that install the clients for the tests, with the folder of the state directory that each fills.
CLIENT_ENVIRONMENTS = {
    "tests/clients/openwebui_env.py": "open-webui",
    "tests/api/dialects/clients_env.py": "dialect-clients",
}


def build_images(place: StatePlace, progress: BuildProgress, languages: list[str], refresh: str | None) -> None:
    """Build what is outdated with the service's own pip, then collect if nothing runs from the store.

    If a list of Python packages has changed, its lock file is made first.
    """
    _install_packages(progress)
    install.make_venv(place.venv)
    _lock_changed_lists(progress, languages)
    _run_builder(place.python, place, languages, refresh)


def prepare_tests(place: StatePlace, progress: BuildProgress) -> None:
    """Prepare everything that the real tests need, in a separate state directory."""
    if os.geteuid() != 0:
        raise InstallError("the tests run real sandboxes and need root")
    _install_packages(progress, install.PACKAGES | _engines_under_test() | web.TEST_PACKAGES)
    web.install_packages()
    host.prepare()
    _run_builder(DEV_PYTHON, place, [], None)
    for script, folder in CLIENT_ENVIRONMENTS.items():
        argv = [str(DEV_PYTHON), script, str(place.state_dir / folder)]
        if subprocess.run(argv, env=clean(), cwd=install.ROOT, check=False).returncode != 0:
            raise InstallError(f"{script} failed: the clients of the tests could not be installed (see above)")


def collect(place: StatePlace, progress: BuildProgress) -> None:
    """Remove files that have had their time, and image layers that no pointer names.

    Refused while a service runs: it sweeps its files itself, and may run from the layers.
    """
    if runs(place):
        raise InstallError(f"a service is running with this STATE_DIR: run {make_command(place, 'down')} first")
    store = Store(place.images)
    with store.locked(progress):
        gone = store.collect()
    for name in gone:
        progress.say(f"{name}: removed")
    progress.say(f"{len(gone)} layers removed")
    if place.python.exists():
        environment = {**clean(), "STATE_DIR": str(place.state_dir)}
        for what in ("files", "layers"):
            argv = [str(place.python), "-P", "-s", "-m", f"ops.{what}"]
            if subprocess.run(argv, env=environment, check=False).returncode != 0:
                raise InstallError(f"expired {what} could not be removed (see above)")


def _engines_under_test() -> dict[str, str]:
    """Select the packages that RUNYARD_TEST_COLUMNS needs (columns `oci/crun,docker/runc`; all when unset)."""
    chosen = os.environ.get("RUNYARD_TEST_COLUMNS")
    if not chosen:
        return install.TEST_PACKAGES
    words = {word for name in chosen.split(",") for word in name.strip().split("/")}
    # The service's own, what judges its files, that of the buckets, and the proxies.
    named = words | {"crun", "apparmor", "systemd", "redis-tools", *install.PROXY_PACKAGES}
    if "docker" in words:
        named |= {"docker.io", "docker-compose"}
    return {name: pattern for name, pattern in install.TEST_PACKAGES.items() if name in named}


def _install_packages(progress: BuildProgress, wanted: dict[str, str] | None = None) -> None:
    missing = install.missing_packages(wanted)
    if missing:
        progress.say(f"installing {', '.join(missing)}")
        install.install_packages(missing)
        install.stop_servers(missing)


def _lock_changed_lists(progress: BuildProgress, languages: list[str]) -> None:
    """Write the lock file of each runner whose list of packages has changed. Raises InstallError.

    With the tools' pip: Debian 12's passes over packages that need a newer Python than the host's.
    """
    folders = {path.parent.name: path.parent for path in sorted(RUNNERS.glob(f"*/{SOURCE}"))}
    changed = [name for name in (languages or folders) if name in folders and not is_locked(folders[name])]
    if not changed:
        return
    progress.say(f"{', '.join(changed)}: {SOURCE} has changed, writing {LOCK}")
    if install.main() != 0:
        raise InstallError("the tools that write lock files could not be installed (see above)")
    argv = [str(DEV_PYTHON), "-m", "ops.lock", *changed]
    if subprocess.run(argv, env=clean(), cwd=install.ROOT, check=False).returncode != 0:
        raise InstallError(f"{LOCK} could not be made from {SOURCE} (see above); no image was changed")


def _run_builder(python: Path, place: StatePlace, languages: list[str], refresh: str | None) -> None:
    place.make()
    argv = [str(python), "-m", "ops.images", "--images", str(place.images), *languages]
    if refresh is not None:
        argv += ["--refresh", refresh]
    if not runs(place):
        argv.append("--collect")
    done = subprocess.run(argv, env=clean(), cwd=install.ROOT, check=False)
    if done.returncode != 0:
        raise InstallError("the images could not be built (see above)")


def main() -> int:
    """Run the command. Returns 0 on success."""
    parser = argparse.ArgumentParser(prog="ops.upkeep", description=__doc__)
    parser.add_argument("--version", action="version", version=f"runyard {VERSION}")
    parser.add_argument("what", choices=["images", "gc", "tests"])
    parser.add_argument("--refresh", action="store_true", help="rebuild with newer Debian packages")
    parser.add_argument("languages", nargs="*")
    options = parser.parse_args()
    os.umask(0o022)
    progress = BuildProgress()
    try:
        if options.what != "tests":
            use_service_settings()
        place = StatePlace.of_environment()
        if options.what == "images":
            refresh = datetime.now(UTC).isoformat(timespec="seconds") if options.refresh else None
            build_images(place, progress, options.languages, refresh)
        elif options.what == "tests":
            prepare_tests(place, progress)
        else:
            collect(place, progress)
    except InstallError as e:
        print(f"make: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
