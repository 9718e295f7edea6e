"""Inputs by the thousand: frames as a forged agent may send them, and requests as a client may."""

from __future__ import annotations

import json
import os
import random
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.frames import FROM_AGENT, HEADER_BYTES, FrameParser, ProtocolError, frame, number, unpack

KINDS = bytes(FROM_AGENT)
SEED = int(os.environ.get("RUNYARD_FUZZ_SEED", "1"))

# -- frames ------------------------------------------------------------------------------------------


def honest(chance):
    """A few frames as an agent sends them."""
    sent = []
    for _ in range(chance.randrange(1, 5)):
        kind = chance.choice(KINDS)
        size = min(FROM_AGENT[kind], chance.choice((0, 1, 3, 10, 64, 300)))
        sent.append(frame(bytes([kind]), chance.randbytes(size)))
    return b"".join(sent)


def spoilt(chance):
    """The same, with something wrong: turned bits, lengths, pieces cut out, doubled or put in."""
    data = bytearray(honest(chance))
    for _ in range(chance.randrange(0, 4)):
        at = chance.randrange(len(data) + 1)
        how = chance.randrange(6)
        if how == 0 and data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        elif how == 1:
            data[at : at + chance.randrange(9)] = b""
        elif how == 2:
            data[at:at] = chance.randbytes(chance.randrange(9))
        elif how == 3:
            data[at : at + 4] = chance.choice((2**32 - 1, 2**31, 65_537, 262_145, 0)).to_bytes(4, "big")
        elif how == 4:
            data[at:at] = data[:at][-16:]
        else:
            del data[at:]
        data = data or bytearray(b"\0")
    return bytes(data)


def parsed(pieces):
    """The frames of a stream that came in these pieces, and whether it broke the protocol."""
    parser, found = FrameParser(), []
    try:
        for piece in pieces:
            for item in parser.feed(piece):
                assert item.kind[0] in FROM_AGENT
                assert len(item.payload) <= FROM_AGENT[item.kind[0]]
                found.append(item)
            assert parser.pending_bytes <= HEADER_BYTES + max(FROM_AGENT.values())
    except ProtocolError:
        return found, True
    return found, False


def check_stream(chance):
    data = spoilt(chance)
    whole, broken = parsed([data])
    at = chance.randrange(len(data) + 1)
    cut, cut_broken = parsed([data[:at], data[at:]])
    # However it is cut, it breaks the protocol or not; what came before that may be handed out earlier.
    assert broken == cut_broken
    assert broken or cut == whole
    assert cut[: len(whole)] == whole
    for item in cut[:2]:
        for read in (lambda payload: unpack(payload, 2), lambda payload: number(payload, 1000)):
            try:
                read(item.payload)
            except ProtocolError:
                continue


@pytest.mark.parametrize("inputs", [10**5, pytest.param(10**6, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_frames_from_a_forged_agent(inputs):
    chance = random.Random(SEED)
    for _ in range(inputs):
        check_stream(chance)


# -- requests ----------------------------------------------------------------------------------------

TEXT = st.text(max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXT, children, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    "language code entrypoint files args stdin env limits stream background isolation metadata __proto__".split()  # noqa: SIM905
)
LIKELY = st.fixed_dictionaries(
    {
        "language": st.sampled_from(["bash", "python", "py", "cobol", ""]),
        "code": st.sampled_from(["", "true", ":"]),
    },
    optional={
        "limits": st.dictionaries(
            st.sampled_from(["timeout_ms", "memory_mb", "pids", "cpus", "x"]), JSON, max_size=3
        ),
        "files": st.lists(
            st.dictionaries(st.sampled_from(["path", "content", "id", "encoding"]), JSON, max_size=3), max_size=3
        ),
        "env": st.dictionaries(TEXT, TEXT | JSON, max_size=3),
        "args": st.lists(TEXT, max_size=3) | JSON,
        "stdin": TEXT | JSON,
        "metadata": JSON,
    },
)
FUZZED = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)  # fmt: skip


def check_reply(reply):
    """Never a 5xx but 503 with Retry-After; an error is always the envelope."""
    assert reply.status < 500 or (reply.status == 503 and int(reply.headers["retry-after"]) > 0), (
        reply.status,
        reply.raw,
    )
    assert reply.headers["x-request-id"]
    if reply.status >= 400 and reply.status != 503:
        assert set(reply.body["error"]) == {"message", "type", "param", "code"}


def as_json(value):
    return json.dumps(value).encode("utf-8", "replace")


@pytest.mark.usefixtures("invariants")
@pytest.mark.timeout(600)
def test_bodies(service):
    @FUZZED
    @given(st.builds(lambda body, more: {**body, **more}, LIKELY, st.dictionaries(NAMES, JSON, max_size=2)))
    def go(body):
        body["background"] = False  # answered here, so that none is left running
        check_reply(service.post("/v1/runs", data=as_json(body)))

    go()


@pytest.mark.usefixtures("invariants")
@pytest.mark.timeout(600)
def test_bytes_for_bodies(service):
    @FUZZED
    @given(st.binary(max_size=300) | JSON.map(as_json))
    def go(data):
        for path in ("/v1/runs", "/v1/files", "/v1/runs/run_x/cancel"):
            check_reply(service.post(path, data=data))

    go()


@pytest.mark.usefixtures("invariants")
@pytest.mark.timeout(600)
def test_paths_and_headers(service):
    words = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)

    @FUZZED
    @given(
        st.sampled_from(["GET", "POST", "DELETE", "HEAD"]),
        st.sampled_from(["/", "/v1/", "/v1/runs/", "/v1/files/", "/v1/runs?", "/v1/runs?limit=", "/v1/runs?after=", "/v1/files/x/content?token="]),
        st.text(max_size=60),
        st.dictionaries(st.sampled_from(["Accept", "Range", "If-None-Match", "Idempotency-Key", "Last-Event-ID", "X-Forwarded-For", "Origin", "Content-Type"]), words, max_size=3),
    )  # fmt: skip
    def go(method, start, rest, headers):
        path = start + quote(rest.encode("utf-8", "replace"), safe="/?&=%")
        reply = service.request(method, path, b"" if method == "POST" else None, headers)
        assert reply.status < 500 or (reply.status == 503 and "retry-after" in reply.headers), (
            method,
            path,
            reply.raw,
        )

    go()
