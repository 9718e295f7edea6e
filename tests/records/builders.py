"""Runs, ends and files with the fields that a test does not care about filled in."""

from __future__ import annotations

import hashlib
import itertools
import os

from records.files import NewFile
from records.runs import IdempotencyKey, NewRun, RunEnd, StoredEvent

NOW_MS = 1_800_000_000_000
_numbers = itertools.count(1)


def unique(prefix):
    """A name that no other test, and no other process of this one, uses."""
    return f"{prefix}_{os.getpid()}_{next(_numbers)}_{os.urandom(6).hex()}"


def new_run(owner="key_a", **fields):
    given = {
        "id": unique("run"),
        "owner": owner,
        "language": "python",
        "created_at_ms": NOW_MS,
        "document": b'{"status":"queued"}',
        "request": b'{"code":"1"}',
    }
    return NewRun(**(given | fields))


def an_end(status="succeeded", **fields):
    return RunEnd(status, **({"ended_at_ms": NOW_MS + 5, "document": b'{"status":"ended"}'} | fields))


def accepted(records, owner="key_a", **fields):
    """The id of a run that is queued."""
    run = new_run(owner, **fields)
    records.runs.accept(run)
    return run.id


def ended(records, owner="key_a", end=None, **fields):
    """The id of a run that has ended."""
    run_id = accepted(records, owner, **fields)
    assert records.runs.finish(run_id, 1, end or an_end())
    return run_id


def events(*seqs, size=0):
    return tuple(StoredEvent(seq, b'{"seq":%d,"data":"%s"}' % (seq, b"x" * size)) for seq in seqs)


def key(text="once", body=b"body"):
    return IdempotencyKey(text, hashlib.sha256(body).digest())


def a_file(content=b"content", **fields):
    given = {
        "id": unique("file"),
        "name": "plot.png",
        "path": "plot.png",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "content_type": "image/png",
        "created_at_ms": NOW_MS,
    }
    return NewFile(**(given | fields))
