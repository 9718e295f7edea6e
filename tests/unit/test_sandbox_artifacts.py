"""Artifact frames from an agent that may be anyone."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.artifacts import Receiver, content_type
from sandbox.frames import ProtocolError, pack
from sandbox.job import Limits, path_problem

LIMITS = Limits.resolve({"max_artifact_bytes": 100, "max_artifact_files": 3})


def begin(path, size):
    return pack([path, b"%d" % size])


def test_a_file_is_hashed_and_named():
    receiver = Receiver(LIMITS)
    receiver.begin(begin(b"a/plot.png", 5))
    receiver.data(b"he")
    receiver.data(b"llo")
    receiver.end(b"0")
    (artifact,) = receiver.artifacts
    assert (artifact.name, artifact.path, artifact.size) == ("plot.png", "a/plot.png", 5)
    assert artifact.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert artifact.content_type == "image/png"


def test_a_type_follows_the_ending():
    assert content_type("a.xlsx").endswith("spreadsheetml.sheet")
    assert content_type("a.webp") == "image/webp"
    assert content_type("a.nobody-knows") == content_type("noending") == "application/octet-stream"


def test_a_file_that_stops_short_is_left_out_as_changed():
    receiver = Receiver(LIMITS)
    receiver.begin(begin(b"a", 5))
    receiver.data(b"he")
    receiver.end(b"0")
    assert receiver.artifacts == []
    assert receiver.skipped == [{"path": "a", "reason": "changed"}]


@pytest.mark.parametrize("path", [b"../x", b"/x", b"a//b", b"", b"a\0", b"\xff", b"a\nb", b"x" * 300])
def test_a_name_that_cannot_be_kept_is_left_out_percent_encoded(path):
    receiver = Receiver(LIMITS)
    receiver.begin(begin(path, 1))
    receiver.data(b"x")
    receiver.end(b"0")
    assert receiver.artifacts == []
    assert [skip["reason"] for skip in receiver.skipped] == ["bad_name"]
    assert receiver.skipped[0]["path"].isascii()


def test_one_file_too_many_is_a_breach():
    receiver = Receiver(LIMITS)
    for name in (b"a", b"b", b"c"):
        receiver.begin(begin(name, 0))
    with pytest.raises(ProtocolError):
        receiver.begin(begin(b"d", 0))


def test_one_byte_too_many_is_a_breach():
    receiver = Receiver(LIMITS)
    with pytest.raises(ProtocolError):
        receiver.begin(begin(b"a", 101))
    receiver = Receiver(LIMITS)
    receiver.begin(begin(b"a", 100))
    with pytest.raises(ProtocolError):
        receiver.data(b"x" * 101)


def test_the_list_of_what_was_left_out_is_capped_and_the_count_is_not():
    receiver = Receiver(LIMITS)
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
    receiver = Receiver(LIMITS)
    try:
        for name, payload in calls:
            getattr(receiver, name)(payload)
    except ProtocolError:
        pass
    assert len(receiver.artifacts) <= LIMITS.max_artifact_files
    assert len(receiver.skipped) <= 100
    assert all(path_problem(artifact.path) is None for artifact in receiver.artifacts)
    assert all(artifact.size <= LIMITS.max_artifact_bytes for artifact in receiver.artifacts)
