"""What the supervisor starts: the worker, the api and the builder of images, each with no more than it needs."""

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
#: A child of a supervisor that was killed is told to stop by the kernel (PR_SET_PDEATHSIG).
UNTIL_PARENT_ENDS = ("setpriv", "--pdeathsig", "TERM")
API_COMMAND = (*PYTHON, "-m", "gunicorn", "-c", "python:api.server.gunicorn_conf", "api.app:create_app()")


def worker(settings: Settings) -> Program:
    """`python -m worker`: root, owns the engine, listens on no TCP port."""
    env = {**_environment("worker", settings), **ALLOCATOR}
    # Relaxed sandboxes must be able to gain privileges, which nothing beneath such a worker could. And where
    # templates have an AppArmor profile, their children change to another, which the kernel forbids under
    # no_new_privs: each child, and each container, sets it for itself. The worker cannot gain more than its
    # bounding set either way.
    unbound = settings.disable_sandbox_security or apparmor_is_on()
    bound = () if unbound else ("--no-new-privs",)
    return Program("worker", (*UNTIL_PARENT_ENDS, *bound, *PYTHON, "-m", "worker"), env)


def api(settings: Settings) -> Program:
    """The API under gunicorn: unprivileged for good, in a home of its own."""
    uid = str(settings.api_uid)
    argv = (
        "setpriv",
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        "--no-new-privs",
        "--inh-caps=-all",
        "--ambient-caps=-all",
        "--bounding-set=-all",
        "--pdeathsig=TERM",
        *API_COMMAND,
    )
    own = {"HOME": str(settings.api_home), "PROMETHEUS_MULTIPROC_DIR": str(settings.api_home / "metrics")}
    env = {**_environment("api", settings), **ALLOCATOR, **own}
    return Program("api", argv, env, umask=0o077)


def builder(settings: Settings) -> Program:
    """The images that are not up to date, one after the other; tried again later if one fails."""
    own = {"HOME": os.environ.get("HOME", "/root"), "RUNYARD_LOG": "json"}
    env = {**_environment("images", settings), **own}
    wanted = [name.strip() for name in (settings.languages or "").split(",") if name.strip()]
    nice = (*UNTIL_PARENT_ENDS, "nice", "-n", BUILDER_NICE)
    argv = (*nice, *PYTHON, "-m", "ops.images", "--images", str(settings.images), *wanted)
    return Program("images", argv, env, again_after_success=False, longest_backoff_s=BUILDER_LONGEST_BACKOFF_S)


def _environment(reader: Reader, settings: Settings) -> dict[str, str]:
    """Return the environment of a program: the variables that it reads and that were given, and four fixed ones."""
    fixed = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/", "STATE_DIR": str(settings.state_dir)}
    return {**environment_of(reader, settings, os.environ), **fixed}
