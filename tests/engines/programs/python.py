"""Python programs: run warm and cold to be compared, and samples with what they print."""

from programs import INPUT, Sample

AN_OPTION_FOR_A_NAME = ("-c", "print('dash')")

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
