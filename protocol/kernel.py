"""The facts of a run that its kernel sends, and their bounds: results, the exception, the state of the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from protocol.limits import KIB, MIB

MAX_RESULTS = 100
#: Of all results of a run together.
MAX_RESULTS_BYTES = 10 * MIB
#: Of all results of a run together that are JSON: parsed, they take a multiple of that.
MAX_JSON_BYTES = 2 * MIB
#: The depth to which a result that is JSON may be nested.
MAX_JSON_DEPTH = 64
#: A record holds results of so many bytes; more are stored as a blob.
MAX_RECORD_RESULTS_BYTES = 256 * KIB
MAX_EXCEPTION_BYTES = 64 * KIB
MAX_CONTEXTS = 16
DATA_TYPE = "application/vnd.runyard.data+json"
CHART_TYPE = "application/vnd.runyard.chart+json"
#: The names of common formats in a result; others stand under `extra`.
SHORT_NAMES = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    DATA_TYPE: "data",
    CHART_TYPE: "chart",
}
#: The formats whose values are JSON, and not text.
JSON_TYPES = frozenset({"application/json", DATA_TYPE, CHART_TYPE})
#: After a run its kernel has kept its variables, or had to be ended.
KernelState = Literal["kept", "lost"]


@dataclass(frozen=True, slots=True)
class ExceptionFacts:
    """The exception that ended a cell: a claim of its kernel."""

    name: str
    value: str
    traceback: tuple[str, ...]
