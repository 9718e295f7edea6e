"""`runyard sessions shell`, typed at a terminal of the test's own."""

from __future__ import annotations

import json
import signal
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runyard.cli.escapes import EscapeFilter

from tests.clients.terminals import Terminal


@pytest.fixture(scope="module")
def session(service):
    reply = service.post("/v1/sessions", json={"language": "bash"})
    assert reply.status == 201, reply.body
    yield reply.body["id"]
    service.request("DELETE", f"/v1/sessions/{reply.body['id']}")


def test_a_shell_has_the_terminal_its_size_and_ctrl_c(environment, session):
    terminal = Terminal(environment, "sessions", "shell", session)
    terminal.until(b"$ ")
    terminal.types(b"stty size; echo $TERM\r")
    terminal.until(b"30 100\r\nxterm-256color\r\n")
    terminal.resize(50, 120)
    terminal.command.send_signal(signal.SIGWINCH)
    time.sleep(0.5)
    terminal.types(b"stty size\r")
    terminal.until(b"50 120\r\n")
    terminal.types(b"sleep 100\r")
    time.sleep(0.5)
    terminal.types(b"\x03")
    terminal.types(b"echo st=$?\r")
    terminal.until(b"st=130\r\n")
    terminal.types(b"exit 7\r")
    assert terminal.ended() == 7


def test_a_terminal_is_left_and_found_again(environment, session):
    terminal = Terminal(environment, "sessions", "shell", session, "--tag", "mine")
    terminal.until(b"$ ")
    terminal.types(b"kept=42\r")
    terminal.until(b"$ ")
    terminal.types(b"\x1d")
    terminal.until(b"--attach proc_")
    assert terminal.ended() == 0
    again = Terminal(environment, "sessions", "shell", session, "--attach", "tag:mine", rows=20, cols=60)
    again.until(b"kept=42\r")
    again.types(b"stty size; echo kept=$kept.\r")
    again.until(b"20 60\r\nkept=42.\r\n")
    again.types(b"kill -9 $$\r")
    assert again.ended() == 137


def test_what_a_program_shows_does_nothing_but_draw(environment, session):
    hidden = r"printf 'a\033]52;c;SGFjaw==\007b\033]0;title\033\\c\033[1md\033P+q544e\033\\e\n'"
    terminal = Terminal(environment, "sessions", "shell", session, "--", "bash", "-c", hidden)
    assert terminal.until(b"e\r\n").endswith(b"abc\x1b[1md")
    assert terminal.ended() == 0


def test_a_pipe_is_typed(runyard, session):
    code, out, err = runyard("sessions", "shell", session, "--", "cat", stdin=b"hello\n")
    assert (code, out) == (0, b"hello\r\nhello\r\n"), err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("sess_" + "a" * 26,), 125, "no such session"),
        (("SESSION", "--attach", "proc_none"), 125, "no such process"),
        (("SESSION", "--attach", "x", "--", "bash"), 2, "--attach"),
        ((), 2, "Missing argument"),
    ],
)
def test_what_cannot_be_opened_is_said(runyard, session, arguments, code, words):
    found, _, err = runyard("sessions", "shell", *[session if a == "SESSION" else a for a in arguments])
    assert (found, words in err.decode()) == (code, True), err


def test_the_end_of_the_session_is_said(service, environment):
    session = service.post("/v1/sessions", json={"language": "bash"}).body["id"]
    terminal = Terminal(environment, "sessions", "shell", session)
    terminal.until(b"$ ")
    service.request("DELETE", f"/v1/sessions/{session}")
    terminal.until(b"the session has ended: deleted")
    assert terminal.ended() == 125


# -- escape sequences --------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=20), st.sampled_from([b"\x1b", b"]", b"P", b"\x07", b"\\", b"\x9d", "\x9d".encode()])
        ),
        max_size=20,
    )
)
def test_no_string_sequence_passes_however_it_is_cut(pieces):
    escapes = EscapeFilter()
    shown = b"".join(escapes.feed(piece) for piece in pieces)
    for begin in (
        b"\x1b]",
        b"\x1bP",
        b"\x1bX",
        b"\x1b^",
        b"\x1b_",
        *(bytes([0xC2, c]) for c in (0x90, 0x98, 0x9D, 0x9E, 0x9F)),
    ):
        assert begin not in shown
    assert len(shown) <= sum(map(len, pieces))


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])), st.integers(1, 5))
def test_text_passes_as_it_is(text, step):
    data = text.encode()
    escapes = EscapeFilter()
    assert b"".join(escapes.feed(data[at : at + step]) for at in range(0, len(data), step)) == data


def test_a_string_without_end_hides_no_more_than_its_bound():
    escapes = EscapeFilter()
    shown = escapes.feed(b"\x1b]" + b"x" * 200_000 + b"end")
    assert shown.endswith(b"end")
    assert json.dumps(shown.decode())
