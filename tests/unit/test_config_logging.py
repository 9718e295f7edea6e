import json
import logging
import os
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.environment import secrets_in
from config.logging import MAX_TEXT, Formatter, LineHandler, bind, bind_also, setup
from config.variables import MASK


@pytest.fixture
def said(monkeypatch, capfd):
    """Log through the real handler; the parsed lines."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, sys.excepthook, threading.excepthook, logging.raiseExceptions)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setenv("API_KEYS", 's3cret"tok\\en:alice:5:5,dev_123:dev')
    monkeypatch.setenv("SIGNING_KEY", "newest-signing,older-signing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3-credential")
    monkeypatch.setenv("METRICS_TOKEN", "metrics-token")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20collector, x=other-credential")
    setup("test", "DEBUG", secrets_in(os.environ))

    def lines():
        return [json.loads(line) for line in capfd.readouterr().err.split("\n")[:-1]]

    yield lines
    root.handlers[:], root.level, sys.excepthook, threading.excepthook, logging.raiseExceptions = before
    logging.captureWarnings(capture=False)


def test_a_line_is_one_object_whatever_the_text(said, monkeypatch):
    hostile = 'a\nb\r{"level":"FAKE"}\x00\x1b[2J\u2028\ud800"'
    # The report of a test has what its other handlers take, and travels between processes, which a lone surrogate
    # does not.
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [one for one in root.handlers if isinstance(one, LineHandler)])
    logging.getLogger("x").info(hostile, extra={"user": hostile})
    (line,) = said()
    assert line["message"] == hostile
    assert line["user"] == hostile
    assert (line["level"], line["logger"], line["component"]) == ("INFO", "x", "test")
    assert line["at"].endswith("Z")
    assert len(line["at"]) == len("2026-01-01T00:00:00.000Z")


def test_tokens_of_this_process_are_masked_by_value(said):
    log = logging.getLogger("x")
    log.info('asked with s3cret"tok\\en', extra={"deep": {"a": ["older-signing", ("dev_123",)]}})
    (line,) = said()
    assert line["message"] == f"asked with {MASK}"
    assert line["deep"] == {"a": [MASK, [MASK]]}


def test_other_peoples_tokens_are_masked_by_where_they_stand(said):
    logging.getLogger("x").info("Authorization: Bearer zzzzz, GET /f?token=abc.def&x=1")
    (line,) = said()
    assert line["message"] == f"Authorization: Bearer {MASK}, GET /f?token={MASK}&x=1"


def test_a_key_in_a_query_is_masked(said):
    logging.getLogger("x").info("GET /api/run/python?key=zzz.y&a=1 then ?a=1&KEY=zzz monkey=shown")
    (line,) = said()
    assert line["message"] == f"GET /api/run/python?key={MASK}&a=1 then ?a=1&KEY={MASK} monkey=shown"


def test_credentials_and_signatures_of_s3_are_masked(said):
    link = "GET /b/k?X-Amz-Expires=60&X-Amz-Security-Token=abc%2F&X-Amz-Signature=0123abc HTTP"
    logging.getLogger("x").info("%s with s3-credential", link)
    (line,) = said()
    masked = f"GET /b/k?X-Amz-Expires=60&X-Amz-Security-Token={MASK}&X-Amz-Signature={MASK} HTTP"
    assert line["message"] == f"{masked} with {MASK}"


def test_an_exception_keeps_its_traceback_but_not_the_token_in_it(said):
    try:
        int("newest-signing")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = said()
    assert "Traceback" in line["exc_info"]
    assert "newest-signing" not in json.dumps(line)


def test_what_nobody_caught_is_a_line_too(said):
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    try:
        {}["lost"]
    except KeyError:
        sys.excepthook(*sys.exc_info())

    class Broken:
        def __del__(self):
            raise OSError("closed")

    Broken()
    first, second, third = said()
    assert "OSError: closed" in third["exc_info"]
    assert "ZeroDivisionError" in first["exc_info"]
    assert "KeyError" in second["exc_info"]


def test_what_json_has_no_word_for_is_written_as_text(said):
    logging.getLogger("x").info("hello", extra={"path": sys, "bytes": b"\xff", "nested": {1: object}})
    (line,) = said()
    assert line["bytes"] == "b'\\xff'"
    assert "1" in line["nested"]


def test_a_short_secret_does_not_eat_the_log():
    record = logging.LogRecord("x", logging.INFO, "f", 1, "a cab", (), None)
    assert json.loads(Formatter("t", frozenset({"a"})).format(record))["message"] == "a cab"


SECRETS = frozenset({'s3cret"tok\\en', "newest-signing"})
HOSTILE = st.one_of(
    st.text(),
    st.text(st.characters(categories=["Cc", "Cs", "Zl", "Zp", "Cf"])),
    st.sampled_from(['"}\n{"level":"FAKE"}', "\x85\u2028\u2029", "\ud800", "%s %(x)s {0}", "a\r\nb"]),
)
VALUES = st.recursive(
    HOSTILE | st.integers() | st.floats() | st.binary() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE, inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.sampled_from(["method", "route", "key", "label", "remote", "run_id", "user"]), VALUES)


def formatted(message, fields):
    record = logging.LogRecord("x", logging.INFO, "f", 1, message, None, None)
    record.__dict__.update(fields)
    return Formatter("t", SECRETS).format(record)


def refuse_constant(name):
    raise AssertionError(f"{name} is not JSON")


@given(HOSTILE, FIELDS)
def test_every_record_is_one_line_of_json_in_ascii(message, fields):
    line = formatted(message, fields)
    assert line.isascii()
    assert line.splitlines() == [line]
    read = json.loads(line, parse_constant=refuse_constant)
    assert read["component"] == "t"
    assert set(fields) <= set(read)


@given(HOSTILE, HOSTILE, st.sampled_from(sorted(SECRETS)), st.integers(0, 3))
def test_a_secret_is_in_no_line_wherever_it_stands(before, after, secret, depth):
    value = f"{before}{secret}{after}"
    for _ in range(depth):
        value = [{secret: value}]
    line = formatted(f"a {secret}", {"user": value})
    assert secret not in line
    assert json.dumps(secret)[1:-1] not in line


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="&#'\",?"), min_size=8))
def test_the_token_of_a_link_is_in_no_line(token):
    line = formatted(f"GET /v1/files/x/content?token={token}", {"route": f"/f?a=1&token={token}#x"})
    read = json.loads(line)
    assert read["message"] == f"GET /v1/files/x/content?token={MASK}"
    assert read["route"] == f"/f?a=1&token={MASK}#x"


def test_a_very_long_text_is_cut_off():
    read = json.loads(formatted("x" * 10 * MAX_TEXT, {}))
    assert len(read["message"]) == MAX_TEXT + 1


def test_lines_say_what_their_thread_is_about(said):
    log = logging.getLogger("x")
    bind(request_id="req_1", run_id=None)
    log.info("first")
    bind_also(run_id="run_1")
    log.info("second")
    log.info("of another", extra={"run_id": "run_2"})
    other = threading.Thread(target=log.info, args=("elsewhere",))
    other.start()
    other.join()
    bind()
    log.info("after")
    about = [(line.get("request_id"), line.get("run_id")) for line in said()]
    assert about == [
        ("req_1", None),
        ("req_1", "run_1"),
        ("req_1", "run_2"),
        (None, None),
        (None, None),
    ]


def test_what_was_done_is_said_whatever_the_level(said):
    logging.getLogger().setLevel("ERROR")
    logging.getLogger("x").info("not this")
    logging.getLogger("audit").info("run.accepted")
    logging.getLogger("access").info("request")
    assert [line["message"] for line in said()] == ["run.accepted", "request"]


def test_tokens_of_the_collector_and_of_metrics_are_masked(said):
    logging.getLogger("x").info("metrics-token, Basic%20collector, other-credential")
    (line,) = said()
    assert line["message"] == f"{MASK}, {MASK}, {MASK}"
