"""What is packed comes back, however large, small or strange."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.packing import CHUNK_BYTES, PLAIN_BYTES, chunks, events_of, pack, unpack
from records.runs import StoredEvent

bodies = st.binary(max_size=200).map(lambda body: body.replace(b"\n", b"."))
sequences = st.lists(st.tuples(st.integers(1, 10**6), bodies), unique_by=lambda pair: pair[0], max_size=50).map(
    sorted
)


@given(st.binary(max_size=5000) | st.integers(0, 200_000).map(lambda size: b"ab" * size))
def test_packing_is_undone(data):
    assert unpack(pack(data)) == data


@given(st.binary(max_size=100))
def test_what_was_not_packed_is_refused_or_unpacked_but_never_a_crash(data):
    try:
        unpack(data)
    except ValueError:
        return
    assert data[:1] in {b"\0", b"\1"}


def test_small_data_stays_plain_and_large_gets_smaller():
    assert pack(b"x" * (PLAIN_BYTES - 1)) == b"\0" + b"x" * (PLAIN_BYTES - 1)
    assert len(pack(b"x" * PLAIN_BYTES)) < PLAIN_BYTES / 4


@given(sequences, st.integers(0, 10**6))
def test_events_come_back_from_their_chunks(pairs, above):
    given_events = [StoredEvent(seq, body) for seq, body in pairs]
    packed = list(chunks(given_events, above=above))
    found = [event for _, chunk in packed for event in events_of(chunk)]
    assert found == [event for event in given_events if event.seq > above]
    for last, chunk in packed:
        assert list(events_of(chunk))[-1].seq == last


def test_chunks_are_of_bounded_size():
    many = [StoredEvent(seq, b"x" * 1000) for seq in range(1, 1001)]
    packed = list(chunks(many))
    assert 10 < len(packed) < 20
    assert all(len(unpack(chunk)) < CHUNK_BYTES + 2000 for _, chunk in packed)


@pytest.mark.parametrize(
    "events",
    [
        [StoredEvent(0, b"{}")],
        [StoredEvent(2**31, b"{}")],
        [StoredEvent(2, b""), StoredEvent(1, b"")],
        [StoredEvent(1, b""), StoredEvent(1, b"")],
        [StoredEvent(1, b"\n")],
    ],
)
def test_events_that_could_not_be_told_apart_are_refused(events):
    with pytest.raises(ValueError, match="events"):
        list(chunks(events))
