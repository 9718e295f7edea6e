"""End a program whose last line has been reached without taking the interpreter apart.

Theory of operation
===================
Python ends by clearing every module, type and interned string there is, so that a leak would show. In a fork of a
template that writes to, and so copies, pages of which the program has touched few, and takes longer than most
programs do.

So the first exit handler, which is the last to be called, does in Python's own order all that a program can observe
(see finalize_modules in its pylifecycle.c): it flushes the streams, releases the modules imported since the program
began, and collects their objects, so that every `__del__` and `finally` is run. Then it calls exit(3), for the
handlers and buffers of C. By then threads have been joined: Python does that before it calls exit handlers.

It does so only where the outcome is certain. The status must be 0, as it is if the main module has returned (any
other end, by `sys.exit` or an exception, is Python's own); and nothing may be left whose finalizer would yet be
called, such as what a program has hung on a library's module. Else, or if anything is odd, Python ends as ever.

Finalizers can see the stack, and warnings show it. Each call that may run one is therefore yielded by a generator
and made by a loop in C: there is no frame of ours beneath it then.

Daemon threads are stopped by Python before it clears what they use, which no other code can do: with one alive,
Python ends as usual.
"""

import _operator
import _thread
import _weakref
import atexit
import gc
import itertools
import sys
from _collections import deque

# A program may take them away.
_getframe, gettrace, getprofile = sys._getframe, sys.gettrace, sys.getprofile
monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
MAIN = "/work/main.py"
#: One of sys.monitoring's six: it is released before the program's first line.
TOOL = 4
TOOLS = range(6)
#: Those that yield the steps of the end are alive then.
GENERATOR, OWN_GENERATORS = type(_ for _ in ()), 2
#: Modules with which Python would report a failing finalizer in detail: at that time it has no modules.
TELLING = ("io", "linecache", "tokenize", "traceback", "warnings")
#: Attributes of `sys` that Python releases first; not the paths and their caches, which no finalizer needs then.
OF_SYS = ("argv", "ps1", "ps2", "last_exc", "last_type", "last_value", "last_traceback", "meta_path")


class End:
    """The state of the program's end."""

    def __init__(self, exit_now):
        """In a template, on the thread that programs are to run on, before anything else has an exit handler.
        `exit_now` is exit(3), holding the lock.
        """
        self.exit_now = exit_now
        self.thread = _thread.get_ident()  # a fork's is the same
        #: By name, the modules that are there when a program begins, but for its main one.
        self.modules = {}
        #: Iterables of (callable, arguments…), of which the last exit handler but one takes one after the other.
        self.steps = []
        #: And the last.
        self.in_vain = []
        atexit.register(deque(maxlen=0).extend, _called(self.in_vain))
        atexit.register(deque(maxlen=0).extend, _called(itertools.chain.from_iterable(self.steps)))

    def keep(self, modules, libraries):
        """Note the modules that exist when a program begins, in a template; `libraries` of them are left alone.

        Even where Python finalizes them: writing to every page of theirs, and so copying it, takes tens of
        milliseconds.
        """
        self.modules.update(modules)
        self.in_vain += [(sys.modules.pop, name, None) for name in libraries]

    def watch(self):
        """Start to watch, early and in a template: a watched function is rewritten, which a child would copy."""
        if monitoring is not None:
            monitoring.use_tool_id(TOOL, "runyard")
            monitoring.register_callback(TOOL, monitoring.events.PY_START, self._started)
            monitoring.register_callback(TOOL, monitoring.events.PY_RETURN, self._returned)
            monitoring.set_events(TOOL, monitoring.events.PY_START)

    def _started(self, code, _offset):
        if code.co_filename == MAIN and code.co_name == "<module>":
            monitoring.set_events(TOOL, 0)
            monitoring.set_local_events(TOOL, code, monitoring.events.PY_RETURN)
            monitoring.register_callback(TOOL, monitoring.events.PY_START, None)
            monitoring.free_tool_id(TOOL)

    def _returned(self, _code, _offset, _value):
        """Note that the main module's code has run, perhaps not for the last time: it can be run again."""
        last = _getframe(1).f_back is None and _thread.get_ident() == self.thread
        if last and not self.steps and not _is_traced():
            self.steps.append(self._end())

    def _end(self):
        """Take the steps of the end, and return for Python to go on."""
        try:
            yield from self._take_leave()
        except Exception:  # a program's objects may be of any kind
            return

    def _take_leave(self):
        """Take the steps themselves."""
        loaded = sys.__dict__.get("modules")
        if type(loaded) is not dict or _thread._count() or not _flush():
            return
        if gc.isenabled():
            yield (gc.collect,)
        of_sys = sys.__dict__
        for name in OF_SYS:
            if name in of_sys:
                yield _operator.setitem, of_sys, name, None
        for name in ("stdin", "stdout", "stderr"):
            yield _operator.setitem, of_sys, name, of_sys.get(f"__{name}__")
        names = self._the_programs(loaded)
        references = [_weakref.ref(loaded[name]) for name in names if isinstance(loaded[name], type(sys))]
        for name in (*names, *TELLING):
            yield loaded.pop, name, None
        yield (gc.collect,)
        for reference in reversed(references):
            yield from _clear(reference)
        yield (gc.collect,)
        if _nothing_to_finalize() and _flush():
            self.exit_now(0)
        for name in TELLING:
            if name in self.modules:
                loaded[name] = self.modules[name]

    def _the_programs(self, loaded):
        """Return the names of the main module and of those that it has imported, which are the latest.

        Should it have removed others one may be missed here; what then hangs on it is found before the end.
        """
        count = len(loaded) - len(self.modules) - ("__main__" in loaded)
        latest = list(itertools.islice(reversed(loaded), max(0, count)))
        return [name for name in ("__main__", *reversed(latest)) if name in loaded]


def _called(steps):
    """Yield each step's result, called when it is asked for."""
    return itertools.starmap(_operator.call, steps)


def _is_traced():
    """Return whether a debugger or profiler watches Python's steps, and would see this."""
    return gettrace() or getprofile() or any(map(monitoring.get_tool, TOOLS))


def _flush():
    """Flush the standard streams. Returns False on failure: Python fails again, reports it and sets its status."""
    try:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name, None)
            if stream is not None and not stream.closed:
                stream.flush()
    except BaseException:
        return False
    return True


def _clear(reference):
    """Clear the names of a module in Python's own order: first those with one underscore."""
    for own in (True, False):
        module = reference()
        if module is None:
            return
        names = object.__getattribute__(module, "__dict__")
        del module
        for name in list(names):
            if own == (name[:1] == "_" and name[1:2] != "_") and name != "__builtins__":
                yield _operator.setitem, names, name, None


def _nothing_to_finalize():
    """Return whether nothing younger than the template has a finalizer, be it Python's or C's."""
    kinds = list(map(type, gc.get_objects()))
    for _ in range(OWN_GENERATORS):
        kinds.remove(GENERATOR)
    return not any(
        "__del__" in base.__dict__ for kind in set(kinds) for base in type.__getattribute__(kind, "__mro__")
    )
