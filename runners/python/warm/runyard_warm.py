"""Hold a booted Python until its program arrives.

`site` imports this in PID 1 only, so late in the interpreter's start that all that follows is opening and
running `main.py`. PID 1 stays in here for good as the agent; the child it forked comes back out once it has
been released, without a frame, module or path entry of the agent left behind, and the interpreter goes on.
"""

import os
import sys


def wait_for_the_program():
    """Become the agent. Returns in the released child only, with arguments and environment in place."""
    modules, path = set(sys.modules), sys.path[1:]
    sys.path.insert(0, "/opt/runyard")
    from agent.pid1 import serve

    look_everywhere_once()
    caches = set(sys.path_importer_cache)
    args, environment = serve("fork", [])
    ready = sys.modules["agent"].ready  # what a template has imported for the program to find
    if ready:
        make_different()
        caches.update(sys.path_importer_cache)
    for key, value in environment:
        os.environb[key] = value
    if os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(line_buffering=True)
    arguments = [os.fsdecode(argument) for argument in args]
    sys.argv.extend(arguments)
    sys.orig_argv.extend(arguments)
    sys.path[:] = path
    for name in set(sys.modules) - modules - ready:  # the line that imported this module removes that itself
        del sys.modules[name]
    for directory in [d for d in sys.path_importer_cache if d.startswith("/opt/runyard") or d not in caches]:
        del sys.path_importer_cache[directory]


def make_different():
    """Let nothing that the template's libraries drew at random be the same in two programs.

    `random` sees to itself in every fork, as does what asks the kernel; numpy's old generator and OpenSSL's do not.
    """
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    ssl = sys.modules.get("_ssl")
    if ssl is not None:
        ssl.RAND_add(os.urandom(32), 32.0)
    if "matplotlib" in sys.modules:
        os.makedirs(os.environ["MPLCONFIGDIR"], exist_ok=True)  # it has made one, elsewhere


def look_everywhere_once():
    """Have the path finders list their directories now; `site` goes on to look for `usercustomize`."""
    try:
        import _runyard_is_not_there  # noqa: F401
    except ModuleNotFoundError:
        pass


wait_for_the_program()
