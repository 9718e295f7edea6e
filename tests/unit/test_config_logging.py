import json
import logging
import sys
import threading

import pytest

from config.logging import MASK, Formatter, setup


@pytest.fixture
def said(monkeypatch, capfd):
    """Log through the real handler; the parsed lines."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, sys.excepthook, threading.excepthook, logging.raiseExceptions)
    monkeypatch.setenv("API_KEYS", 's3cret"tok\\en:alice:5:5,dev_123:dev')
    monkeypatch.setenv("SIGNING_KEY", "newest-signing,older-signing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3-credential")
    monkeypatch.setenv("METRICS_TOKEN", "metrics-token")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20collector, x=other-credential")
    setup("test", "DEBUG")

    def lines():
        return [json.loads(line) for line in capfd.readouterr().err.split("\n")[:-1]]

    yield lines
    root.handlers[:], root.level, sys.excepthook, threading.excepthook, logging.raiseExceptions = before
    logging.captureWarnings(capture=False)


def test_a_line_is_one_object_whatever_the_text(said):
    hostile = 'a\nb\r{"level":"FAKE"}\x00\x1b[2J\u2028\ud800"'
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
    first, second = said()
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
