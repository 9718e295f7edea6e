"""`python -m ops.unit prepare|profiles|worker|api|images`: one program of the service under systemd.

Each becomes what the supervisor would have started, with the same environment and no more of it; what to be, and
what not to be able to do, is the unit's to say (deploy/systemd). `prepare` makes directories and mounts, `profiles`
loads the AppArmor profiles where the kernel has it; both end. `settings UNIT` comes before each, as root: it reads
the files in /etc/runyard and writes the variables that this unit reads to a file, from which systemd gives it them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys

from config.environment import secrets_in
from config.logging import setup
from config.settings import Settings, SettingsError, load_settings
from ops import host, programs
from ops.state import StatePlace, unusable
from ops.unit_settings import READERS, write_unit_settings
from sandbox.engines import EngineUnusable
from sandbox.engines.apparmor import load_own
from storage.errors import StorageMisconfigured
from storage.layout import make_areas

EX_CONFIG = 78


def prepare(settings: Settings) -> int:
    """What the supervisor does as root before it starts anything."""
    os.umask(0o022)
    problem = unusable(settings.state_dir)
    if problem is not None:
        print(problem, file=sys.stderr)
        return EX_CONFIG
    StatePlace(settings.state_dir.resolve()).make(settings.api_uid)
    try:
        make_areas(settings.storage, settings.api_uid)
    except (StorageMisconfigured, OSError) as e:
        print(e, file=sys.stderr)
        return EX_CONFIG
    host.prepare()
    return 0


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
    program = {"api": programs.api, "worker": programs.worker, "images": programs.builder}[what](settings)
    argv = program.argv
    if what == "api":
        problem = _not_api(settings)
        if problem is not None:
            print(problem, file=sys.stderr)
            return EX_CONFIG
        argv = programs.API_COMMAND  # it has no rights that would have to be given up
    os.umask(program.umask)
    os.chdir("/")
    path = shutil.which(argv[0], path=programs.PATH) or argv[0]
    os.execve(path, argv, program.env)  # noqa: S606
    raise AssertionError("it became nothing")


def _not_api(settings: Settings) -> str | None:
    """Why this process must not face the network; None if it may."""
    if (os.geteuid(), os.getegid()) != (settings.api_uid, settings.api_uid):
        return f"UID_BASE={settings.uid_base}: the api must run under that uid and gid: see its unit"
    if set(os.getgroups()) - {settings.api_uid}:
        return "the api must have no supplementary groups: the unit's SupplementaryGroups= must be empty"
    return None


def main(argv: list[str] | None = None) -> int:
    """The exit status, of what does not become something else."""
    parser = argparse.ArgumentParser(prog="ops.unit", description=__doc__)
    parser.add_argument("what", choices=["prepare", "profiles", "worker", "api", "images", "settings"])
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
