"""Artifact frames from an agent that may be anyone."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.job import path_problem
from protocol.limits import Limits
from sandbox.agent_client.artifacts import Receiver
from sandbox.frames import ProtocolError, pack
from storage.errors import StorageFull, StorageUnavailable
from storage.intake import WriterBase

LIMITS = Limits.resolve({"max_artifact_bytes": 100, "max_artifact_files": 3})


class Writer(WriterBase):
    """Bytes in memory; `fail_at` names the verb that the store cannot do."""

    def __init__(self, blobs, max_bytes):
        super().__init__(max_bytes)
        self._blobs = blobs
        self._bytes = bytearray()

    def _take(self, view):
        if self._blobs.fail_at == "write":
            raise StorageFull
        self._bytes += view

    def _publish(self, blob):
        if self._blobs.fail_at == "commit":
            raise StorageUnavailable("gone")
        self._blobs.kept[blob.sha256] = bytes(self._bytes)
        self._blobs.open -= 1

    def _discard(self):
        self._blobs.open -= 1


class Blobs:
    """A store in memory that counts the writers that were not let go of."""

    def __init__(self, fail_at=None):
        self.kept = {}
        self.open = 0
        self.fail_at = fail_at

    def writer(self, max_bytes):
        if self.fail_at == "begin":
            raise StorageUnavailable("gone")
        self.open += 1
        return Writer(self, max_bytes)


def begin(path, size):
    return pack([path, b"%d" % size])


def test_a_file_is_hashed_and_named():
    receiver = Receiver(LIMITS, Blobs())
    receiver.begin(begin(b"a/plot.csv", 5))
    receiver.data(b"he")
    receiver.data(b"llo")
    receiver.end(b"0")
    receiver.store()
    (artifact,) = receiver.artifacts
    assert (artifact.name, artifact.path, artifact.size) == ("plot.csv", "a/plot.csv", 5)
    assert artifact.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert artifact.content_type == "text/csv"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        (b"a.xlsx", b"x", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        (b"noending", b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"liar.png", b"<html>", "application/octet-stream"),
        (b"a.nobody-knows", b"\0", "application/octet-stream"),
    ],
)
def test_a_type_follows_the_ending_and_the_first_bytes(name, content, kind):
    receiver = Receiver(LIMITS, Blobs())
    receiver.begin(begin(name, len(content)))
    receiver.data(content)
    receiver.end(b"0")
    receiver.store()
    assert [artifact.content_type for artifact in receiver.artifacts] == [kind]


@pytest.mark.parametrize("fail_at", ["begin", "write", "commit"])
def test_what_cannot_be_stored_is_left_out_and_said(fail_at):
    blobs = Blobs(fail_at)
    receiver = Receiver(LIMITS, blobs)
    for name in (b"a", b"b"):
        receiver.begin(begin(name, 1))
        receiver.data(b"x")
    receiver.end(b"0")
    receiver.store()
    assert receiver.artifacts == []
    assert receiver.skipped == [{"path": "a", "reason": "not_stored"}, {"path": "b", "reason": "not_stored"}]
    assert receiver.skipped_count == 2
    assert (blobs.kept, blobs.open) == ({}, 0)


def test_each_is_told_of_when_it_is_stored_in_the_order_it_came():
    blobs, told = Blobs(), []
    receiver = Receiver(LIMITS, blobs)
    for name in (b"c", b"a", b"b"):
        receiver.begin(begin(name, 1))
        receiver.data(name)
    receiver.end(b"0")
    assert blobs.kept == {}
    receiver.store(lambda artifact: told.append((artifact.path, blobs.kept[artifact.sha256])))
    assert told == [("c", b"c"), ("a", b"a"), ("b", b"b")]
    assert blobs.open == 0


def test_a_conversation_that_broke_off_holds_nothing():
    blobs = Blobs()
    receiver = Receiver(LIMITS, blobs)
    receiver.begin(begin(b"a", 1))
    receiver.data(b"x")
    receiver.begin(begin(b"b", 5))
    receiver.data(b"x")
    receiver.abort()
    assert (blobs.kept, blobs.open) == ({}, 0)


def test_a_file_that_stops_short_is_left_out_as_changed():
    receiver = Receiver(LIMITS, Blobs())
    receiver.begin(begin(b"a", 5))
    receiver.data(b"he")
    receiver.end(b"0")
    assert receiver.artifacts == []
    assert receiver.skipped == [{"path": "a", "reason": "changed"}]


@pytest.mark.parametrize("path", [b"../x", b"/x", b"a//b", b"", b"a\0", b"\xff", b"a\nb", b"x" * 300])
def test_a_name_that_cannot_be_kept_is_left_out_percent_encoded(path):
    receiver = Receiver(LIMITS, Blobs())
    receiver.begin(begin(path, 1))
    receiver.data(b"x")
    receiver.end(b"0")
    assert receiver.artifacts == []
    assert [skip["reason"] for skip in receiver.skipped] == ["bad_name"]
    assert receiver.skipped[0]["path"].isascii()


def test_one_file_too_many_is_a_breach():
    receiver = Receiver(LIMITS, Blobs())
    for name in (b"a", b"b", b"c"):
        receiver.begin(begin(name, 0))
    with pytest.raises(ProtocolError):
        receiver.begin(begin(b"d", 0))


def test_one_byte_too_many_is_a_breach():
    receiver = Receiver(LIMITS, Blobs())
    with pytest.raises(ProtocolError):
        receiver.begin(begin(b"a", 101))
    receiver = Receiver(LIMITS, Blobs())
    receiver.begin(begin(b"a", 100))
    with pytest.raises(ProtocolError):
        receiver.data(b"x" * 101)


def test_the_list_of_what_was_left_out_is_capped_and_the_count_is_not():
    receiver = Receiver(LIMITS, Blobs())
    for number in range(100):
        receiver.skip(pack([b"%d" % number, b"too_many"]))
    receiver.end(b"16000")
    assert len(receiver.skipped) == 100
    assert receiver.skipped_count == 16000


CALLS = st.sampled_from(["begin", "data", "skip", "end"])


@given(
    st.lists(
        st.tuples(CALLS, st.binary(max_size=60) | st.builds(begin, st.binary(max_size=9), st.integers(0, 120)))
    )
)
def test_anything_at_all_stays_within_the_limits(calls):
    blobs = Blobs()
    receiver = Receiver(LIMITS, blobs)
    try:
        for name, payload in calls:
            getattr(receiver, name)(payload)
    except ProtocolError:
        pass
    receiver.close()
    receiver.store()
    assert blobs.open == 0
    assert len(receiver.artifacts) <= LIMITS.max_artifact_files
    assert len(receiver.skipped) <= 100
    assert all(path_problem(artifact.path) is None for artifact in receiver.artifacts)
    assert all(artifact.size <= LIMITS.max_artifact_bytes for artifact in receiver.artifacts)
