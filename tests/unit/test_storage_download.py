"""What a download is answered with: ranges, conditions, types, names."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage import Blob, ranges
from storage.download import SAFE_HEADERS, RequestedRange, etag, plan
from storage.media_types import BYTES, media_type, served_type
from storage.names import MAX_NAME_BYTES, MAX_ORIGINAL_BYTES, FileName, clean, content_disposition
from storage.ranges import RangeNotSatisfiable, Span

DATA = b"0123456789"
BLOB = Blob(hashlib.sha256(DATA).hexdigest(), len(DATA))
EMPTY = Blob(hashlib.sha256(b"").hexdigest(), 0)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-9", (0, 10)),
        ("bytes=0-", (0, 10)),
        ("bytes=9-", (9, 1)),
        ("bytes=3-5", (3, 3)),
        ("bytes=3-999", (3, 7)),
        ("bytes=-1", (9, 1)),
        ("bytes=-10", (0, 10)),
        ("bytes=-999", (0, 10)),
        ("BYTES=0-1", (0, 2)),
        ("bytes= 1-2 ", (1, 2)),
        ("bytes=0-" + "9" * 200, (0, 10)),
        ("bytes=000-0001", (0, 2)),
    ],
)
def test_a_range(header, expected):
    assert ranges.parse(header, 10) == Span(*expected)


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=-00", "bytes=99-100"])
def test_a_range_that_is_not_there(header):
    with pytest.raises(RangeNotSatisfiable):
        ranges.parse(header, 10)


@pytest.mark.parametrize(
    "header",
    [
        None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-3", "bytes=0-1,3-4", "bytes=0-1,", "lines=0-1",
        "bytes 0-1", "bytes=+0-1", "bytes=0x0-1", "bytes=0--1", "bytes=٣-٤", "bytes=0-1\n", "bytes=" + "1" * 300 + "-",
    ],
)  # fmt: skip
def test_a_range_that_is_none_is_ignored(header):
    assert ranges.parse(header, 10) is None


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=5-"])
def test_what_is_empty_has_no_part(header):
    assert ranges.parse(header, 0) is None


@given(st.text(max_size=40) | st.from_regex(r"bytes=\d{0,20}-\d{0,20}", fullmatch=True), st.integers(0, 10**15))
@example("bytes=0-", 1)
def test_a_span_always_lies_within(header, size):
    try:
        found = ranges.parse(header, size)
    except RangeNotSatisfiable:
        return
    if found is not None:
        assert found.offset >= 0
        assert found.length >= 1
        assert found.offset + found.length <= size


@given(
    st.integers(1, 1000).flatmap(
        lambda size: st.tuples(st.just(size), st.integers(0, size - 1), st.integers(0, 2000))
    )
)
def test_a_range_is_read_as_python_reads_a_slice(given_range):
    size, first, more = given_range
    data = range(size)
    span = ranges.parse(f"bytes={first}-{first + more}", size)
    assert data[span.offset : span.offset + span.length] == data[first : first + more + 1]
    span = ranges.parse(f"bytes=-{first + 1}", size)
    assert data[span.offset : span.offset + span.length] == data[-(first + 1) :]


def test_the_whole_file():
    answer = plan(RequestedRange(), BLOB, "a.csv", "text/csv")
    assert (answer.status, answer.span) == (200, Span(0, 10))
    assert answer.headers == {
        **SAFE_HEADERS,
        "Content-Type": "text/csv",
        "Content-Disposition": 'attachment; filename="a.csv"',
        "Content-Length": "10",
        "ETag": f'"{BLOB.sha256}"',
        "Accept-Ranges": "bytes",
    }


@pytest.mark.parametrize(
    "asked",
    [
        RequestedRange(),
        RequestedRange("HEAD"),
        RequestedRange(range="bytes=0-1"),
        RequestedRange(range="bytes=99-"),
        RequestedRange(if_none_match="*"),
    ],
)
def test_nothing_leaves_that_a_browser_would_run_or_keep(asked):
    found = plan(asked, BLOB, "x.html", "text/html").headers
    assert found["X-Content-Type-Options"] == "nosniff"
    assert found["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert found["Cross-Origin-Resource-Policy"] == "same-origin"
    assert found["Cache-Control"] == "private, no-store"
    assert found["Referrer-Policy"] == "no-referrer"
    assert found.get("Content-Type", BYTES) in {"text/plain; charset=utf-8", BYTES}
    assert found.get("Content-Disposition", "attachment").startswith("attachment")


def test_a_part():
    answer = plan(RequestedRange(range="bytes=2-4"), BLOB, "a", BYTES)
    assert (answer.status, answer.span) == (206, Span(2, 3))
    assert answer.headers["Content-Range"] == "bytes 2-4/10"
    assert answer.headers["Content-Length"] == "3"


def test_a_part_beyond_the_end():
    answer = plan(RequestedRange(range="bytes=10-"), BLOB, "a", BYTES)
    assert (answer.status, answer.span) == (416, None)
    assert answer.headers["Content-Range"] == "bytes */10"


def test_head_says_the_same_of_the_whole_and_has_no_body():
    answer = plan(RequestedRange("HEAD", range="bytes=0-1"), BLOB, "a.csv", "text/csv")
    assert (answer.status, answer.span) == (200, None)
    assert answer.headers == plan(RequestedRange(), BLOB, "a.csv", "text/csv").headers


def test_an_empty_file():
    answer = plan(RequestedRange(range="bytes=0-"), EMPTY, "a", BYTES)
    assert (answer.status, answer.span, answer.headers["Content-Length"]) == (200, None, "0")


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        (etag(BLOB), True),
        ("W/" + etag(BLOB), True),
        ("*", True),
        (" * ", True),
        (f'"other", {etag(BLOB)}', True),
        (f',, {etag(BLOB)} ,"other"', True),
        ('"a,b" , ' + etag(BLOB), True),
        (etag(EMPTY), False),
        (BLOB.sha256, False),
        ("", False),
        ('"other"', False),
        (etag(BLOB)[:-1], False),
        (etag(BLOB) + "x", False),
        (f"junk {etag(BLOB)}", False),
        (f'"a" {etag(BLOB)}', False),
        ("*, " + etag(BLOB), False),
        ('"x",' * 2000 + etag(BLOB), False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_client_that_has_it_is_told_so(header, matches, method):
    answer = plan(RequestedRange(method, if_none_match=header), BLOB, "a", BYTES)
    assert answer.status == (304 if matches else 200)
    if matches:
        assert answer.span is None
        assert answer.headers["ETag"] == etag(BLOB)
        assert "Content-Length" not in answer.headers


def test_a_condition_comes_before_a_range():
    asked = RequestedRange(range="bytes=99-", if_none_match=etag(BLOB))
    assert plan(asked, BLOB, "a", BYTES).status == 304


@pytest.mark.parametrize(
    ("if_range", "status"),
    [(etag(BLOB), 206), ("W/" + etag(BLOB), 200), (etag(EMPTY), 200), ("Tue, 01 Jan 2030 00:00:00 GMT", 200)],
)
def test_a_range_of_another_version_is_answered_with_the_whole(if_range, status):
    assert plan(RequestedRange(range="bytes=0-1", if_range=if_range), BLOB, "a", BYTES).status == status


@given(st.text(max_size=100))
def test_whatever_the_conditions_are_they_are_judged(text):
    assert plan(RequestedRange(if_none_match=text, if_range=text, range=text), BLOB, "a", BYTES).status in {
        200,
        304,
    }


@pytest.mark.parametrize(
    ("given_name", "cleaned"),
    [
        ("plot.png", "plot.png"),
        ("été été.csv", "été été.csv"),
        ("e\u0301.txt", "é.txt"),
        ("数据.csv", "数据.csv"),
        ("🚀 launch.txt", "🚀 launch.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a b.txt", "a b.txt"),
        ("dir/", "dir"),
        ("a\0b\r\nc\x1b[2J.txt", "abc[2J.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("a\u2028b\ufeff.txt", "ab.txt"),
        ("\ud800x.txt", "x.txt"),
        (".bashrc", ".bashrc"),
        ("a\u3000\xa0b\tc.txt", "a  bc.txt"),
        ("  spaced  .txt  ", "spaced  .txt"),
        ("a. . .", "a"),
        ("a.\u3000.", "a"),
        ('quote".txt', 'quote".txt'),
        ("a;b=c.txt", "a;b=c.txt"),
        ("", "file"),
        (".", "file"),
        ("..", "file"),
        ("...", "file"),
        ("/", "file"),
        ("\u200b", "file"),
        ("x" * 300 + ".csv", "x" * 251 + ".csv"),
        ("é" * 200 + ".csv", "é" * 125 + ".csv"),
        ("x" * 300, "x" * 255),
        ("x." + "y" * 300, "x." + "y" * 253),
        ("." * 300, "file"),
    ],
)
def test_a_name_is_cleaned(given_name, cleaned):
    assert clean(given_name) == cleaned


@given(st.text(max_size=400) | st.text(alphabet="./\\ \u3000\u0301é\0x", max_size=400))
def test_a_cleaned_name_is_always_a_name(text):
    name = clean(text)
    assert name not in {"", ".", ".."}
    assert not set("/\\\0\r\n") & set(name)
    assert name == name.strip()
    assert name.isprintable()
    assert len(name.encode("utf-8")) <= MAX_NAME_BYTES
    assert clean(name) == name


def test_the_original_is_kept_as_it_came():
    name = FileName.of("../a b\u202e\ud800/é\0.txt")
    assert name.name == "é.txt"
    assert name.original == "..%2Fa%20b%E2%80%AE%ED%A0%80%2F%C3%A9%00.txt"
    assert FileName.of(None) == FileName("file", "")
    assert len(unquote(FileName.of("x" * 5000).original)) == MAX_ORIGINAL_BYTES


@given(st.text(max_size=100))
def test_the_disposition_is_one_header_that_gives_the_name_back(text):
    name = clean(text)
    header = content_disposition(name)
    assert header.isascii()
    assert header.isprintable()
    found = re.fullmatch(
        r"""attachment; filename="([^"\\%]+)"(?:; filename\*=UTF-8''([\w!#$&+.^`|~%-]+))?""", header
    )
    assert found is not None
    assert (unquote(found.group(2)) if found.group(2) else found.group(1)) == name


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a b.txt", 'attachment; filename="a b.txt"'),
        ("naïve.txt", "attachment; filename=\"naive.txt\"; filename*=UTF-8''na%C3%AFve.txt"),
        ("数.csv", "attachment; filename=\".csv\"; filename*=UTF-8''%E6%95%B0.csv"),
        ("数", "attachment; filename=\"file\"; filename*=UTF-8''%E6%95%B0"),
        ('a"; x="b.txt', "attachment; filename=\"a_; x=_b.txt\"; filename*=UTF-8''a%22%3B%20x%3D%22b.txt"),
        ("50%.txt", "attachment; filename=\"50_.txt\"; filename*=UTF-8''50%25.txt"),
    ],
)
def test_a_disposition(name, header):
    assert content_disposition(name) == header


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a.png", PNG, "image/png"),
        ("a.png", b"<html>", BYTES),
        ("a.pdf", PNG, "image/png"),
        ("a.PNG", PNG, "image/png"),
        ("a", PNG, "image/png"),
        ("a.unknown", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("a.webp", b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        ("a.csv", b"a,b\n", "text/csv"),
        ("a.html", b"<script>", "text/html"),
        ("a.svg", b"<svg>", "image/svg+xml"),
        ("a.xlsx", b"PK\x03\x04", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("a.zip", b"PK\x05\x06", "application/zip"),
        ("a.tar.gz", b"\x1f\x8b", "application/gzip"),
        ("a.tgz", b"\x1f\x8b", "application/gzip"),
        ("a.svgz", b"\x1f\x8b", "application/gzip"),
        ("a.gz", b"plain", BYTES),
        ("a.parquet", b"PAR1", "application/vnd.apache.parquet"),
        ("a.jsonl", b"{}", "application/jsonl"),
        ("README", b"hello\n", "text/plain"),
        ("README", "é".encode()[:1], "text/plain"),
        ("README", b"\xe9\xe9", BYTES),
        ("README", b"a\0b", BYTES),
        ("README", b"<html><script>", "text/plain"),
        ("empty", b"", BYTES),
        ("data:text/html,x", b"\0", BYTES),
        ("https://x.test/a.html", b"\0", "text/html"),
        (".gz", b"\x1f\x8b", "application/gzip"),
    ],
)
def test_the_kind_of_a_file(name, head, kind):
    assert media_type(name, head) == kind


@given(st.text(max_size=50), st.binary(max_size=50))
def test_every_file_has_a_kind_and_is_served_as_something_harmless(name, head):
    kind = media_type(name, head)
    assert re.fullmatch(r"[a-z]+/[A-Za-z0-9.+_-]+", kind)
    served = served_type(kind)
    assert not re.search(r"html|xml|script|svg|css|multipart|message|wasm", served.replace("openxml", ""))


@pytest.mark.parametrize(
    ("kind", "served"),
    [
        ("image/png", "image/png"),
        ("text/csv", "text/csv"),
        ("application/json", "application/json"),
        ("text/html", "text/plain; charset=utf-8"),
        ("TEXT/HTML; charset=utf-8", "text/plain; charset=utf-8"),
        ("text/javascript", "text/plain; charset=utf-8"),
        ("image/svg+xml", BYTES),
        ("application/xhtml+xml", BYTES),
        ("application/xml", BYTES),
        ("application/javascript", BYTES),
        ("application/wasm", BYTES),
        ("video/x+xml", BYTES),
        ("multipart/related", BYTES),
        ("message/rfc822", BYTES),
        ("", BYTES),
        ("image/png\r\nX: y", BYTES),
    ],
)
def test_what_a_kind_is_served_as(kind, served):
    assert served_type(kind) == served
