"""How the tests fit a machine that is slower than those that their limits of time are for: an emulated one."""

from __future__ import annotations

import os
from typing import Any

import pytest

#: How many times slower. Set by tests/vm, which measures it.
TIME_FACTOR = float(os.environ.get("RUNYARD_TEST_TIME_FACTOR", "1"))
#: Where only some languages are built (tests/vm). Never set elsewhere: no test is skipped for a language there.
LANGUAGES = frozenset(filter(None, os.environ.get("RUNYARD_TEST_LANGUAGES", "").split(",")))


def require_language(language: str) -> None:
    """Skip a test of a language that this machine is told not to build."""
    if LANGUAGES and language not in LANGUAGES:
        pytest.skip(f"RUNYARD_TEST_LANGUAGES leaves {language} out")


def default_limits(given: dict[str, Any] | None) -> dict[str, Any]:
    """Return a job's limits, with the default time stretched for a machine that is slower."""
    if TIME_FACTOR == 1:
        return given or {}
    return {"timeout_ms": min(60_000, int(10_000 * TIME_FACTOR)), **(given or {})}
