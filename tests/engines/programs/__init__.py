"""Programs as data: a module for each language, named as the language.

`WARM_AND_COLD` maps a name to (code, fields of the job): run in a waiting interpreter and in one started anew, nothing
it can see may differ. A field `compare` names what is looked at when that is not everything.

`SAMPLES` maps what is shown (one of `KINDS`) to a program and what must come of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

#: What each language is shown to do.
KINDS = frozenset(
    {
        "text",
        "files",
        "stdin",
        "args",
        "env",
        "several files",
        "threads",
        "subprocess",
        "json",
        "dates",
        "unicode",
        "big output",
        "error",
    }
)

#: For `files`: every language doubles what is in `/work/inputs/n.txt` into `/work/outputs/out/m.txt`.
INPUT = {"inputs/n.txt": "21"}


@dataclass(frozen=True)
class Sample:
    """A program, the rest of its job, and what is expected; `stderr` are pieces that must be in it."""

    code: str
    stdout: str = ""
    stderr: tuple[str, ...] = ()
    exit_code: int = 0
    outputs: dict[str, bytes] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)


def _languages() -> dict[str, ModuleType]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}


#: The module of each language; last, since they import what is above.
LANGUAGES = _languages()
