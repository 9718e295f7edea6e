"""`python -m ops.files`: what the service's own sweeps do to files, at once and without a service (`make gc`).

Two processes, as in service: a child that has become api's account has the database and the uploads; this one,
root, removes artifacts that the child names on a pipe. So root opens no database that another account owns, and
api's account removes nothing of the worker's.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import IO

from api.files.blob_gc import UNREFERENCED_MS, BlobCollector
from config.settings import Settings, SettingsError, load_settings
from records import migrate, open_records
from records.errors import RecordsUnavailable
from records.retention import Policy, sweep
from storage import areas
from storage.errors import StorageError

FAILED = 1
#: Added to the present, it makes what was left a moment ago old enough.
NO_GRACE_MS = 2 * UNREFERENCED_MS


class Parent:
    """The worker's part, asked of this process's parent (`api.files.blob_gc.BlobDeleter`)."""

    def __init__(self, ask: IO[str], answer: IO[str]) -> None:
        self._ask = ask
        self._answer = answer

    def forget(self, hashes: Sequence[str]) -> list[str]:
        """Have artifacts removed; those that are gone."""
        self._ask.write(json.dumps(list(hashes)) + "\n")
        self._ask.flush()
        gone: list[str] = json.loads(self._answer.readline())
        return gone


def main() -> int:
    """Delete all files that may be deleted. Returns 0 when this is done."""
    try:
        settings = load_settings()
        if not settings.storage.is_dir():
            return 0  # nothing has ever been stored
        asked_r, asked_w = os.pipe()
        answer_r, answer_w = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(asked_r)
            os.close(answer_w)
            os._exit(_as_api(settings, asked_w, answer_r))
        os.close(asked_w)
        os.close(answer_r)
        _as_worker(settings, asked_r, answer_w)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except (SettingsError, StorageError, OSError) as e:
        print(f"files: {e}", file=sys.stderr)
        return FAILED


def _as_api(settings: Settings, ask: int, answer: int) -> int:
    """Become api for good, expire what has had its time, and remove what no file names."""
    try:
        os.setgroups([])
        os.setgid(settings.api_uid)
        os.setuid(settings.api_uid)
        os.umask(0o077)
        migrate(settings.database)
        records = open_records(settings.database)
        now_ms = time.time_ns() // 1_000_000
        rows = sweep(records.retention, Policy(settings.runs_retention_days, settings.runs_retention_count), now_ms)
        with os.fdopen(ask, "w") as asks, os.fdopen(answer) as answers:
            keeper = BlobCollector(records.files, areas.for_api(settings), Parent(asks, answers))
            # No service runs, so nothing is on its way from the store to its record.
            blobs = keeper.delete_unreferenced(now_ms + NO_GRACE_MS) + keeper.delete_orphans()
        records.close()
    except (RecordsUnavailable, StorageError, OSError, ValueError) as e:
        print(f"files: {e}", file=sys.stderr)
        return FAILED
    print(f"{rows} records and {blobs} blobs removed", flush=True)
    return 0


def _as_worker(settings: Settings, asked: int, answer: int) -> None:
    """Remove the artifacts that the other process names, until it closes the pipe."""
    store = areas.for_worker(settings).artifacts
    store.clean()
    with os.fdopen(asked) as lines, os.fdopen(answer, "w") as answers:
        for line in lines:
            gone = [sha256 for sha256 in json.loads(line) if store.delete(sha256)]
            answers.write(json.dumps(gone) + "\n")
            answers.flush()


if __name__ == "__main__":
    sys.exit(main())
