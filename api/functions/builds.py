"""The builds of functions: each is a run, and what has become of it is read from that run.

Nothing else decides the state of a version. A version whose build has ended is settled when it is looked at: by the
call that waited for the build, by a later one, or by the keeper, also after a restart in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from api.functions.handlers import BUILT, LANGUAGES
from config.clock import now_ms
from records.functions import BuildEnd, FunctionBlob

if TYPE_CHECKING:
    from collections.abc import Callable

    from records.functions import FunctionStore, FunctionVersion
    from records.runs import Run, RunStore

#: A version whose build is not known after this time has none: the service was ended in between.
UNKNOWN_MS = 60_000
_INTERRUPTED = "The service was restarted before this was built; deploy the function again."
_NO_PROGRAM = "The build has left no program, or a larger one than an artifact may be."


class Builds:
    """Settles versions whose build has ended. Safe for many threads."""

    def __init__(self, functions: FunctionStore, runs: RunStore, whole: Callable[[Run], Run]) -> None:
        """`whole` puts a run's outputs into its document, wherever they are."""
        self._functions = functions
        self._runs = runs
        self._whole = whole

    def settle(self, found: FunctionVersion) -> FunctionVersion:
        """Return a version as it is now. Raises RecordsUnavailable, StorageUnavailable."""
        if found.state != "building":
            return found
        run = self._runs.get(found.owner, found.build_run_id)
        if run is None:
            if now_ms() - found.created_at_ms < UNKNOWN_MS:
                return found
            end = BuildEnd("failed", now_ms(), _INTERRUPTED)
        elif not run.ended:
            return found
        else:
            end = build_end(found.language, orjson.loads(self._whole(run).document), now_ms())
        self._functions.end_build(found.owner, found.name, found.version, end)
        return self._functions.get(found.owner, found.name, found.version) or found

    def settle_all(self) -> int:
        """Settle all versions whose build has ended; how many."""
        return sum(self.settle(found).state != "building" for found in self._functions.building())


def build_end(language: str, run: dict[str, Any], at_ms: int) -> BuildEnd:
    """Return the end of a build from the document of its run."""
    handlers = LANGUAGES[language]
    log = log_of(run)
    if run["status"] == "succeeded":
        program = _program(run) if handlers.is_compiled else None
        if program is not None or not handlers.is_compiled:
            return BuildEnd("ready", at_ms, log, program, run.get("layer"))
        log = joined(log, _NO_PROGRAM)
    elif run["status"] == "error":
        log = joined(log, str(run["error"]["message"]))
    else:
        log = joined(log, _why(run), f"A handler of {language} is: {handlers.signature}")
    return BuildEnd("failed", at_ms, log, None, run.get("layer"))


def log_of(run: dict[str, Any]) -> str:
    """Return all that a build has printed, the compiler first."""
    compiled = run["compile"] or {"stdout": "", "stderr": ""}
    return joined(compiled["stdout"], compiled["stderr"], run["stdout"], run["stderr"])


def joined(*texts: str) -> str:
    """Return texts one after the other, each ended by a newline."""
    return "".join(text if text.endswith("\n") else f"{text}\n" for text in texts if text)


def _why(run: dict[str, Any]) -> str:
    return "" if run["status"] == "failed" else f"The build ended: {run['status']}."


def _program(run: dict[str, Any]) -> FunctionBlob | None:
    found = next((item for item in run["artifacts"] if item["path"] == BUILT), None)
    return None if found is None else FunctionBlob("program", "artifact", found["sha256"], found["size"])
