"""`python -m ops.unit prepare|profiles|worker|api|egress|images`: one program of the service under systemd.

Each executes the program that the supervisor would have started, with the same environment and nothing more. The
unit (deploy/systemd) decides about its account and its rights. `prepare` makes directories and mounts, `profiles`
loads the AppArmor profiles where the kernel has it; both end. `settings UNIT` comes before each, as root: it reads
the files in /etc/runyard and writes the variables that this unit reads to a file, from which systemd gives it them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys

from config.environment import secrets_in
from config.logging import setup
from config.settings import Settings, SettingsError, load_settings
from ops import host, programs
from ops.state import StatePlace, directory_problem
from ops.supervisor import make_directories
from ops.unit_settings import READERS, write_unit_settings
from sandbox.engines import EngineUnusable
from sandbox.engines.apparmor import load_own
from storage.errors import StorageMisconfigured
from storage.layout import make_areas

EX_CONFIG = 78
#: The programs that have an account of their own, whose units have given up every right.
OF_THEIR_OWN = {"api": programs.API_COMMAND, "egress": programs.EGRESS_COMMAND}


def prepare(settings: Settings) -> int:
    """Prepare the state as root, as the supervisor does before it starts a program."""
    os.umask(0o022)
    problem = directory_problem(settings.state_dir)
    if problem is not None:
        print(problem, file=sys.stderr)
        return EX_CONFIG
    make_directories(StatePlace(settings.state_dir.resolve()), settings)
    try:
        make_areas(settings.storage, settings.api_uid)
    except (StorageMisconfigured, OSError) as e:
        print(e, file=sys.stderr)
        return EX_CONFIG
    if settings.parts.has_worker:
        _load_overlay()
        host.prepare()
    return 0


def _load_overlay() -> None:
    """Load the file system of sandboxes, as the worker may load no module; many kernels have it built in."""
    modprobe = shutil.which("modprobe", path=programs.PATH)
    if modprobe is not None:
        subprocess.run([modprobe, "overlay"], capture_output=True, check=False)


def load_profiles(settings: Settings) -> int:
    """Load the AppArmor profiles, which the worker itself lacks the capability for."""
    if settings.disable_sandbox_security:
        return 0
    try:
        load_own(settings.apparmor_profile)
    except EngineUnusable as e:
        print(e, file=sys.stderr)
        return EX_CONFIG
    return 0


def become(what: str, settings: Settings) -> int:
    """Become that program. Returns only to refuse."""
    makers = {"api": programs.api, "worker": programs.worker, "egress": programs.egress, "images": programs.builder}
    program = makers[what](settings)
    argv = program.argv
    if what in OF_THEIR_OWN:
        if what == "egress" and not settings.has_egress:
            print("EGRESS=off and PACKAGES=off: nothing to do")
            return 0
        problem = _not_account(what, settings)
        if problem is not None:
            print(problem, file=sys.stderr)
            return EX_CONFIG
        argv = OF_THEIR_OWN[what]  # it has no rights that would have to be given up
    os.umask(program.umask)
    os.chdir("/")
    path = shutil.which(argv[0], path=programs.PATH) or argv[0]
    os.execve(path, argv, program.env)  # noqa: S606
    raise AssertionError("it became nothing")


def _not_account(what: str, settings: Settings) -> str | None:
    """Explain why this process must not serve the network; None if it may."""
    uid = settings.api_uid if what == "api" else settings.egress_uid
    if (os.geteuid(), os.getegid()) != (uid, uid):
        return f"UID_BASE={settings.uid_base}: the {what} must run under uid and gid {uid}: see its unit"
    if set(os.getgroups()) - {uid}:
        return f"the {what} must have no supplementary groups: the unit's SupplementaryGroups= must be empty"
    return None


def main(argv: list[str] | None = None) -> int:
    """Run a step of a unit. Returns the exit status, except where the step executes another program."""
    parser = argparse.ArgumentParser(prog="ops.unit", description=__doc__)
    parser.add_argument("what", choices=["prepare", "profiles", "worker", "api", "egress", "images", "settings"])
    parser.add_argument("unit", nargs="?", choices=list(READERS), help="of settings: for which unit")
    options = parser.parse_args(argv)
    what = options.what
    if (what == "settings") != (options.unit is not None):
        parser.error("settings takes the name of a unit, and nothing else does")
    try:
        if what == "settings":
            write_unit_settings(options.unit)
            return 0
        settings = load_settings()
    except (SettingsError, OSError) as e:
        print(str(e).replace("; ", "\n"), file=sys.stderr)
        return EX_CONFIG
    setup(what, settings.log_level, secrets_in(os.environ))
    ended = {"prepare": prepare, "profiles": load_profiles}.get(what)
    return ended(settings) if ended is not None else become(what, settings)


if __name__ == "__main__":
    sys.exit(main())
