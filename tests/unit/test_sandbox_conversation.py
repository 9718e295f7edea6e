"""The host's side of a conversation, with agents that lie, stall, flood and hang up."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.connection import LEAVE
from protocol.job import Job, JobInput
from sandbox import frames
from sandbox.agent_client import client
from sandbox.agent_client.client import AgentClient
from sandbox.agent_client.stdin import WINDOW_BYTES
from sandbox.engines import SandboxBroken, Stats
from sandbox.frames import FROM_AGENT, frame, pack
from sandbox.languages import Catalogue
from sandbox.run.live import EventSink, LiveRun
from sandbox.run.outcome import status_of
from sandbox.run.plan import build_plan
from storage.errors import StorageUnavailable
from tests.unit.test_sandbox_artifacts import Blobs
from worker.unix_channel import UnixChannel

CATALOGUE = Catalogue.load()


class NoStorage:
    """Of a run that has neither inputs nor artifacts."""

    def writer(self, max_bytes):
        raise AssertionError("nothing is to be stored")

    def open_input(self, item):
        raise AssertionError("nothing is to be read")


STORAGE = NoStorage()


class FakeSandbox:
    """A stream whose other end the test holds; killing closes it, as the kernel would."""

    def __init__(self):
        self.stream, self.agent = socket.socketpair()
        self.cpu_ns = 0
        self.oom_kills = 0
        self.lent_mb = 0
        self.fits = True
        self.told = []

    def stats(self):
        return Stats(self.cpu_ns, 5 << 20, self.oom_kills)

    def raise_memory_limit(self, reserve_mb):
        self.lent_mb += reserve_mb

    def enter_compile_phase(self, limits):
        self.told.append(("begin compiling", limits.memory_mb))
        return True

    def leave_compile_phase(self):
        self.told.append("end compiling")
        return self.fits

    def kill(self):
        self.agent.close()

    def close(self):
        self.stream.close()
        self.agent.close()


def exit_frame(kind=b"exit", number=b"0", out=b"0", err=b"0", outputs=b"0"):
    return frame(frames.EXIT, pack([kind, number, out, err, outputs]))


class Heard:
    """What came of a conversation, with what was printed beside it."""

    def __init__(self, spoken, log):
        self.stdout, self.stderr = log.text("stdout"), log.text("stderr")
        self.log = log
        self._report = spoken

    def __getattr__(self, name):
        return getattr(self._report, name)


def compiled_frame(kind=b"exit", number=b"0"):
    return frame(frames.COMPILED, pack([kind, number, b"0", b"0"]))


#: Between the pieces of an agent that is slow.
PAUSE_S = 0.1


def converse(
    script,
    *,
    listener=None,
    hearing="all",
    hang_up=True,
    cpu_ns=0,
    oom_kills=0,
    fits=True,
    language="bash",
    compile_script=None,
    phases=None,
    slowly=(),
    storage=STORAGE,
    **job,
):
    """What comes of it when the agent reads all it is sent and says `script`.

    With a `compile_script` that is what it says when told to compile, and `script` when told to go; without a
    `script` it waits for no such word. The pieces of `slowly` follow, each after PAUSE_S.
    """
    sandbox = FakeSandbox()
    sandbox.cpu_ns, sandbox.oom_kills, sandbox.fits = cpu_ns, oom_kills, fits
    plan = build_plan(Job("run_x", language, code="true", **job), CATALOGUE)
    live = LiveRun("run_x", language, outlet=listener and EventSink(UnixChannel(listener), hearing))
    told = bytearray()

    def act():
        agent = sandbox.agent
        try:
            for order, answer in ((frames.COMPILE, compile_script), (frames.GO, script)):
                if answer is None:
                    continue
                while frame(order) not in told and (data := agent.recv(65536)):
                    told.extend(data)
                agent.sendall(answer)
            for piece in slowly:
                time.sleep(PAUSE_S)
                agent.sendall(piece)
            if hang_up:
                agent.shutdown(socket.SHUT_WR)
            while data := agent.recv(65536):
                told.extend(data)
        except OSError:
            return

    thread = threading.Thread(target=act)
    thread.start()
    try:
        spoken = AgentClient(sandbox, plan, live, storage).run_job()
        if phases is not None:
            phases += [entry[1]["name"] for entry in live.log.timeline() if entry[0] == "phase"]
    finally:
        live.end()
        sandbox.stream.close()
        thread.join(10)
        sandbox.close()
    assert not thread.is_alive()
    return Heard(spoken, live.log), bytes(told), sandbox


def test_an_honest_end():
    spoken, _, sandbox = converse(frame(frames.STDOUT, b"hi") + exit_frame(number=b"3") + frame(frames.END, b"0"))
    assert (spoken.stdout, spoken.ending.exit_code, spoken.ending.broken) == ("hi", 3, False)
    assert sandbox.lent_mb == 0


def compile_and_run(compile_script, script=None, **more):
    return converse(script, compile_script=compile_script, language="go", **more)


RAN = frame(frames.STDOUT, b"ran") + exit_frame() + frame(frames.END, b"0")


def test_what_is_compiled_is_run_after_its_limits_are_back_in_force():
    phases = []
    said = frame(frames.STDERR, b"warning") + compiled_frame()
    spoken, told, sandbox = compile_and_run(said, RAN, phases=phases, stdin="in")
    assert (spoken.compiled.stderr, spoken.compiled.exit_code, spoken.stderr) == (b"warning", 0, "")
    assert (spoken.stdout, status_of(spoken.ending)) == ("ran", "succeeded")
    assert sandbox.told == [("begin compiling", 768), "end compiling"]
    assert phases == ["compile", "run"]
    assert told.index(frame(frames.COMPILE)) < told.index(frame(frames.STDIN, b"in")) < told.index(frame(frames.GO))


def test_what_is_not_compiled_hears_of_no_compiler():
    phases = []
    spoken, told, sandbox = converse(RAN, phases=phases)
    assert (spoken.compiled, sandbox.told, phases) == (None, [], ["run"])
    assert frame(frames.COMPILE) not in told


def test_the_compilers_cpu_time_is_told_whatever_it_comes_to():
    for frames_sent, hang_up in ((compiled_frame() + RAN, True), (compiled_frame(number=b"1"), False), (b"", True)):
        spoken, _, _ = compile_and_run(frames_sent, hang_up=hang_up, cpu_ns=1_250_000_000)
        assert spoken.compiled.cpu_ms == 1250


def test_what_does_not_compile_is_not_run():
    said = frame(frames.STDERR, b"main.go:1: no") + compiled_frame(number=b"1")
    spoken, told, sandbox = compile_and_run(said, hang_up=False)
    assert (status_of(spoken.ending), spoken.compiled.exit_code) == ("failed", 1)
    assert (spoken.ending.exit_code, spoken.wall_ms, spoken.stats.cpu_ns) == (None, 0, 0)
    assert spoken.compiled.stderr == b"main.go:1: no"
    assert frame(frames.GO) not in told
    assert "end compiling" not in sandbox.told


def test_a_compiler_that_the_kernel_killed_for_its_memory_is_an_oom():
    for end in (compiled_frame(kind=b"signal", number=b"9"), compiled_frame(number=b"1"), b""):
        spoken, _, _ = compile_and_run(end, oom_kills=1, hang_up=not end)
        assert status_of(spoken.ending) == "oom"
    assert spoken.compiled.exit_code is None


def test_a_compiler_killed_for_another_reason_is_a_failure_without_a_code():
    spoken, _, _ = compile_and_run(compiled_frame(kind=b"signal", number=b"11"), hang_up=False)
    assert (status_of(spoken.ending), spoken.compiled.exit_code) == ("failed", None)


def test_a_program_too_large_for_its_own_memory_is_an_oom_and_is_not_run():
    spoken, told, _ = compile_and_run(compiled_frame(), fits=False, hang_up=False)
    assert (status_of(spoken.ending), spoken.compiled.exit_code) == ("oom", 0)
    assert frame(frames.GO) not in told


def test_a_compiler_meets_its_own_clock_and_not_the_programs(monkeypatch):
    monkeypatch.setattr("protocol.limits.COMPILE_TIMEOUT_MS", 150)
    monkeypatch.setattr(client, "KILL_TIMEOUT_S", 0.1)
    spoken, told, _ = compile_and_run(b"", hang_up=False, limits={"timeout_ms": 20})
    assert (status_of(spoken.ending), spoken.compiled.exit_code) == ("timeout", None)
    assert spoken.compiled.wall_ms >= 150
    assert frame(frames.KILL) in told
    assert frame(frames.GO) not in told


def test_a_client_that_leaves_while_it_compiles_is_not_kept_waiting(monkeypatch):
    monkeypatch.setattr(client, "KILL_TIMEOUT_S", 0.1)
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(LEAVE)
        theirs.close()
        spoken, told, _ = compile_and_run(b"", hang_up=False, listener=ours)
    assert status_of(spoken.ending) == "cancelled"
    assert frame(frames.GO) not in told


def test_the_compilers_output_is_bounded_and_takes_nothing_from_the_programs():
    said = frame(frames.STDOUT, b"x" * 500) + compiled_frame()
    spoken, _, _ = compile_and_run(said, RAN, limits={"max_output_bytes": 100})
    assert (len(spoken.compiled.stdout), spoken.stdout, spoken.stdout_truncated) == (100, "ran", False)


def test_a_compiler_that_may_have_less_than_its_sandbox_holds_is_an_oom(monkeypatch):
    monkeypatch.setattr(FakeSandbox, "enter_compile_phase", lambda _self, _limits: False)
    spoken, told, _ = compile_and_run(b"", hang_up=False, compile_limits={"memory_mb": 16})
    assert (status_of(spoken.ending), spoken.compiled.exit_code) == ("oom", None)
    assert told == b""


def test_a_compiler_meets_the_limits_of_its_job(monkeypatch):
    monkeypatch.setattr(client, "KILL_TIMEOUT_S", 0.1)
    for limits, more in (({"timeout_ms": 30}, {}), ({"cpu_ms": 40}, {"cpu_ns": 41_000_000})):
        spoken, told, _ = compile_and_run(b"", hang_up=False, compile_limits=limits, **more)
        assert (status_of(spoken.ending), spoken.compiled.exit_code) == ("timeout", None)
        assert spoken.compiled.wall_ms < 2000
        assert frame(frames.KILL) in told
        assert frame(frames.GO) not in told
    _, _, sandbox = compile_and_run(compiled_frame(), RAN, compile_limits={"memory_mb": 100})
    assert sandbox.told[0] == ("begin compiling", 100)


KILLED = exit_frame(b"signal", b"9") + frame(frames.END, b"0")


@pytest.mark.parametrize("stream", [frames.STDOUT, frames.STDERR])
def test_a_program_that_is_ended_when_its_output_is_cut(stream):
    bounds = {"limits": {"max_output_bytes": 100}, "ends_when_cut": True}
    spoken, told, _ = converse(frame(stream, b"x" * 101) + KILLED, **bounds)
    assert frame(frames.KILL) in told
    assert (status_of(spoken.ending), spoken.ending.exit_code, spoken.ending.signal_number) == ("killed", None, 9)
    assert spoken.stdout + spoken.stderr == "x" * 100
    assert (spoken.stdout_truncated, spoken.stderr_truncated) == (stream == frames.STDOUT, stream == frames.STDERR)
    # What fits is no reason to end it, and neither is a cut where nobody asked for that.
    spoken, told, _ = converse(frame(stream, b"x" * 100) + exit_frame() + frame(frames.END, b"0"), **bounds)
    assert (status_of(spoken.ending), frame(frames.KILL) in told) == ("succeeded", False)
    bounds["ends_when_cut"] = False
    spoken, told, _ = converse(frame(stream, b"x" * 101) + exit_frame() + frame(frames.END, b"0"), **bounds)
    assert (status_of(spoken.ending), frame(frames.KILL) in told) == ("succeeded", False)


def test_a_compiler_that_is_ended_when_its_output_is_cut():
    said = frame(frames.STDERR, b"x" * 101) + compiled_frame()
    spoken, told, _ = compile_and_run(said, hang_up=False, limits={"max_output_bytes": 100}, ends_when_cut=True)
    assert frame(frames.KILL) in told
    assert frame(frames.GO) not in told
    assert (status_of(spoken.ending), spoken.compiled.exit_code) == ("killed", None)
    assert spoken.compiled.stderr == b"x" * 100


def test_a_program_cannot_go_back_to_compiling():
    spoken, _, sandbox = compile_and_run(compiled_frame(), compiled_frame() + RAN, hang_up=False)
    assert status_of(spoken.ending) == "killed"
    assert sandbox.told.count(("begin compiling", 768)) == 1


COMPILE_BREACHES = {
    "the end of a program": exit_frame() + frame(frames.END, b"0"),
    "an artifact": frame(frames.ARTIFACT, pack([b"a", b"0"])),
    "a wish for the program's stdin": frame(frames.STDIN_TAKEN, b"0"),
    "an exit code that cannot be": compiled_frame(number=b"256"),
    "a kind that cannot be": compiled_frame(kind=b"success"),
    "too few words": frame(frames.COMPILED, pack([b"exit", b"0"])),
    "nothing": b"",
}


@pytest.mark.parametrize("name", COMPILE_BREACHES)
def test_a_breach_of_the_protocol_while_compiling_ends_the_run(name):
    spoken, told, sandbox = compile_and_run(COMPILE_BREACHES[name], stdin="secret")
    assert (status_of(spoken.ending), spoken.compiled.exit_code) == ("killed", None)
    assert frame(frames.GO) not in told
    assert b"secret" not in told
    assert "end compiling" not in sandbox.told


def test_a_build_directory_that_something_still_writes_to_ends_the_run(monkeypatch):
    def refuse(_self):
        raise SandboxBroken("busy")

    monkeypatch.setattr(FakeSandbox, "leave_compile_phase", refuse)
    spoken, told, _ = compile_and_run(compiled_frame(), hang_up=False)
    assert status_of(spoken.ending) == "killed"
    assert frame(frames.GO) not in told


def test_an_agent_that_hangs_up_is_the_programs_doing():
    spoken, _, _ = converse(frame(frames.STDOUT, b"kept"))
    assert (spoken.stdout, status_of(spoken.ending)) == ("kept", "killed")
    spoken, _, _ = converse(b"", oom_kills=1)
    assert status_of(spoken.ending) == "oom"


BREACHES = {
    "an unknown frame": b"?" + bytes(frames.HEADER_BYTES - 1),
    "a frame too long": frames.STDOUT + b"\0\0\xff\xff\xff\xff",
    "a frame on a channel that is not open": frame(frames.STDOUT, b"x", channel=1),
    "an exit on a channel that is not open": frame(frames.EXIT, b"", channel=0x100),
    "a second hello": frame(frames.READY, bytes(8)),
    "the host's own frames": frame(frames.GO),
    "an artifact before the end": frame(frames.ARTIFACT, pack([b"a", b"0"])),
    "the end without an exit": frame(frames.END, b"0"),
    "two exits": exit_frame() + exit_frame(),
    "output after the exit": exit_frame() + frame(frames.STDOUT, b"x"),
    "artifacts that were not asked for": exit_frame() + frame(frames.ARTIFACT, pack([b"a", b"0"])),
    "an exit code that cannot be": exit_frame(number=b"256"),
    "a signal that cannot be": exit_frame(kind=b"signal", number=b"65"),
    "a kind that cannot be": exit_frame(kind=b"success"),
    "stdin taken that was not sent": frame(frames.STDIN_TAKEN, b"1"),
    "a number that is none": frame(frames.STDIN_TAKEN, b"-1"),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_of_the_protocol_ends_the_run(name):
    spoken, _, _ = converse(BREACHES[name], hang_up=False)
    if spoken.ending.exit_code is None:
        assert status_of(spoken.ending) == "killed"
    assert spoken.receiver.artifacts == []


def test_output_beyond_the_cap_is_dropped_whoever_sends_it():
    flood = frame(frames.STDOUT, b"x" * 60_000) * 10
    spoken, _, _ = converse(flood + exit_frame() + frame(frames.END, b"0"), limits={"max_output_bytes": 100})
    assert (len(spoken.stdout), spoken.stdout_truncated) == (100, True)


def test_a_silent_agent_meets_the_hosts_clock(monkeypatch):
    monkeypatch.setattr(client, "KILL_TIMEOUT_S", 0.1)
    began = time.monotonic()
    spoken, told, _ = converse(b"", hang_up=False, limits={"timeout_ms": 100})
    assert (status_of(spoken.ending), time.monotonic() - began < 2) == ("timeout", True)
    assert frame(frames.KILL) in told


def test_cpu_time_is_read_from_the_kernel_and_not_from_the_agent(monkeypatch):
    monkeypatch.setattr(client, "KILL_TIMEOUT_S", 0.1)
    spoken, _, _ = converse(b"", hang_up=False, cpu_ns=10**9, limits={"cpu_ms": 50, "timeout_ms": 20_000})
    assert status_of(spoken.ending) == "timeout"


def test_an_agent_that_stalls_over_artifacts_costs_the_artifacts_only(monkeypatch):
    monkeypatch.setattr(client, "COLLECT_TIMEOUT_S", 0.1)
    spoken, told, sandbox = converse(exit_frame(outputs=b"1"), hang_up=False)
    assert (status_of(spoken.ending), spoken.receiver.artifacts) == ("succeeded", [])
    assert frame(frames.COLLECT) in told
    assert sandbox.lent_mb > 0


@pytest.mark.parametrize(("size", "arrives"), [(64 * 1024, True), (1, False)])
def test_artifacts_have_the_longer_the_more_of_them_has_come(monkeypatch, size, arrives):
    monkeypatch.setattr(client, "COLLECT_TIMEOUT_S", 2 * PAUSE_S)
    monkeypatch.setattr(client, "COLLECT_BYTES_PER_S", 64 * 1024 / (2 * PAUSE_S))
    begun = exit_frame(outputs=b"1") + frame(frames.ARTIFACT, pack([b"a", b"%d" % (10 * size)]))
    pieces = [frame(frames.DATA, b"x" * size)] * 10 + [frame(frames.END, b"0")]
    spoken, _, _ = converse(begun, slowly=pieces, hang_up=False, storage=Blobs())
    assert status_of(spoken.ending) == "succeeded"
    spoken.receiver.store()
    assert [artifact.path for artifact in spoken.receiver.artifacts] == (["a"] if arrives else [])


@pytest.mark.parametrize(("word", "status"), [(LEAVE, "cancelled"), (b"", "error")])
def test_a_client_that_leaves_has_the_program_killed(monkeypatch, word, status):
    monkeypatch.setattr(client, "KILL_TIMEOUT_S", 0.1)
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(word)
        theirs.close()
        spoken, _, _ = converse(b"", hang_up=False, listener=ours)
    assert (status_of(spoken.ending), spoken.ending.cancelled) == (status, status == "cancelled")
    assert spoken.ending.interrupted == (not word)


def test_no_more_of_stdin_is_sent_than_the_agent_has_taken(monkeypatch):
    monkeypatch.setattr(client, "KILL_TIMEOUT_S", 0.1)
    size = 1 << 20
    _, told, _ = converse(b"", hang_up=False, stdin="x" * size, limits={"timeout_ms": 100})
    assert told.count(b"x") <= WINDOW_BYTES + 100
    assert frame(frames.STDIN_END) not in told


PIECES = st.one_of(
    st.binary(max_size=40),
    st.builds(frame, st.sampled_from([bytes([kind]) for kind in FROM_AGENT]), st.binary(max_size=70)),
    st.builds(exit_frame, st.sampled_from([b"exit", b"signal", b"x"]), st.sampled_from([b"0", b"9", b"300"])),
    st.builds(exit_frame, outputs=st.just(b"1")),
    st.builds(compiled_frame, st.sampled_from([b"exit", b"signal", b"x"]), st.sampled_from([b"0", b"9", b"300"])),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=8).map(b"".join))
def test_whatever_an_agent_says_the_conversation_ends_within_its_bounds(script):
    spoken, _, _ = converse(script, limits={"max_output_bytes": 50, "max_artifact_files": 2})
    assert max(len(spoken.stdout), len(spoken.stderr)) <= 50
    assert len(spoken.receiver.artifacts) <= 2
    assert status_of(spoken.ending) in {"succeeded", "failed", "killed"}


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=6).map(b"".join), st.lists(PIECES, max_size=6).map(b"".join))
def test_whatever_is_said_while_compiling_the_limits_are_widened_once_and_only_before_the_program(
    compiling, running
):
    # Said in one breath, so that nothing waits for a word that will not come.
    spoken, told, sandbox = compile_and_run(compiling + running, limits={"max_output_bytes": 50})
    assert sandbox.told in ([("begin compiling", 768)], [("begin compiling", 768), "end compiling"])
    assert (frame(frames.GO) in told) <= ("end compiling" in sandbox.told)
    assert max(len(spoken.stdout), len(spoken.compiled.stdout), len(spoken.compiled.stderr)) <= 50
    assert status_of(spoken.ending) in {"succeeded", "failed", "killed"}


def test_a_listener_that_does_not_read_holds_the_program_up_until_its_time_is_over(monkeypatch):
    monkeypatch.setattr(client, "KILL_TIMEOUT_S", 0.2)
    ours, theirs = socket.socketpair()
    sandbox = FakeSandbox()
    limits = {"timeout_ms": 1_500, "max_output_bytes": 8 << 20}
    plan = build_plan(Job("run_x", "bash", code="true", limits=limits), CATALOGUE)
    live = LiveRun("run_x", "bash", outlet=EventSink(UnixChannel(ours), "all"))
    sent = 0

    def flood():
        nonlocal sent
        agent = sandbox.agent
        agent.recv(65536)
        agent.settimeout(1.0)
        try:
            while True:
                agent.sendall(frame(frames.STDOUT, b"x" * 65_000))
                sent += 65_000
        except OSError:
            agent.close()

    thread = threading.Thread(target=flood)
    with ours, theirs:
        thread.start()
        spoken = AgentClient(sandbox, plan, live, STORAGE).run_job()
        thread.join(10)
        live.end()
        sandbox.close()
    assert status_of(spoken.ending) in {"timeout", "killed"}
    # Far less than the cap: the two sockets' buffers and what a listener may be behind.
    assert sent < 3 << 20


def test_a_run_ended_by_a_stopping_service_is_killed(monkeypatch):
    monkeypatch.setattr(client, "KILL_TIMEOUT_S", 0.1)
    sandbox = FakeSandbox()
    plan = build_plan(Job("run_x", "bash", code="true"), CATALOGUE)
    live = LiveRun("run_x", "bash")
    threading.Timer(0.1, live.cancel, ["stopping"]).start()
    spoken = AgentClient(sandbox, plan, live, STORAGE).run_job()
    live.end()
    sandbox.close()
    assert (status_of(spoken.ending), spoken.ending.cancelled) == ("killed", False)


def test_a_stop_that_comes_after_the_exit_changes_nothing():
    live_stop = []

    class Late(FakeSandbox):
        def stats(self):  # read when the exit is told
            live_stop[0].cancel("cancelled")
            return super().stats()

    sandbox = Late()
    plan = build_plan(Job("run_x", "bash", code="true"), CATALOGUE)
    live = LiveRun("run_x", "bash")
    live_stop.append(live)

    def act():
        told = b""
        while frame(frames.GO) not in told:
            told += sandbox.agent.recv(65536)
        sandbox.agent.sendall(exit_frame())
        time.sleep(0.1)
        sandbox.agent.sendall(frame(frames.END, b"0"))

    thread = threading.Thread(target=act)
    thread.start()
    spoken = AgentClient(sandbox, plan, live, STORAGE).run_job()
    thread.join(10)
    live.end()
    sandbox.close()
    assert status_of(spoken.ending) == "succeeded"


def unread_after(act, *, kill_at_once=False, oom_kills=0):
    """Return whether a job counts as unread when the agent ends after `act`, which has the agent's end."""
    sandbox, live = FakeSandbox(), LiveRun("run_x", "bash")
    sandbox.oom_kills = oom_kills
    plan = build_plan(Job("run_x", "bash", code="true"), CATALOGUE)

    def end():
        act(sandbox.agent)
        sandbox.agent.close()

    thread = threading.Thread(target=end)
    if kill_at_once:
        end()
    else:
        threading.Timer(0.1, thread.start).start()
    spoken = AgentClient(sandbox, plan, live, STORAGE).run_job()
    live.end()
    sandbox.close()
    assert status_of(spoken.ending) in {"killed", "oom"}
    return spoken.unread


def test_a_job_that_its_agent_has_not_read_is_known_as_such():
    assert unread_after(lambda agent: None)
    assert unread_after(lambda agent: None, kill_at_once=True)
    # All but the last byte, which is of the frame that starts the program.
    assert unread_after(lambda agent: agent.recv(len(agent.recv(65536, socket.MSG_PEEK)) - 1))


def test_a_job_that_may_have_been_read_counts_as_read():
    assert not unread_after(lambda agent: agent.recv(65536))
    assert not unread_after(lambda agent: agent.sendall(frame(frames.STDOUT, b"x")))
    assert not unread_after(lambda agent: agent.sendall(b"\0"))
    # What was sent may itself be the reason.
    assert not unread_after(lambda agent: None, oom_kills=1)


def test_events_of_an_honest_run():
    heard, _, _ = converse(frame(frames.STDOUT, b"hi") + exit_frame() + frame(frames.END, b"0"))
    assert [entry[:2] for entry in heard.log.timeline()] == [["phase", {"name": "run"}], ["stdout", 2]]


class Input:
    """Bytes of an input as a store gives them, or until it fails."""

    def __init__(self, pieces, error=None):
        self.pieces, self.error = pieces, error
        self.given = 0
        self.closed = False

    def writer(self, max_bytes):
        raise AssertionError("nothing is to be stored")

    def open_input(self, item):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def __iter__(self):
        for piece in self.pieces:
            self.given += len(piece)
            yield piece
        if self.error is not None:
            raise self.error


def plan_with_input(size):
    item = JobInput("inputs/x", "upload", "0" * 64, size)
    return build_plan(Job("run_x", "bash", code="true", inputs=(item,), limits={"memory_mb": 512}), CATALOGUE)


def test_a_file_from_storage_is_read_as_the_sandbox_takes_it_and_before_go():
    size, piece = 32 << 20, bytes(256 << 10)
    source = Input([piece] * (size // len(piece)))
    sandbox, live = FakeSandbox(), LiveRun("run_x", "bash")
    told, ahead = bytearray(), []

    def act():
        while not told.endswith(frame(frames.GO)):
            told.extend(sandbox.agent.recv(65536))
            ahead.append(source.given - len(told))
        sandbox.agent.sendall(exit_frame() + frame(frames.END, b"0"))

    thread = threading.Thread(target=act)
    thread.start()
    spoken = AgentClient(sandbox, plan_with_input(size), live, source).run_job()
    thread.join(10)
    live.end()
    sandbox.close()
    assert (status_of(spoken.ending), source.closed) == ("succeeded", True)
    assert told.count(frame(frames.MORE, piece)[: frames.HEADER_BYTES]) == size // len(piece)
    # What is held is an outbox and a socket's buffer, not the file.
    assert max(ahead) < 2 << 20


def test_an_input_that_cannot_be_read_starts_nothing():
    source = Input([b"x"], StorageUnavailable("gone"))
    sandbox, live = FakeSandbox(), LiveRun("run_x", "bash")
    with pytest.raises(StorageUnavailable):
        AgentClient(sandbox, plan_with_input(2), live, source).run_job()
    live.end()
    sandbox.stream.close()
    told = b""
    while data := sandbox.agent.recv(65536):
        told += data
    sandbox.close()
    assert frame(frames.GO) not in told
    assert source.closed


def test_a_run_that_is_cancelled_while_its_files_are_sent_never_begins():
    source = Input([bytes(256 << 10)] * 100)
    sandbox, live = FakeSandbox(), LiveRun("run_x", "bash")
    threading.Timer(0.1, live.cancel, ["cancelled"]).start()
    spoken = AgentClient(sandbox, plan_with_input(100 * 256 << 10), live, source).run_job()
    live.end()
    sandbox.close()
    assert (status_of(spoken.ending), live.log.timeline()) == ("cancelled", [])
