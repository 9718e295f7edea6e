"""Python programs: run warm and cold to be compared, and samples with what they print."""

from tests.engines.programs import INPUT, Sample

AN_OPTION_FOR_A_NAME = ("-c", "print('dash')")

FINALIZED = """
class A:
    def __init__(self, name): self.name = name
    def __del__(self): print('del', self.name, text, flush=True)
text = 'text'
"""
#: Told of without an address, which differs from run to run.
FAILING = """
class Failing:
    def __call__(self): 1/0
    def __repr__(self): return 'Failing'
"""
#: What is seen of a program after its last line, by how that comes about.
ENDS = {
    "finalizers": FINALIZED + "_a, b = A('_a'), A('b'); c = [A('c')]; c.append(c)",
    "finalizers after an error": FINALIZED + "a = A('a')\n1/0",
    "finalizers after sys.exit": FINALIZED + "import sys; a = A('a'); sys.exit(3)",
    "a finalizer of what builtins hold": FINALIZED + "import builtins; builtins.a = A('a')",
    "a finalizer of what a library holds": FINALIZED + "import os; os.a = A('a')",
    "a finalizer of what a class holds": FINALIZED + "A.kept = A('a')",
    "a finalizer that fails": FAILING + "class A: __del__ = Failing()\na = A()",
    "a finalizer that makes another": FINALIZED + "class B:\n    def __del__(self): A('late')\nb = B()",
    "a finalizer that fails, and a hook": (
        "import sys\nsys.unraisablehook = lambda u: print('hook', u.exc_type.__name__)\n"
        "class A:\n    def __del__(self): 1/0\na = A()"
    ),
    "a finalizer that imports": (
        "class A:\n    def __del__(self):\n        try: import json\n        except ImportError as e: print(e)\na = A()"
    ),
    "a finalizer that looks around": (
        "import inspect\nclass A:\n    def __del__(self): print(len(inspect.stack(0)), __name__)\na = A()"
    ),
    "a file left open, and warnings": "import warnings; warnings.simplefilter('always'); f = open('/dev/null')",
    "a class that shows nothing of itself": (
        "class M(type):\n    def __getattribute__(c, n): raise RuntimeError(n)\nclass A(metaclass=M): pass\n"
        "import builtins; builtins.a = A()"
    ),
    "an instance that claims another class": (
        "import builtins, sys\nclass A:\n    @property\n    def __class__(self): raise RuntimeError\n"
        "builtins.a = sys.modules['a'] = A()"
    ),
    "names that are no text": "globals()[1] = globals()[None] = 2",
    "sys without modules": "import sys; del sys.modules",
    "sys with other modules": FINALIZED + "import sys; a = A('a'); sys.modules = {'x': sys}",
    "sys without what we use": "import sys; del sys._getframe, sys.gettrace, sys.monitoring, sys.getprofile",
    "main run again": "import sys\nif 'n' not in globals():\n    n = 1; exec(sys._getframe().f_code); sys.exit(3)",
    "main run again by a thread": (
        "import sys, threading\nif 'n' not in globals():\n    n = 1; code = sys._getframe().f_code\n"
        "    t = threading.Thread(target=exec, args=(code, globals())); t.start(); t.join(); sys.exit(3)"
    ),
    "a generator": "def f():\n    try: yield\n    finally: print('closed')\ng = f(); next(g)",
    "a coroutine never awaited": "async def f(): pass\nc = f()",
    "weak references": "import weakref\nclass A: pass\na = A(); weakref.finalize(a, print, 'gone')",
    "a file left open": "import os; f = os.fdopen(1, 'w', closefd=False); f.write('late')",
    "a file left open, held by builtins": (
        "import builtins, os; builtins.f = os.fdopen(1, 'w', closefd=False); builtins.f.write('late')"
    ),
    "a temporary directory": "import tempfile; t = tempfile.TemporaryDirectory(dir='/tmp')",
    "stdout replaced": "import os, sys; sys.stdout = os.fdopen(1, 'w', closefd=False); print('late')",
    "stdout in memory": "import io, sys; sys.stdout = io.StringIO(); print('lost')",
    "stdout removed": "import sys; print('x'); del sys.stdout, sys.stderr",
    "stdout closed": "import sys; print('x'); sys.stdout.close()",
    "stdout's descriptor closed": "import os, sys; sys.stdout.write('x'); os.close(1)",
    "buffers of C": "import ctypes; ctypes.CDLL(None).printf(b'late')",
    "a thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(.05), print('late'))).start()",
    "a daemon": "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    "a busy daemon": "import threading\ndef f():\n    while True: pass\nthreading.Thread(target=f, daemon=True).start()",
    "a daemon that needs what is cleared": (
        "import threading, time\ndef g(): time.sleep(0)\ndef f():\n    while True: g()\n"
        "for _ in range(3): threading.Thread(target=f, daemon=True).start()"
    ),
    "a thread pool": (
        "import concurrent.futures as c, time; p = c.ThreadPoolExecutor(2)\n"
        "p.submit(lambda: (time.sleep(.05), print('late')))"
    ),
    "a child": "import subprocess; subprocess.Popen(['sleep', '60'])",
    "a process": (
        "import multiprocessing as m\n"
        "if __name__ == '__main__': m.get_context('fork').Process(target=print, args=('child',)).start()"
    ),
    "a fork that ends as its parent": FINALIZED + "import os; a = A(pid := os.fork() and 1); pid and os.wait()",
    "exit hooks": "import atexit; [atexit.register(print, n) for n in 'ab']",
    "exit hook that fails": FAILING + "import atexit; atexit.register(Failing()); print('x')",
    "exit hook that leaves": "import atexit, os; atexit.register(os._exit, 7); print('x', flush=True)",
    "exit hook that raises SystemExit": "import atexit, sys; atexit.register(sys.exit, 7); print('x')",
    "exit hooks cleared": "import atexit; atexit.register(print, 'x'); atexit._clear()",
    "exit hooks run early": "import atexit; atexit.register(print, 'x'); atexit._run_exitfuncs(); print('after')",
    "logging": "import logging; logging.basicConfig(level='INFO'); logging.info('x'); logging.shutdown()",
    "modules gone": FINALIZED + "import sys; a = A('a'); sys.modules.clear()",
    "main replaced": FINALIZED + "import sys; a = A('a'); sys.modules['__main__'] = sys",
    "a module that is none": "import sys; sys.modules['x'] = 1; sys.modules[2] = None",
    "a SystemExit that is caught": "try:\n    raise SystemExit(3)\nexcept SystemExit as e: print(e.code)",
    "inspect": "import os; os.environ['PYTHONINSPECT'] = '1'; print('x')",
    "a signal": FINALIZED + "import os, signal; a = A('a'); os.kill(os.getpid(), signal.SIGINT)",
    "own tool": (
        "import sys; m = sys.monitoring; m.use_tool_id(4, 'x'); m.set_events(4, m.events.PY_RETURN)\n"
        "m.register_callback(4, m.events.PY_RETURN, lambda code, *_: print(code.co_filename, code.co_name))"
    ),
}

WARM_AND_COLD = {
    "argv": ("import sys; print(sys.argv, sys.orig_argv[1:])", {"args": ["a b", "é", "--x=1"]}),
    "file and main": ("print(__file__, __name__, __package__, __spec__, __doc__, sorted(globals()))", {}),
    "main module": ("import sys; m = sys.modules['__main__']; x = 5; print(m.x, m.__loader__.__class__)", {}),
    "main cached": ("print(globals().get('__cached__', 'none'), __builtins__)", {}),
    "sibling import": ("import helper; print(helper.x, helper.__file__)", {"files": {"helper.py": "x = 7"}}),
    "package import": (
        "from pkg.sub import y; print(y)",
        {"files": {"pkg/__init__.py": "", "pkg/sub.py": "y = 8"}},
    ),
    "a sibling named agent": ("import agent; print(agent.x)", {"files": {"agent.py": "x = 1"}}),
    "cwd": ("import os; print(os.getcwd(), sorted(os.listdir()))", {}),
    "env": ("import os; print(sorted(os.environ.items()))", {"env": {"MODE": "x", "EMPTY": "", "U": "é"}}),
    "env of a child": (
        "import subprocess; print(subprocess.run(['env'], capture_output=True, text=True).stdout)",
        {"env": {"MODE": "x"}},
    ),
    "env at boot": (
        "import sys, time; print(sys.flags, time.tzname)",
        {"env": {"PYTHONOPTIMIZE": "1", "TZ": "UTC"}},
    ),
    "sys.path": ("import sys; print(sys.path, sys.meta_path, len(sys.path_hooks))", {}),
    "path caches": ("import sys; print(sorted(sys.path_importer_cache))", {}),
    "modules": ("import sys; print(sorted(sys.modules))", {}),
    "flags": ("import sys; print(sys.flags, sys.executable, sys.prefix, sys.warnoptions, sys._xoptions)", {}),
    "exit hooks": ("import atexit; atexit.register(print, 'bye'); print('hi')", {}),
    "exit hook after an error": ("import atexit; atexit.register(print, 'bye'); 1/0", {}),
    "exit code": ("import sys; sys.exit(42)", {}),
    "exit with text": ("import sys; sys.exit('no luck')", {}),
    "os._exit": ("import os; print('lost?'); os._exit(3)", {}),
    "uncaught": ("def f():\n    return 1 / 0\n\nf()\n", {}),
    "uncaught in a sibling": (
        "import helper\nhelper.f()",
        {"files": {"helper.py": "def f():\n    raise KeyError('k')"}},
    ),
    "uncaught chain": ("try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise ValueError('v') from e", {}),
    "excepthook": ("import sys; sys.excepthook = lambda *a: print('hook', a[0]); 1/0", {}),
    "syntax error": ("print('x'\n", {}),
    "recursion": ("def f(): f()\ntry: f()\nexcept RecursionError as e: print(e)", {}),
    "keyboard interrupt": ("raise KeyboardInterrupt", {}),
    "signal": ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", {}),
    "stack": ("import traceback, inspect; traceback.print_stack(); print(len(inspect.stack()))", {}),
    "warning": ("import warnings; warnings.warn('careful', stacklevel=2)", {}),
    "input": ("print(input('? ')); print(input())", {"stdin": "one\ntwo\n"}),
    "input at the end": ("print(input()); input()", {"stdin": "one\n"}),
    "stdin bytes": ("import sys; print(sys.stdin.buffer.read())", {"stdin": "é\r\n\0"}),
    "streams": (
        "import sys\nfor s in (sys.stdin, sys.stdout, sys.stderr):\n"
        "    print(s.name, s.mode, s.encoding, s.errors, s.line_buffering, s.isatty(), s.seekable(), s.fileno())",
        {},
    ),
    "descriptors": ("import os; print(sorted(os.listdir('/proc/self/fd')))", {}),
    "descriptor kinds": ("import os\nfor n in '012': print(os.readlink('/proc/self/fd/' + n).split(':')[0])", {}),
    "signals": (
        "import signal\nfor s in signal.valid_signals(): print(s, signal.getsignal(s))\n"
        "print([l for l in open('/proc/self/status') if l.startswith('Sig')][1:])",
        {},
    ),
    "signals of a child": (
        "import subprocess; subprocess.run(['grep', '^Sig[BIC]', '/proc/self/status'])",
        {},
    ),
    "process": (
        "import os; print(os.getppid(), os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid(), os.getuid(), "
        "os.nice(0), os.umask(0), open('/proc/self/oom_score_adj').read())",
        {},
    ),
    "limits": ("print(open('/proc/self/limits').read())", {}),
    "dumpable": ("import os; print(os.stat('/proc/self/fd').st_uid, open('/proc/self/environ').read()[:4])", {}),
    "timers": ("import signal; print(signal.getitimer(signal.ITIMER_REAL))", {}),
    "threads": (
        "import threading\nt = threading.Thread(target=lambda: print(threading.current_thread().name))\n"
        "t.start()\nprint(threading.main_thread().name, threading.active_count() > 0)",
        {},
    ),
    "thread outlives main": (
        "import threading, time\nthreading.Thread(target=lambda: (time.sleep(.05), print('late'))).start()",
        {},
    ),
    "fork": (
        "import os\npid = os.fork()\nif not pid:\n    print('child', flush=True)\n    os._exit(0)\n"
        "print(os.waitpid(pid, 0)[1])",
        {},
    ),
    "multiprocessing fork": (
        "import multiprocessing as m\ndef f(x): return x * x\nif __name__ == '__main__':\n"
        "    with m.get_context('fork').Pool(2) as p: print(p.map(f, range(4)))",
        {},
    ),
    "multiprocessing spawn": (
        "import multiprocessing as m\ndef f(x): return x * x\nif __name__ == '__main__':\n"
        "    with m.get_context('spawn').Pool(2) as p: print(p.map(f, range(4)))",
        {},
    ),
    "spawn without a guard": (
        "import multiprocessing as m\np = m.get_context('spawn').Process(target=print)\np.start()",
        {"compare": ("status", "exit_code")},
    ),
    "asyncio": ("import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    print('x')\nasyncio.run(f())", {}),
    "subprocess": ("import subprocess; print(subprocess.run('echo $0; exit 3', shell=True))", {}),
    "gc and frames": ("import gc, sys; print(gc.isenabled(), gc.get_threshold(), sys._getframe().f_back)", {}),
    "interpreter settings": (
        "import sys, locale; print(sys.getswitchinterval(), sys.getrecursionlimit(), locale.getlocale(), "
        "sys.getfilesystemencoding(), sys.gettrace(), sys.getprofile(), sys.displayhook, sys.dont_write_bytecode)",
        {},
    ),
    "future": ("from __future__ import annotations\nprint(__annotations__ if 0 else 'ok', annotations)", {}),
    "encoding line": ("# -*- coding: latin-1 -*-\nprint(len('\u00e9'))", {}),
    "unicode": ("print('日本語 🎉', ascii('é'))", {}),
    "delete at exit": ("class A:\n    def __del__(self): print('del')\na = A()", {}),
    **{f"end: {name}": (code, {}) for name, code in ENDS.items()},
    "end: a helper's finalizer": ("import helper", {"files": {"helper.py": FINALIZED + "a = A('helper')"}}),
    "monitoring": ("import sys; print([sys.monitoring.get_tool(number) for number in range(6)])", {}),
    "numpy": ("import numpy; print(numpy.arange(3).sum())", {}),
    "another entry": (None, {"entrypoint": "app/run.py", "files": {"app/run.py": "print(__file__)"}}),
    "main as entry": (None, {"entrypoint": "main.py", "files": {"main.py": "print(__file__)"}}),
}

SAMPLES = {
    "text": Sample("print('hello')", "hello\n"),
    "files": Sample(
        "import os\nos.mkdir('outputs/out')\n"
        "open('outputs/out/m.txt', 'w').write(str(2 * int(open('inputs/n.txt').read())))",
        outputs={"out/m.txt": b"42"},
        job={"files": INPUT},
    ),
    "stdin": Sample(
        "import sys\nname = input()\nprint('hi', name, sum(map(int, sys.stdin)))",
        "hi Ada 3\n",
        job={"stdin": "Ada\n1\n2\n"},
    ),
    "args": Sample("import sys; print(sys.argv[1:])", "['-x', 'a b', 'é']\n", job={"args": ["-x", "a b", "é"]}),
    "env": Sample("import os; print(os.environ['MODE'])", "fast é\n", job={"env": {"MODE": "fast é"}}),
    "several files": Sample(
        "from lib.shapes import area\nprint(area(3))",
        "9\n",
        job={
            "files": {
                "lib/shapes.py": "from .power import square\ndef area(n): return square(n)\n",
                "lib/power.py": "def square(n): return n * n\n",
                "lib/__init__.py": "",
            }
        },
    ),
    "threads": Sample(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as pool: print(list(pool.map(lambda n: n * n, range(5))))",
        "[0, 1, 4, 9, 16]\n",
    ),
    "subprocess": Sample(
        "import subprocess; print(subprocess.run(['echo', 'from a child'], capture_output=True, text=True).stdout)",
        "from a child\n\n",
    ),
    "json": Sample(
        "import json; print(json.dumps({'b': [1, None, True], 'a': json.loads('\"\\\\u00e9\"')}, sort_keys=True))",
        '{"a": "\\u00e9", "b": [1, null, true]}\n',
    ),
    "dates": Sample(
        "from datetime import date, timedelta\nfrom zoneinfo import ZoneInfo\nfrom datetime import datetime\n"
        "print(date(2024, 2, 28) + timedelta(2))\n"
        "print(datetime(2024, 7, 1, 12, tzinfo=ZoneInfo('Europe/Berlin')).isoformat())",
        "2024-03-01\n2024-07-01T12:00:00+02:00\n",
    ),
    "unicode": Sample("s = 'naïve 日本 🎉'\nprint(s.upper(), len(s))", "NAÏVE 日本 🎉 10\n"),
    "big output": Sample("print('x' * 700_000)", "x" * 700_000 + "\n"),
    "error": Sample(
        "def f():\n    raise ValueError('no good')\n\n\nf()", stderr=('main.py", line 2', "no good"), exit_code=1
    ),
}
