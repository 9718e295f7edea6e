"""The frame parser against anything a sandbox could send, and against the agent's own end."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox import frames
from sandbox.frames import (
    FROM_AGENT,
    HEADER_BYTES,
    PROTOCOL_VERSION,
    RUN_CHANNEL,
    Frame,
    FrameParser,
    Hello,
    ProtocolError,
    frame,
    number,
    pack,
    parse_hello,
    unpack,
)

AGENT = Path(__file__).resolve().parents[2] / "runners" / "agent"


@pytest.fixture(scope="module")
def agent_frames():
    spec = importlib.util.spec_from_file_location("agent_frames", AGENT / "frames.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KINDS = st.sampled_from(sorted(FROM_AGENT))


@st.composite
def honest_frames(draw):
    kind = draw(KINDS)
    payload = draw(st.binary(max_size=min(FROM_AGENT[kind], 300)))
    return Frame(bytes([kind]), payload)


@given(st.lists(honest_frames(), max_size=8), st.lists(st.integers(1, 50), max_size=60))
def test_what_is_sent_arrives_however_it_is_cut(sent, cuts):
    stream = b"".join(frame(item.kind, item.payload) for item in sent)
    parser, got, at = FrameParser(), [], 0
    for cut in cuts:
        got += parser.feed(stream[at : at + cut])
        at += cut
    got += parser.feed(stream[at:])
    assert got == sent
    assert parser.pending_bytes == 0


@settings(max_examples=2000)
@given(st.lists(st.binary(max_size=400), max_size=10))
def test_arbitrary_bytes_give_bounded_frames_or_a_protocol_error(pieces):
    parser = FrameParser()
    try:
        for piece in pieces:
            for item in parser.feed(piece):
                assert len(item.payload) <= FROM_AGENT[item.kind[0]]
    except ProtocolError:
        return
    assert parser.pending_bytes <= frames.HEADER_BYTES + max(FROM_AGENT.values())


@given(KINDS, st.integers(0, 2**32 - 1))
def test_a_length_beyond_the_kinds_bound_is_refused_before_its_bytes_come(kind, length):
    parser = FrameParser()
    header = bytes([kind, 0, 0]) + length.to_bytes(4, "big")
    if length > FROM_AGENT[kind]:
        with pytest.raises(ProtocolError):
            parser.feed(header)
    else:
        parser.feed(header)


@given(st.integers(0, 255).filter(lambda kind: kind not in FROM_AGENT))
def test_an_unknown_kind_is_refused(kind):
    with pytest.raises(ProtocolError):
        FrameParser().feed(bytes([kind, 0, 0, 0, 0, 0, 0]))


@given(KINDS, st.integers(1, 2**16 - 1), st.binary(max_size=8))
def test_a_frame_on_a_channel_that_is_not_open_is_refused_at_its_header(kind, channel, payload):
    whole = frame(bytes([kind]), payload, channel)
    with pytest.raises(ProtocolError, match=f"channel {channel}, which is not open"):
        FrameParser().feed(whole[:HEADER_BYTES])
    parser = FrameParser()
    assert parser.feed(whole[: HEADER_BYTES - 1]) == []


@settings(max_examples=2000)
@given(
    st.one_of(
        st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES), KINDS.map(lambda kind: bytes([kind, *bytes(6)]))
    )
)
def test_any_header_is_judged_from_its_seven_bytes_alone(header):
    kind, channel, length = header[0], int.from_bytes(header[1:3], "big"), int.from_bytes(header[3:], "big")
    good = channel == RUN_CHANNEL and length <= FROM_AGENT.get(kind, -1)
    parser = FrameParser()
    if not good:
        with pytest.raises(ProtocolError):
            parser.feed(header)
        return
    assert parser.feed(header) == ([Frame(header[:1], b"", RUN_CHANNEL)] if length == 0 else [])
    assert parser.pending_bytes == (HEADER_BYTES if length else 0)


@given(st.binary(max_size=FROM_AGENT[frames.READY[0]] + 1))
def test_a_hello_of_any_bytes_is_read_or_refused(payload):
    try:
        hello = parse_hello(payload)
    except ProtocolError:
        assert payload[:2] != PROTOCOL_VERSION.to_bytes(2, "big") or len(payload) != 8
        return
    assert (hello.protocol_version, len(payload)) == (PROTOCOL_VERSION, 8)


@given(st.integers(0, 2**16 - 1).filter(lambda version: version != PROTOCOL_VERSION), st.binary(max_size=60))
def test_another_version_is_named_whatever_its_hello_looks_like(version, rest):
    with pytest.raises(ProtocolError, match=f"protocol version {version}, this host speaks {PROTOCOL_VERSION}"):
        parse_hello(version.to_bytes(2, "big") + rest)


@given(st.integers(0, 2**16 - 1))
def test_the_hello_that_the_agent_writes_is_read(agent_frames, landlock_abi):
    hello = parse_hello(agent_frames.hello(landlock_abi))
    assert hello == Hello(agent_frames.PROTOCOL_VERSION, agent_frames.CAPABILITIES, landlock_abi)


@given(KINDS, st.binary(max_size=300), st.integers(0, 2**16 - 1))
def test_both_ends_write_the_same_header(agent_frames, kind, payload, channel):
    written = frame(bytes([kind]), payload, channel)
    assert agent_frames.head(bytes([kind]), len(payload), channel) + payload == written
    if channel == agent_frames.RUN_CHANNEL:
        assert agent_frames.frame(bytes([kind]), payload) == written
        assert agent_frames.take_frames(bytearray(written)) == [(bytes([kind]), payload)]
    else:
        with pytest.raises(ValueError, match="channel that is not open"):
            agent_frames.take_frames(bytearray(written))


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_pack_and_unpack_are_inverse(parts):
    assert unpack(pack(parts), len(parts)) == parts


@given(st.binary(max_size=60), st.integers(0, 6))
def test_unpack_of_anything_gives_the_count_asked_for_or_a_protocol_error(data, count):
    try:
        parts = unpack(data, count)
    except ProtocolError:
        return
    assert len(parts) == count
    assert pack(parts) == data


@given(st.binary(max_size=12))
def test_a_number_is_plain_decimal_or_refused(data):
    try:
        value = number(data)
    except ProtocolError:
        return
    assert data.isdigit()
    assert 0 <= value <= 2**31


@pytest.mark.parametrize("text", [b"", b"-1", b"+1", b" 1", b"1_0", b"0x1", b"99999999999", b"\xd9\xa1"])
def test_numbers_that_python_would_take_but_the_protocol_does_not(text):
    with pytest.raises(ProtocolError):
        number(text)


@given(st.binary(max_size=5000))
def test_a_long_content_is_cut_into_frames_that_the_agent_puts_together(agent_frames, content):
    size = frames.MAX_PAYLOAD_BYTES
    frames.MAX_PAYLOAD_BYTES = 600
    try:
        stream = bytearray(b"".join(frames.frames_of(b"F", b"M", b"a/b", content)))
    finally:
        frames.MAX_PAYLOAD_BYTES = size
    (kind, first), *rest = agent_frames.take_frames(stream)
    path, head = agent_frames.unpack(first)
    assert (kind, path) == (b"F", b"a/b")
    assert all(kind == b"M" for kind, _ in rest)
    assert head + b"".join(piece for _, piece in rest) == content


def test_both_ends_name_the_same_frames(agent_frames):
    ours = {name: value for name, value in vars(frames).items() if name.isupper() and isinstance(value, bytes)}
    theirs = {
        name: value for name, value in vars(agent_frames).items() if name.isupper() and isinstance(value, bytes)
    }
    assert ours == theirs
    assert len(set(ours.values())) == len(ours)
    assert agent_frames.MAX_PAYLOAD == frames.MAX_PAYLOAD_BYTES
    assert agent_frames.HEADER == frames.HEADER_BYTES
    assert agent_frames.RUN_CHANNEL == frames.RUN_CHANNEL
    assert agent_frames.PROTOCOL_VERSION == frames.PROTOCOL_VERSION


def test_the_agent_reads_the_job_that_the_host_writes(monkeypatch):
    from protocol.job import Job
    from sandbox.agent_client.job_frames import job_frames
    from sandbox.languages import Catalogue
    from sandbox.run.plan import build_plan

    monkeypatch.setattr(sys, "path", [str(AGENT.parent), *sys.path])
    import agent.frames as agent_frames
    from agent.job import AgentJob

    plan = build_plan(
        Job("run_x", "python", code="print()", args=("é", ""), env={"A": "b=c"}, limits={"timeout_ms": 5}),
        Catalogue.load(),
    )
    sent = agent_frames.take_frames(bytearray(b"".join(job_frames(plan, None))))
    assert [kind for kind, _ in sent] == [b"F", b"J"]
    job = AgentJob(sent[1][1])
    assert job.warm
    assert job.argv == [b"python3", b"main.py"]
    assert job.program_args == ["é".encode(), b""]
    assert job.env == {b"A": b"b=c"}
    assert job.deadline_ms > plan.limits.timeout_ms
    assert job.max_output_bytes == plan.limits.max_output_bytes
    assert job.max_artifact_files == plan.limits.max_artifact_files
    assert (job.compile_argv, job.compile_env) == ([], {})


def test_both_ends_have_the_same_fields_of_the_job(monkeypatch):
    from sandbox.agent_client.job_frames import JOB_FIELDS

    monkeypatch.setattr(sys, "path", [str(AGENT.parent), *sys.path])
    from agent.job import FIELDS

    assert tuple(map(tuple, JOB_FIELDS)) == FIELDS


@pytest.mark.parametrize("language", ["python", "go"])
def test_every_field_of_the_job_arrives_as_it_was(monkeypatch, language):
    from protocol.job import MAX_ARTIFACTS_BYTES, Job
    from protocol.limits import LIMIT_RULES
    from sandbox.agent_client.job_frames import AGENT_GRACE_MS, job_frames
    from sandbox.languages import Catalogue
    from sandbox.run.plan import build_plan

    monkeypatch.setattr(sys, "path", [str(AGENT.parent), *sys.path])
    import agent.frames as agent_frames
    from agent.job import FIELDS, AgentJob

    framed = [name for name, rule in LIMIT_RULES.items() if rule.frame]
    given = {name: int(LIMIT_RULES[name].minimum) + at for at, name in enumerate(framed, start=1)}
    plan = build_plan(
        Job("run_x", language, code="1", args=("é", ""), env={"A": "b=c", "B": ""}, limits=given), Catalogue.load()
    )
    *_, (_, payload) = agent_frames.take_frames(bytearray(b"".join(job_frames(plan, None))))
    job = AgentJob(payload)
    compiling = plan.compiling
    assert {name: getattr(job, name) for name, _ in FIELDS} == given | {
        "warm": plan.warm,
        "argv": [part.encode() for part in plan.argv],
        "program_args": ["é".encode(), b""],
        "env": {b"A": b"b=c", b"B": b""},
        "deadline_ms": plan.limits.timeout_ms + AGENT_GRACE_MS,
        "max_artifacts_bytes": MAX_ARTIFACTS_BYTES,
        "compile_argv": [part.encode() for part in compiling.argv] if compiling else [],
        "compile_env": {k.encode(): v.encode() for k, v in compiling.env.items()} if compiling else {},
        "compile_deadline_ms": compiling.limits.timeout_ms + AGENT_GRACE_MS if compiling else 0,
        "outputs": b"outputs",
    }


def test_the_agent_takes_no_job_of_another_number_of_fields(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(AGENT.parent), *sys.path])
    from agent.job import NO_JOB, AgentJob

    assert AgentJob(NO_JOB).argv == []
    for payload in (b"", NO_JOB[:-4], NO_JOB + pack([b""])):
        with pytest.raises(ValueError, match=r"zip\(\)"):
            AgentJob(payload)


def test_the_agent_reads_how_to_compile(monkeypatch):
    from protocol.job import Job
    from protocol.limits import COMPILE_TIMEOUT_MS
    from sandbox.agent_client.job_frames import job_frames
    from sandbox.languages import Catalogue
    from sandbox.run.plan import build_plan

    monkeypatch.setattr(sys, "path", [str(AGENT.parent), *sys.path])
    import agent.frames as agent_frames
    from agent.job import AgentJob

    plan = build_plan(Job("run_x", "go", code="package main", env={"GOFLAGS": "x"}), Catalogue.load())
    *_, (_, payload) = agent_frames.take_frames(bytearray(b"".join(job_frames(plan, None))))
    job = AgentJob(payload)
    assert job.compile_argv[-2:] == [b"main.go", b"/opt/build/main"]
    assert job.argv == [b"/opt/build/main"]
    assert job.compile_env[b"GOFLAGS"] != b"x"
    assert job.compile_deadline_ms > COMPILE_TIMEOUT_MS
