"""The same program, in the waiting interpreter and in one started anew: nothing it can see may differ."""

from __future__ import annotations

import pytest

PYTHON = {
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

NODE = {
    "argv": ("console.log(process.argv, process.execArgv, process.argv0)", {"args": ["a b", "é", "--x=1"]}),
    "node's own flags as args": ("console.log(process.argv.slice(2))", {"args": ["--require", "x", "-e", "1"]}),
    "commonjs": (
        "console.log(__filename, __dirname, require.main === module, module.id, module.children.length)",
        {},
    ),
    "module paths": ("console.log(module.paths, Object.keys(require.cache), module.parent)", {}),
    "esm": ("import fs from 'node:fs'; console.log(import.meta.url, import.meta.filename, typeof require)", {}),
    "top-level await": ("const x = await Promise.resolve(5); console.log(x)", {}),
    "esm sibling": ("import { x } from './h.mjs'; console.log(x)", {"files": {"h.mjs": "export const x = 1"}}),
    "cjs sibling": ("console.log(require('./h.js'))", {"files": {"h.js": "module.exports = 3"}}),
    "json sibling": ("console.log(require('./h.json').a)", {"files": {"h.json": '{"a": 1}'}}),
    "package type": (
        "import fs from 'fs'; console.log(typeof fs)",
        {"files": {"package.json": '{"type":"module"}'}},
    ),
    "cwd": ("console.log(process.cwd(), require('fs').readdirSync('.').sort())", {}),
    "env": ("console.log(Object.entries(process.env).sort())", {"env": {"MODE": "x", "EMPTY": "", "U": "é"}}),
    "env of a child": (
        "console.log(require('child_process').execSync('env | sort').toString())",
        {"env": {"MODE": "x"}},
    ),
    "env at boot": ("console.log(process.env.NODE_OPTIONS)", {"env": {"NODE_OPTIONS": "--no-warnings"}}),
    "time zone": ("console.log(new Date(0).toString())", {"env": {"TZ": "Asia/Tokyo"}}),
    "exit code": ("process.exit(42)", {}),
    "exitCode": ("process.exitCode = 7", {}),
    "exit hooks": (
        "process.on('exit', (c) => console.log('bye', c)); process.on('beforeExit', () => console.log('b'))",
        {},
    ),
    "uncaught": ("function f() {\n  throw new Error('no');\n}\nf();", {}),
    "uncaught esm": ("import fs from 'fs';\nthrow new TypeError('no');", {}),
    "rejection": ("Promise.reject(new Error('r'))", {}),
    "handler": ("process.on('uncaughtException', (e) => console.log('caught', e.message)); null.x", {}),
    "syntax error": ("const x = ;", {}),
    "stack": ("console.log(new Error('x').stack)", {}),
    "signal": ("process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 1000)", {}),
    "signal handler": (
        "process.on('SIGUSR2', () => console.log('got')); process.kill(process.pid, 'SIGUSR2'); setTimeout(() => {}, 50)",
        {},
    ),
    "stdin events": (
        "let s = ''; process.stdin.on('data', (d) => s += d).on('end', () => console.log(JSON.stringify(s)))",
        {"stdin": "one\ntwo é\n"},
    ),
    "stdin sync": ("console.log(require('fs').readFileSync(0, 'utf8'))", {"stdin": "one\n"}),
    "no stdin": ("process.stdin.on('end', () => console.log('end')).resume()", {}),
    "streams": (
        "for (const s of [process.stdin, process.stdout, process.stderr]) console.log(s.constructor.name, s.isTTY, s.fd)",
        {},
    ),
    "descriptors": (
        "const fs = require('fs'); const m = fs.readdirSync('/proc/self/fd').map((f) => { try { return "
        "fs.readlinkSync('/proc/self/fd/' + f) } catch { return '' } }); console.log(m.filter((x) => x.startsWith('pipe')).length)",
        {},
    ),
    "workers": (
        "const { Worker, isMainThread, parentPort } = require('worker_threads');\n"
        "if (isMainThread) new Worker(__filename).on('message', (m) => console.log('from worker', m));\n"
        "else parentPort.postMessage([process.argv.length, process.execArgv]);",
        {},
    ),
    "fork": (
        "const cp = require('child_process');\nif (process.send) process.send(process.execArgv);\n"
        "else cp.fork(__filename).on('message', (m) => console.log('from child', m));",
        {},
    ),
    "timers and microtasks": (
        "setTimeout(() => console.log(3)); Promise.resolve().then(() => console.log(2)); console.log(1)",
        {},
    ),
    "globals": ("console.log(Object.getOwnPropertyNames(globalThis).sort().join())", {}),
    "process": (
        "console.log(process.title, process.ppid, process.umask(), process.getuid(), process.features.inspector)",
        {},
    ),
    "preloads": ("console.log(process._preload_modules, process.listenerCount('exit'))", {}),
    "fetch fails": ("fetch('http://192.0.2.1/').catch((e) => console.log(e.cause.code))", {}),
    "unicode": ("console.log('日本語 🎉')", {}),
    "big output": ("process.stdout.write('x'.repeat(300000) + '\\n'); console.log('end')", {}),
    "memory": ("console.log(require('v8').getHeapStatistics().heap_size_limit)", {}),
    "another entry": (
        None,
        {"entrypoint": "app/run.mjs", "files": {"app/run.mjs": "console.log(import.meta.url)"}},
    ),
}

BASH = {
    "arguments": ('echo "$0" "$#" "$@"', {"args": ["a b", "é", "$HOME"]}),
    "stdin": ('read -r x; echo "got $x"; cat', {"stdin": "one\ntwo\n"}),
    "environment": ("env | sort", {"env": {"MODE": "x"}}),
    "exit": ("trap 'echo bye' EXIT; exit 9", {}),
    "tools": ("echo '{\"a\": 1}' | jq .a; echo 'a b' | awk '{print $2}' | sed s/b/c/; seq 3 | grep 2 | wc -l", {}),
    "substitution": ("cat <(echo one) <(echo two); diff <(echo a) <(echo b); echo $((2 ** 10))", {}),
    "error line": ("echo ok\nnope\nfalse", {}),
    "a file beside": ("source ./lib.sh; greet", {"files": {"lib.sh": "greet() { echo hello; }"}}),
    "signals": ("grep '^Sig[BIC]' /proc/self/status", {}),
}

CASES = [
    pytest.param(language, code, fields, id=f"{language}: {name}")
    for language, rows in (("python", PYTHON), ("node", NODE), ("bash", BASH))
    for name, (code, fields) in rows.items()
]
COMPARED = ("status", "exit_code", "signal", "stdout", "stderr")


@pytest.mark.parametrize(("language", "code", "fields"), CASES)
def test_warm_equals_cold(run, language, code, fields):
    fields = dict(fields)
    compared = fields.pop("compare", COMPARED)
    cold = run(language, code, interpreter="cold", **fields)
    warm = run(language, code, interpreter="warm", **fields)
    assert {name: warm[name] for name in compared} == {name: cold[name] for name in compared}


def test_tracebacks_name_the_users_file_and_line_and_nothing_of_the_agent(run):
    result = run("python", "def f():\n    return 1 / 0\n\n\nf()\n")
    assert 'File "/work/main.py", line 5, in <module>' in result["stderr"]
    assert 'File "/work/main.py", line 2, in f' in result["stderr"]
    assert "runyard" not in result["stderr"]
    result = run("node", "function f() {\n  throw new Error('no');\n}\nf();")
    assert "/work/main.js:2" in result["stderr"]
    assert "runyard" not in result["stderr"]


@pytest.mark.parametrize(
    ("language", "name", "code"),
    [("python", "-c", "print('dash')"), ("bash", "-c", "echo dash"), ("node", "-e", "console.log('dash')")],
)
def test_an_entry_that_looks_like_an_option_is_a_file(run, language, name, code):
    assert run(language, None, entrypoint=name, files={name: code}, args=["x"])["stdout"] == "dash\n"
