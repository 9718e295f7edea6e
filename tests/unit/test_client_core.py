"""The Python client's logic without a socket: settings, retries, lines of events, names of strangers."""

from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runyard import _calls
from runyard._events import LineBuffer
from runyard._retry import RetryPolicy, retry_after
from runyard._session_calls import SessionOperations
from runyard._transfer import Watched
from runyard.config import DEFAULT_URL, DEVELOPMENT_KEY, Config
from runyard.errors import ConfigError, ProtocolError, SaveError
from runyard.models import Artifact, Event, Hint, Run
from runyard.saving import local_parts, saving
from runyard.text import safe_name, shown


def settings(tmp_path, text=None, **environ):
    if text is not None:
        (tmp_path / "runyard").mkdir()
        (tmp_path / "runyard" / "config.toml").write_text(text)
    return {"XDG_CONFIG_HOME": str(tmp_path), **environ}


def test_the_first_that_has_a_setting_decides(tmp_path):
    env = settings(tmp_path, 'url = "http://file:1/"\napi_key = "from_file"\n')
    assert Config.load(environ=env).url == "http://file:1"
    assert Config.load(environ=env | {"RUNYARD_URL": "http://env:2"}).url == "http://env:2"
    assert (
        Config.load("http://argument:3", environ=env | {"RUNYARD_URL": "http://env:2"}).url == "http://argument:3"
    )
    found = Config.load(environ=env | {"RUNYARD_API_KEY": "from_env"})
    assert (found.api_key, found.api_key_from) == ("from_env", "RUNYARD_API_KEY")


def test_the_development_key_goes_to_this_machine_only(tmp_path):
    env = settings(tmp_path)
    assert Config.load(environ=env) == Config(DEFAULT_URL, DEVELOPMENT_KEY)
    assert Config.load("http://127.0.0.1:1", environ=env).api_key == DEVELOPMENT_KEY
    assert Config.load("http://runyard.example", environ=env).api_key is None


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8080",
        "ftp://x",
        "http://",
        "http://a b",
        "http://x?y=1",
        "http://u:p@x",
        "http://[x",
        "http://x\n",
    ],
)
def test_a_wrong_address_is_said_with_where_it_came_from(tmp_path, url):
    with pytest.raises(ConfigError, match="RUNYARD_URL"):
        Config.load(environ=settings(tmp_path, RUNYARD_URL=url))


def test_a_wrong_key_is_not_repeated(tmp_path):
    with pytest.raises(ConfigError) as refused:
        Config.load(environ=settings(tmp_path, RUNYARD_API_KEY="sécret key"))
    assert "RUNYARD_API_KEY" in str(refused.value)
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [("url = 3", "url"), ("ur = 'x'", "'ur'"), ("][", "TOML"), ("url = '" + "x" * 70_000, "larger")],
)
def test_a_wrong_config_file_is_named(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        Config.load(environ=settings(tmp_path, text))


def test_a_config_file_that_was_asked_for_must_be_there(tmp_path):
    with pytest.raises(ConfigError, match="RUNYARD_CONFIG"):
        Config.load(environ=settings(tmp_path, RUNYARD_CONFIG=str(tmp_path / "none")))


def test_retry_after_is_seconds_or_a_date():
    assert retry_after({"retry-after": "7"}) == 7
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < retry_after({"retry-after": later}) < 91
    for text in ("", "soon", "-1", "9" * 40, "١"):
        assert retry_after({"retry-after": text}) is None


def test_pauses_double_up_to_a_bound_and_are_spread():
    policy = RetryPolicy(retries=9, first_s=1, longest_s=8)
    for attempt, most in ((1, 1), (2, 2), (3, 4), (4, 8), (9, 8)):
        assert most / 2 <= policy.pause_s(attempt, None) <= most
    assert policy.pause_s(1, 5) == 5
    assert (policy.again(9, None), policy.again(10, None), policy.again(1, 9)) == (True, False, False)


@given(st.binary(max_size=200), st.lists(st.integers(1, 50)))
def test_lines_are_cut_at_newlines_however_they_arrive(data, cuts):
    buffer, lines, rest = LineBuffer(), [], data
    for cut in cuts:
        lines += buffer.feed(rest[:cut])
        rest = rest[cut:]
    lines += buffer.feed(rest)
    assert lines == data.split(b"\n")[:-1]


def test_a_line_without_end_is_refused():
    buffer = LineBuffer(most=10)
    buffer.feed(b"x" * 10)
    with pytest.raises(ProtocolError):
        buffer.feed(b"x")


def test_a_runs_body_is_what_the_api_reads():
    call = _calls.run(
        "python",
        None,
        {"entrypoint": "a.py", "files": [{"path": "a.py", "content": b"\xff"}, {"path": "b", "id": "file_1"}]},
        background=True,
        live=True,
    )
    assert json.loads(call.body) == {
        "language": "python",
        "background": True,
        "entrypoint": "a.py",
        "files": [{"path": "a.py", "content": "/w==", "encoding": "base64"}, {"path": "b", "id": "file_1"}],
        "env": {"PYTHONUNBUFFERED": "1"},
    }


def test_packages_are_a_list_and_have_time_to_be_installed():
    plain = _calls.run("python", "1", {}, background=False)
    call = _calls.run("python", "1", {"packages": ("numpy", "requests==2")}, background=False)
    assert json.loads(call.body)["packages"] == ["numpy", "requests==2"]
    assert call.silence_s == plain.silence_s + _calls.PACKAGES_SILENCE_S
    assert _calls.run("python", "1", {"packages": []}, background=False).silence_s == plain.silence_s
    with pytest.raises(TypeError, match="must be a list"):
        _calls.run("python", "1", {"packages": "numpy"}, background=False)
    created = next(SessionOperations(RetryPolicy()).create("python", {"packages": ["numpy"]})).call
    assert json.loads(created.body)["packages"] == ["numpy"]
    event = Event.of({"seq": 1, "event": "info", "data": {"status": "queued", "output": "Collecting numpy"}})
    assert event.tool_output == "Collecting numpy"
    assert Event.of({"seq": 1, "event": "stdout", "data": "x"}).tool_output == ""
    assert Run.of({"id": "run_1", "status": "running", "layer": "lay_1"}).layer == "lay_1"


def test_a_newer_services_fields_are_kept():
    run = Run.of({"id": "run_1", "status": "running", "language": "go", "more": 1})
    assert (run.raw["more"], run.ended, run.artifacts, run.usage.wall_ms) == (1, False, (), 0)
    assert Event.of({"seq": 1, "event": "strange", "data": [1]}).data == [1]


def test_hints_are_read_with_the_fields_that_apply():
    hint = {
        "code": "module_not_found",
        "message": "There is none.",
        "name": "requets",
        "near": ["requests"],
        "more": 1,
    }
    run = Run.of({"id": "run_1", "status": "failed", "hints": [hint, {"code": "new", "line": 3}]})
    assert run.hints == (
        Hint("module_not_found", "There is none.", name="requets", near=("requests",)),
        Hint("new", "", line=3),
    )
    assert Run.of({"id": "run_1", "status": "failed"}).hints == ()


def test_a_run_of_a_context_has_results_and_an_exception():
    run = Run.of(
        {
            "id": "run_1",
            "status": "failed",
            "context": "ctx_1",
            "execution_count": 3,
            "state": "kept",
            "results": [
                {"text": "1", "json": {"a": [1]}, "is_main_result": True, "display_id": None, "update": False}
            ],
            "exception": {"name": "E", "value": "v", "traceback": ["l"]},
        }
    )
    assert (run.context, run.execution_count, run.state, run.results_dropped) == ("ctx_1", 3, "kept", 0)
    assert (run.results[0].text, run.results[0].json, run.results[0].png) == ("1", {"a": [1]}, None)
    assert (run.exception.name, run.exception.traceback) == ("E", ("l",))
    with pytest.raises(ProtocolError):
        Run.of({"id": "run_1", "status": "failed", "results": [{"text": 1}]})


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"id": 1, "status": "x"},
        {"id": "r", "status": "x", "hints": [1]},
        {"id": "r", "status": "x", "hints": [{"message": "x"}]},
        {"id": "r", "status": "x", "artifacts": {}},
        {"id": "r", "status": "x", "exit_code": True},
    ],
)
def test_what_is_no_run_is_a_protocol_error(data):
    with pytest.raises(ProtocolError):
        Run.of(data)


def test_an_upload_says_how_far_it_is_and_begins_anew():
    source = io.BytesIO(b"skipped" + b"x" * 10)
    source.seek(7)
    told = []
    watched = Watched(source, lambda done, size: told.append((done, size)))
    for _ in range(2):
        watched.seek(0)
        assert (watched.read(4), watched.read()) == (b"xxxx", b"x" * 6)
    assert (watched.size, told) == (10, [(4, 10), (10, 10)] * 2)


# -- names of strangers --------------------------------------------------------------------------


@given(st.text())
def test_what_is_shown_acts_on_no_terminal(text):
    assert shown(text).isprintable() or "\xa0" in text or any(c.isspace() for c in text)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u202e\u2066\u200b\u2028" for c in shown(text))


@given(st.text())
def test_a_path_of_a_stranger_leads_nowhere_else(path):
    parts = local_parts(path)
    assert parts
    for part in parts:
        assert part not in ("", ".", "..")
        assert not set(part) & set('/\\:\0<>"|?*')
        assert len(part.encode()) <= 255
        assert safe_name(part) == part


def artifact(path, size=1):
    return Artifact("file_1", path.rsplit("/", 1)[-1], path, size, "", "", None, None)


def fetched(_artifact, into):
    into.write(b"x")


@pytest.mark.parametrize(
    ("path", "saved"),
    [
        ("a/b.txt", "a/b.txt"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        ("..\\..\\win.ini", "win.ini"),
        ("C:\\x", "C_/x"),
        ("..", "artifact"),
        ("", "artifact"),
        ("\x1b]0;owned\x07", "_]0;owned_"),
        ("a\u202egnp.exe", "a_gnp.exe"),
        ("n" * 300 + ".txt", "n" * 196 + ".txt"),
        ("x\n/y", "x_/y"),
    ],
)
def test_hostile_names_stay_in_the_folder(tmp_path, path, saved):
    (found,) = saving([artifact(path)], tmp_path / "out", fetched)
    assert found.path == tmp_path / "out" / saved
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == [found.path]
    assert os.listdir(tmp_path) == ["out"]


def test_no_link_is_written_through_and_none_is_replaced(tmp_path):
    out, secret = tmp_path / "out", tmp_path / "secret"
    out.mkdir()
    secret.mkdir()
    (secret / "file").write_text("kept")
    (out / "link.txt").symlink_to(secret / "file")
    (out / "dir").symlink_to(secret)
    os.link(secret / "file", out / "hard.txt")
    os.mkfifo(out / "pipe")
    (out / "folder").mkdir()
    (out / "plain").write_text("older")
    names = ["link.txt", "dir/file", "hard.txt", "pipe", "folder", "plain", "plain/below", "new"]
    found = list(saving([artifact(name) for name in names], out, fetched))
    assert [one.artifact.path for one in found if one.error is None] == ["plain", "new"]
    assert all(isinstance(one.error, SaveError) for one in found if one.error)
    assert (secret / "file").read_text() == "kept"
    assert os.listdir(secret) == ["file"]
    assert (out / "link.txt").is_symlink()
    assert (out / "plain").read_text() == "x"
    assert not list(out.glob(".runyard-*"))


def test_two_names_that_come_to_the_same_are_both_saved(tmp_path):
    found = list(saving([artifact(name) for name in ("a?.txt", "a*.txt", "A_.TXT")], tmp_path, fetched))
    assert sorted(one.path.name for one in found) == ["A_ (3).TXT", "a_ (2).txt", "a_.txt"]


def test_a_download_that_fails_leaves_nothing_and_does_not_stop_the_others(tmp_path):
    def failing(one, into):
        into.write(b"half")
        if one.name == "bad":
            raise ProtocolError("no")

    found = list(saving([artifact("bad"), artifact("good")], tmp_path, failing))
    assert [one.error is None for one in found] == [False, True]
    assert os.listdir(tmp_path) == ["good"]
