"""`docs/api.md` names every error code that the code can answer, and no other."""

from __future__ import annotations

import re
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
GUIDE = (REPO / "docs" / "api.md").read_text()
#: Said by the worker, or only by the HTTP layer of an unexpected status.
FROM_ELSEWHERE = {
    "context_not_found",
    "too_many_contexts",
    "name_in_use",
    "kernel_ended",
    "overloaded",
    "files_too_large",
    "limit_below_minimum",
    "limit_exceeds_maximum",
    "queue_timeout",
    "too_many_runs",
    "interrupted",
    "idempotency_key_in_use",
    "not_supported",
    # of sessions
    "engine_error",
    "io_error",
    "disk_full",
    "file_not_permitted",
    "not_a_file",
    "not_a_directory",
    "file_exists",
    "process_not_found",
    "not_a_terminal",
    "watcher_not_found",
    "invalid_archive",
    "ticket_invalid",
    "session_busy",
    "session_paused",
    "too_many_sessions",
    # of packages
    "invalid_package",
    "package_not_found",
    "package_build_failed",
}
UNDOCUMENTED = {"request_timeout"}


def documented():
    table = GUIDE.split("| HTTP | `code` |")[1].split("\n\n")[0]
    return set(re.findall(r"`([a-z]+(?:_[a-z0-9]+)+|overloaded|interrupted)`", table)) - {"run_id"}


def in_the_code():
    found = set()
    for path in (REPO / "api").rglob("*.py"):
        text = path.read_text()
        found |= set(re.findall(r'code="([a-z_0-9]+)"', text))
        found |= set(re.findall(r'\d{3}: \(".*", "([a-z_]+)"\)', text))
        found |= set(re.findall(r'", "((?:missing|malformed|invalid)_token)"', text))
        found |= set(re.findall(r'\("[a-z ]+", "([a-z]+_[a-z]+)"\)', text))
        found |= set(re.findall(r'None, "([a-z]+_(?:lost|error))"', text))
    return found


def test_codes():
    assert in_the_code() - UNDOCUMENTED <= documented()
    assert documented() <= in_the_code() | FROM_ELSEWHERE
