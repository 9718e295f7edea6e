"""The hints of a run: the codes and the fields that a hint may have.

A hint is JSON-ready data: `code`, `message`, and those further fields that apply to it.
"""

from __future__ import annotations

from typing import Any, Literal

HintCode = Literal[
    "module_not_found", "network_disabled", "file_not_found", "read_only", "out_of_memory", "timed_out",
    "pids_exhausted", "disk_full", "syscall_refused", "input_exhausted", "syntax_error",
]  # fmt: skip
HintData = dict[str, Any]

#: The most hints of a run.
MAX_HINTS = 5
#: The most characters of a text that a hint quotes from output, and of a message.
MAX_QUOTED = 120
MAX_MESSAGE = 1000
#: The most names in `near` and in `available`.
MAX_NEAR = 3
MAX_AVAILABLE = 10
