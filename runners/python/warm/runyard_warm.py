"""Hold a booted Python until its program arrives.

`site` imports this in PID 1 only, so late in the interpreter's start that all that follows is opening and
running `main.py`. PID 1 stays in here for good as the agent; the child it forked comes back out once it has
been released, without a frame, module or path entry of the agent left behind, and the interpreter continues.
"""

import os
import sys

#: Code is rewritten by its first runs, until it is as quick as it gets.
PREFAULTS = 1 if os.getuid() else 32


def wait_for_the_program():
    """Become the agent. Returns in the released child only, with arguments and environment in place."""
    modules, path = frozenset(sys.modules), sys.path[1:]
    sys.path.insert(0, "/opt/runyard")
    import agent
    from agent.pid1 import serve

    look_everywhere_once()
    caches = set(sys.path_importer_cache)

    def settle(libraries):
        """Have paths and caches as a program is to find them."""
        sys.path[:] = path
        if libraries:
            caches.update(sys.path_importer_cache)
        for directory in [d for d in sys.path_importer_cache if d.startswith("/opt/runyard") or d not in caches]:
            del sys.path_importer_cache[directory]
        for _ in range(PREFAULTS):
            prefault()

    add_packages = prepare_packages(path)
    shared = share(agent, modules, settle) if os.getuid() == 0 else None  # no sandbox has a template's uid

    def get_ready():
        """Do in the child, before its program arrives, all that can be done without it."""
        if shared is not None:
            shared.get_ready()
            return
        for name in set(sys.modules) - modules:  # the line that imported this module removes that itself
            del sys.modules[name]
        settle(libraries=False)

    args, environment = serve("fork", [], get_ready)
    for key, value in environment:
        os.environb[key] = value
    if add_packages is not None:
        add_packages()
    if args is None:
        be_a_kernel()
    if os.environ.get("PYTHONUNBUFFERED"):
        sys.stdout.reconfigure(line_buffering=True)
    arguments = [os.fsdecode(argument) for argument in args]
    sys.argv.extend(arguments)
    sys.orig_argv.extend(arguments)


def prepare_packages(path):
    """Return what adds the packages of a run to `path`, that of the program; None if this sandbox has none.

    It executes code of the packages, so PID 1 may not call it. The sandboxes of a template may have packages.
    """
    if os.getuid() and not os.path.isdir("/opt/packages/python"):
        return None
    from runyard_packages import add

    known = {os.path.abspath(directory) for directory in path if os.path.isdir(directory)}
    return lambda: add(known)


def be_a_kernel():
    """Become the kernel of a context, in a fork, in place of going on to a main program. Does not return.

    The imports beneath this never end, and a thread that imports one of these modules would wait for that.
    """
    for name in ("site", "sitecustomize", "runyard_warm"):
        if name in sys.modules:
            sys.modules[name].__spec__._initializing = False
    sys.path.insert(0, "/opt/runyard/python/kernel")
    from runyard_kernel.loop import main

    main()


def share(agent, modules, settle):
    """Share what a template will have imported with its children. `modules` were there before the agent."""
    from runyard_shared import Shared

    agent.imported = (shared := Shared(modules, settle)).imported
    return shared


def look_everywhere_once():
    """Have the path finders list their directories now; `site` then looks for `usercustomize`."""
    try:
        import _runyard_is_not_there  # noqa: F401
    except ModuleNotFoundError:
        pass


def prefault():
    """Do once what Python does before a program's first line: what is touched for the first time takes longer."""
    look_everywhere_once()
    for hook in sys.path_hooks:
        try:
            hook(__file__)
        except ImportError:
            pass
    exec("0", {})  # noqa: S102
    # The first call of `compile`, as an import makes it, creates the types of syntax trees: 0.4 ms.
    compile("0", "", "exec")


wait_for_the_program()
