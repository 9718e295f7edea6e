"""The errors of `records` that its callers see.

    RecordsError
    ├── RecordsUnavailable   the database cannot be used now: 503 with Retry-After
    ├── RecordsTooNew        the database was made by a newer version: a refused start
    └── UnknownCursor        `after` names nothing of this owner: 400

Everything else a call can come to (not found, a quota, an idempotency mismatch) is a value that it returns.
"""

from __future__ import annotations


class RecordsError(Exception):
    """Something that `records` could not do. The message names no path, statement or parameter."""


class RecordsUnavailable(RecordsError):
    """The database is gone, full or too busy. Nothing was changed, unless the answer to a commit was lost."""

    #: Whole seconds to name in `Retry-After`.
    retry_after_s = 2

    def __init__(self, reason: str = "the database cannot be used now") -> None:
        super().__init__(reason)


class RecordsTooNew(RecordsError):
    """The database was migrated by a newer version of the service than this one."""


class UnknownCursor(RecordsError):
    """The id to go on after is not one of the owner's rows."""
