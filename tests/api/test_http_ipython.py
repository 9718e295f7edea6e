"""Cells of a python context beside IPython as it is: both must print the same, and end in the same way."""

from __future__ import annotations

import json
import re

import pytest

#: Executed in order in one shell of each kind.
CELLS = (
    "x = 42\nprint(x)",
    "x",
    "x; x + 1;",
    "'a\\nb'",
    "print('a', end='')\nprint('b')",
    "[i ** 2 for i in range(200)]",
    "{'b': 1, 'a': {2, 1}, 'c': (None, ..., 1.5)}",
    "dict.fromkeys(range(300), 'long' * 10)",
    "_ is not None, Out is not None",
    "1 / 0",
    "raise KeyError('k')",
    "raise SystemExit(3)",
    "def f(n):\n    '''doc'''\n    return n and f(n - 1)\nf(3)",
    "f(10 ** 6)",
    "class A:\n    def __repr__(self):\n        return 'A()'\nA()",
    "class B:\n    def _repr_pretty_(self, p, cycle):\n        p.text('pretty')\n[B()]",
    "lambda: 0, f.__name__",
    "for i in range(3): i",
    "%time y = 1",
    "%%capture caught\nprint(1)",
    "!echo shell; echo $((1 + 1))",
    "files = !echo a; echo b\nfiles",
    "%who_ls int",
    "import numpy as np; np.arange(3), np.float64(1.5)",
    "import pandas as pd; pd.DataFrame({'a': range(100)})",
    "pd.Series([1.0, None], name='s')",
    "import asyncio; await asyncio.sleep(0, 'awaited')",
    "async def g():\n    return 7\nawait g()",
    "if True\n    pass",
    "(1,\n",
    "unknown_name",
    "assert x == 1, 'no'",
    "import sys; print('err', file=sys.stderr); sys.stdout.write('out\\n')",
    "del x\nx",
    "In[1]",
)
#: Executes the cells in IPython itself, and prints what each has printed and shown, and how it has ended.
PROGRAM = """
import contextlib, io, json, os
os.environ["IPYTHONDIR"] = "/tmp/.ipython"
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
shell.system = shell.system_piped
shell.showtraceback = shell.showsyntaxerror = lambda *a, **k: None
found = []
shell.displayhook.write_output_prompt = lambda: None
shell.displayhook.write_format_data = lambda data, md=None: shown.append(data["text/plain"])
for code in json.load(open("cells.json")):
    shown, out = [], io.StringIO()
    with contextlib.redirect_stdout(out):
        done = shell.run_cell(code, store_history=True)
    error = done.error_before_exec or done.error_in_exec
    found.append([out.getvalue(), shown, error and type(error).__name__, error and str(error)])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def plain(service):
    """What IPython prints, by itself, in a single-use sandbox."""
    files = [{"path": "cells.json", "content": json.dumps(CELLS)}]
    done = service.run("python", PROGRAM, files=files, limits={"timeout_ms": 60_000, "memory_mb": 512})
    assert done["exit_code"] == 0, done
    return json.loads(done["stdout"].splitlines()[-1])


@pytest.fixture(scope="module")
def ours(service):
    """What a context gives of the same cells."""
    path = f"/v1/sessions/{service.post('/v1/sessions', json={'language': 'python'}).body['id']}"
    found = []
    for code in CELLS:
        done = service.post(f"{path}/runs", json={"code": code}).body
        shown = [one["text"] for one in done["results"] if one["is_main_result"]]
        error = done["exception"] or {"name": None, "value": None}
        if error["name"] is None and done["exit_code"]:
            error = {"name": "SystemExit", "value": str(done["exit_code"])}
        found.append([done["stdout"], shown, error["name"], error["value"]])
    service.request("DELETE", path)
    return found


def alike(found):
    """Return what IPython and a context must have in common: no times, names of cells and ends of lines by terminals."""
    stdout, shown, name, value = found
    stdout = re.sub(r"[0-9.]+(e[+-]?[0-9]+)? ?(ns|us|\u00b5s|\u03bcs|ms|s)\b", "TIME", stdout.replace("\r\n", "\n"))
    return stdout, shown, name, value and re.sub(r"<ipython-input-(\d+)-[0-9a-f]+>", r"cell \1", value)


@pytest.mark.parametrize("number", range(len(CELLS)))
def test_a_cell_prints_what_ipython_prints(plain, ours, number):
    assert alike(ours[number]) == alike(plain[number])
