"""`python -m ops.contained api|worker|egress`: one of them as a container's only process, without a supervisor.

This process makes the preparations of the supervisor and then executes the program. With `--check` it is a
container's health check. A worker's runner images are those of the compose file, unless RUNNER_IMAGE_<LANG> is set.
"""

from __future__ import annotations

import argparse
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

from config.environment import without_settings_of_others
from config.settings import IMAGE_PREFIX, Settings, SettingsError
from config.settings_file import apply_file
from config.variables import Reader
from ops.egress_socket import egress_answers
from ops.programs import ALLOCATOR, EGRESS_COMMAND, PYTHON
from ops.state import DEFAULT_STATE_DIR
from sandbox.engines.syscalls import MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REMOUNT, mount
from storage.errors import StorageMisconfigured
from storage.layout import make_areas

EX_CONFIG = 78
CGROUPS = "/sys/fs/cgroup"
IMAGE = "runyard/runner-{language}"
CHECK_TIMEOUT_S = 8.0


def start(what: Reader, settings: Settings) -> None:
    """Become the program. Raises StorageMisconfigured or OSError where that cannot be."""
    env = {**ALLOCATOR, **without_settings_of_others(what, os.environ)}
    if what == "api":
        os.umask(0o077)
        argv = [*PYTHON, "-m", "gunicorn", "-c", "python:api.server.gunicorn_conf", "api.app:create_app()"]
    elif what == "egress":
        os.umask(0o077)
        argv = list(EGRESS_COMMAND)
    else:
        os.umask(0o022)
        if settings.package_mode != "off" and settings.layers_host_dir is None:
            raise SettingsError(
                "PACKAGES: needs LAYERS_HOST_DIR in a container: a directory of the Docker daemon's host that is "
                "mounted at STATE_DIR/layers"
            )
        make_areas(settings.storage, settings.api_uid)
        _close_cgroups()
        for language in (name.strip() for name in (settings.languages or "").split(",") if name.strip()):
            env.setdefault(f"{IMAGE_PREFIX}{language.upper()}", IMAGE.format(language=language))
        argv = [*PYTHON, "-m", "worker"]
    os.execve(argv[0], argv, env)  # noqa: S606  # this process becomes the program


def check(what: str, settings: Settings) -> bool:
    """Return whether the process answers and, for a worker, whether every tested language has working sandboxes and
    the broker is connected, where there is one.
    """
    if what == "api":
        address = f"http://127.0.0.1:{settings.port}/healthz"
        with urllib.request.urlopen(address, timeout=CHECK_TIMEOUT_S) as reply:
            return bool(reply.status == 200)
    if what == "egress":
        return egress_answers(settings.egress_socket)
    from dispatch.unix import UnixDispatcher  # only a worker is asked through its socket

    status = UnixDispatcher(settings.worker_socket).status()
    return has_sandboxes(status) and status.get("broker", "ok") == "ok"


def has_sandboxes(status: dict[str, Any]) -> bool:
    """Return whether a worker's status shows that it can create sandboxes, once an image is built."""
    if "languages" not in status:
        return False
    if not any(language["ready"] for language in status["languages"]):
        return True  # images are still being loaded
    sandboxes = status["sandboxes"]
    languages = {language["id"] for language in status["languages"]}
    # An entry LANGUAGE/WAY is one of several ways to make its sandboxes; runs have another.
    return bool(sandboxes["usable"]) and languages.isdisjoint(sandboxes["failing"])


def _close_cgroups() -> None:
    """Make read-only what is mounted beneath /sys/fs/cgroup: older engines do that for the topmost mount alone."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        point = line.split(" ")[1]
        if point.startswith(f"{CGROUPS}/"):
            mount("none", point, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)


def main() -> int:
    """Run a check, or become a program. Returns 0 after a good check, and an error status otherwise."""
    parser = argparse.ArgumentParser(prog="ops.contained", description=__doc__)
    parser.add_argument("what", choices=["api", "worker", "egress"])
    parser.add_argument("--check", action="store_true", help="only check whether the service responds")
    options = parser.parse_args()
    try:
        layered, settings = apply_file(Path(os.environ.get("STATE_DIR") or DEFAULT_STATE_DIR))
        if options.check:
            return 0 if check(options.what, settings) else 1
        for warning in layered.warnings:
            print(f"{options.what}: warning: {warning}", file=sys.stderr)
        start(options.what, settings)
    except (SettingsError, StorageMisconfigured, OSError) as e:
        print(f"{options.what}: {e}", file=sys.stderr)
        return EX_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
