"""The programs of the supervisor: worker, api, egress process, builder of images, each with minimal rights."""

from __future__ import annotations

import os
import sys

from config.environment import environment_of
from config.settings import Settings
from config.variables import Reader
from ops.children import Program
from sandbox.engines.confinement import apparmor_is_on

#: Nice enough that a build does not delay a run.
BUILDER_NICE = "15"
BUILDER_LONGEST_BACKOFF_S = 300.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: glibc keeps what many threads free in an arena each, and from the first large block on also the large ones:
#: three hundred bodies of 17 MiB left 110 MiB behind, with these 1 MiB. It also lets each thread keep seven freed
#: pieces of each size up to 1 KiB to itself, of little use where one lock is held anyway: 24 MiB of two hundred
#: threads. Sandboxes do not inherit it.
ALLOCATOR = {
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=1",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "131072",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}
#: Not from the directory it is started in (-P), nor from a home (-s).
PYTHON = (sys.executable, "-P", "-s")
#: The kernel stops a child whose supervisor was killed (PR_SET_PDEATHSIG).
UNTIL_PARENT_ENDS = ("setpriv", "--pdeathsig", "TERM")
API_COMMAND = (*PYTHON, "-m", "gunicorn", "-c", "python:api.server.gunicorn_conf", "api.app:create_app()")
EGRESS_COMMAND = (*PYTHON, "-m", "egress")


def worker(settings: Settings) -> Program:
    """Describe the worker, `python -m worker`: root, owns the engine, listens on no TCP port."""
    env = {**_environment("worker", settings), **ALLOCATOR}
    # Relaxed sandboxes must be able to gain privileges, which nothing beneath such a worker could. And where
    # templates have an AppArmor profile, their children change to another, which the kernel forbids under
    # no_new_privs: each child, and each container, sets it for itself. The worker cannot gain more than its
    # bounding set either way.
    unbound = settings.disable_sandbox_security or apparmor_is_on()
    bound = () if unbound else ("--no-new-privs",)
    return Program("worker", (*UNTIL_PARENT_ENDS, *bound, *PYTHON, "-m", "worker"), env)


def _as_account(uid: int) -> tuple[str, ...]:
    """Return the start of a command whose program has this account, no right, and no way to any."""
    return (
        "setpriv",
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps=-all",
        "--ambient-caps=-all",
        "--bounding-set=-all",
        "--pdeathsig=TERM",
    )


def egress(settings: Settings) -> Program:
    """`python -m egress`: unprivileged for good, and the only part that connects to other machines for programs."""
    argv = (*_as_account(settings.egress_uid), *EGRESS_COMMAND)
    return Program("egress", argv, {**_environment("egress", settings), **ALLOCATOR}, umask=0o077)


def api(settings: Settings) -> Program:
    """Describe the api process: gunicorn, permanently unprivileged, with its own home directory."""
    argv = (*_as_account(settings.api_uid), *API_COMMAND)
    own = {"HOME": str(settings.api_home), "PROMETHEUS_MULTIPROC_DIR": str(settings.api_home / "metrics")}
    env = {**_environment("api", settings), **ALLOCATOR, **own}
    return Program("api", argv, env, umask=0o077)


def builder(settings: Settings) -> Program:
    """Describe the process that builds outdated images one after the other; it is restarted later if one fails."""
    own = {"HOME": os.environ.get("HOME", "/root"), "RUNYARD_LOG": "json"}
    env = {**_environment("images", settings), **own}
    wanted = [name.strip() for name in (settings.languages or "").split(",") if name.strip()]
    nice = (*UNTIL_PARENT_ENDS, "nice", "-n", BUILDER_NICE)
    argv = (*nice, *PYTHON, "-m", "ops.images", "--images", str(settings.images), *wanted)
    return Program("images", argv, env, restart_on_success=False, longest_backoff_s=BUILDER_LONGEST_BACKOFF_S)


def of_role(settings: Settings) -> list[Program]:
    """Return the programs of this machine's role, in the order of their start."""
    found = []
    if settings.parts.has_worker:
        found.append(worker(settings))
    if settings.parts.has_api:
        found.append(api(settings))
    if settings.parts.has_worker:
        found.append(builder(settings))
        if settings.has_egress:
            found.append(egress(settings))
    return found


def _environment(reader: Reader, settings: Settings) -> dict[str, str]:
    """Return the environment of a program: the variables that it reads and that were given, and four fixed ones."""
    fixed = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/", "STATE_DIR": str(settings.state_dir)}
    return {**environment_of(reader, settings, os.environ), **fixed}
