"""What the egress process reads of programs and of DNS servers: hostile bytes, and the real thing."""

import contextlib
import functools
import ipaddress
import ssl
import struct
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from egress.client_hello import ClientHello, HelloInvalid, HelloReader, read_client_hello
from egress.dns_message import DnsMalformed, build_query, encode_name, read_answer
from egress.http_body import BodyReader
from egress.http_head import (
    Framing,
    HeadInvalid,
    body_framing,
    check_host_header,
    forwarded_head,
    parse_absolute_target,
    parse_authority,
    read_head,
)
from egress.inspect import HttpInspector, RequestOver, TlsInspector, TunnelInspector
from egress.opening import OpeningInvalid, read_opening
from egress.resolver import parse_servers
from egress.verdicts import Refused

# -- ClientHello -----------------------------------------------------------------------------------


@functools.cache
def real_hello(name: str | None) -> bytes:
    """Return the ClientHello that Python's own TLS sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def hello(extensions: list[tuple[int, bytes]], *, pieces: int = 0) -> bytes:
    """Return a ClientHello with these extensions, in records of `pieces` bytes each."""
    packed = b"".join(struct.pack(">HH", kind, len(content)) + content for kind, content in extensions)
    body = (
        b"\x03\x03"
        + bytes(32)
        + b"\x00"
        + b"\x00\x02\x13\x01"
        + b"\x01\x00"
        + struct.pack(">H", len(packed))
        + packed
    )
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    size = pieces or len(message)
    records = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(record)) + record for record in records)


def sni(name: bytes) -> tuple[int, bytes]:
    entry = b"\x00" + struct.pack(">H", len(name)) + name
    return 0, struct.pack(">H", len(entry)) + entry


def test_the_name_in_a_real_client_hello_is_read():
    assert read_client_hello(real_hello("api.example.com")) == ClientHello("api.example.com", is_encrypted=False)
    assert read_client_hello(real_hello(None)) == ClientHello(None, is_encrypted=False)


def test_a_client_hello_in_too_many_records_is_refused():
    with pytest.raises(HelloInvalid, match="records"):
        read_client_hello(hello([sni(b"api.example.com")], pieces=1))


def test_what_is_read_byte_by_byte_takes_no_longer_than_its_bytes():
    reader, data = HelloReader(), hello([(21, bytes(60_000)), sni(b"api.example.com")], pieces=4000)
    began = time.process_time()
    found = [reader.feed(data[at : at + 1]) for at in range(len(data))]
    assert found[-1] == ClientHello("api.example.com", is_encrypted=False)
    assert time.process_time() - began < 5


def test_a_client_hello_in_several_records_is_read_as_a_whole():
    data = hello([sni(b"Api.Example.com")], pieces=3)
    assert read_client_hello(data) == ClientHello("api.example.com", is_encrypted=False)
    assert all(read_client_hello(data[:size]) is None for size in range(0, len(data), 7))


@pytest.mark.parametrize("kind", [0xFE0D, 0xFFCE])
def test_an_encrypted_client_hello_is_known_as_one(kind):
    assert read_client_hello(hello([sni(b"public.example"), (kind, b"x")])).is_encrypted


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x80\x2e\x01\x00\x02",  # SSL 2
        b"\x16\x02\x00\x00\x10",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x01\x02",
        hello([sni(b"a.example"), sni(b"b.example")]),
        hello([(0, b"\x00\x09\x00\x00\x01a\x00\x00\x01b\x00")]),
        hello([(0, b"\x00\x04\x01\x00\x01a")]),
        hello([sni("ü.example".encode())]),
        hello([sni(b"")]),
    ],
)
def test_what_is_no_client_hello_with_one_name_is_refused(data):
    with pytest.raises(HelloInvalid):
        read_client_hello(data)


@given(st.binary(max_size=400))
@example(real_hello("a.example")[:200])
def test_no_bytes_make_the_reader_of_client_hellos_fail_otherwise(data):
    for prefix in (b"", b"\x16\x03\x01"):
        try:
            found = read_client_hello(prefix + data)
        except HelloInvalid:
            continue
        assert found is None or isinstance(found, ClientHello)


@given(st.data())
def test_a_damaged_client_hello_never_has_another_host_pass(data):
    whole = bytearray(real_hello("api.example.com"))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    inspector = TlsInspector("api.example.com", is_by_address=False)
    passed = b""
    with contextlib.suppress(Refused):
        passed = inspector.feed(bytes(whole))
    assert not passed or b"api.example.com" in passed.lower()


@pytest.mark.parametrize(
    ("host", "data", "is_by_address", "passes"),
    [
        ("api.example.com", real_hello("api.example.com"), False, True),
        ("api.example.com", real_hello("other.example.com"), False, False),
        ("api.example.com", real_hello(None), False, False),
        ("api.example.com", hello([sni(b"api.example.com"), (0xFE0D, b"x")]), False, False),
        ("192.0.2.1", real_hello(None), False, True),
        ("192.0.2.1", real_hello("fronted.example"), False, False),
        ("192.0.2.1", real_hello("fronted.example"), True, True),
        ("192.0.2.1", hello([(0xFE0D, b"x")]), True, True),
    ],
)
def test_the_name_must_be_the_host_unless_the_address_itself_is_permitted(host, data, is_by_address, passes):
    inspector = TunnelInspector(host, 443, is_by_address=is_by_address)
    if passes:
        assert inspector.feed(data[:50]) + inspector.feed(data[50:]) == data
        assert inspector.feed(b"later") == b"later"
    else:
        with pytest.raises(Refused) as refused:
            inspector.feed(data)
        assert refused.value.verdict == "tls"


def test_on_443_there_must_be_tls_and_on_other_ports_it_is_checked_where_it_begins():
    with pytest.raises(Refused):
        TunnelInspector("a.example", 443, is_by_address=False).feed(b"SSH-2.0\r\n")
    with pytest.raises(Refused):
        TunnelInspector("a.example", 8443, is_by_address=False).feed(real_hello("b.example"))
    with pytest.raises(Refused):
        TunnelInspector("a.example", 8080, is_by_address=False).feed(b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n")
    for first in (b"SSH-2.0-x\r\n", b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"EHLO me\r\n", b"*1\r\n$4\r\nPING\r\n"):
        assert TunnelInspector("a.example", 2222, is_by_address=False).feed(first) == first
    short = TunnelInspector("a.example", 2222, is_by_address=False)
    assert short.feed(b"QUIT") == b""
    assert short.end() == b"QUIT"


# -- HTTP ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: a\n\n\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET /\r\n\r\n",
        b"G T / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\nHost: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nnocolon\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 201 + b"\r\n",
        b"GET /" + b"x" * 70_000,
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(data):
    with pytest.raises(HeadInvalid):
        read_head(data)


def head_of(*lines: bytes, first: bytes = b"POST http://a.example/x HTTP/1.1"):
    return read_head(b"\r\n".join([first, *lines, b"", b""]))[0]


@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Length: 1", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 1", b"Content-Length: 1"),
        (b"Content-Length: 1, 1",),
        (b"Content-Length: +1",),
        (b"Content-Length: -1",),
        (b"Content-Length: 1_0",),
        (b"Content-Length: 0x1",),
        (b"Content-Length:",),
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: identity",),
    ],
)
def test_ambiguous_framing_is_refused(lines):
    with pytest.raises(HeadInvalid):
        body_framing(head_of(*lines))


def test_chunks_in_http_1_0_are_refused():
    with pytest.raises(HeadInvalid):
        body_framing(head_of(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"))


@pytest.mark.parametrize(
    "target",
    [
        b"/path", b"https://a.example/", b"ftp://a.example/", b"http://", b"http://user@a.example/",
        b"http://a.example:80:80/", b"http:///x", b"http://a.example:0/", b"a.example:80", b"*",
        *(
            b"http:" + rest
            for rest in (
                b"//a.example@b.example/", b"//a.example\\@b.example/", b"//0x7f.1/", b"//2130706433/",
                b"//[::1%25lo]/", b"//127.1/", b"//[::ffff:127.0.0.1/", b"//a..b/",
            )
        ),
    ],
)  # fmt: skip
def test_targets_that_name_no_plain_host_are_refused(target):
    with pytest.raises(HeadInvalid):
        parse_absolute_target(target)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"http://a.example", ("a.example", 80, b"/")),
        (b"HTTP://A.example:8080/x?y=http://b#z", ("a.example", 8080, b"/x?y=http://b")),
        (b"http://a.example?q=/@b.example/", ("a.example", 80, b"/?q=/@b.example/")),
        (b"http://[2001:db8::1]:81/", ("2001:db8::1", 81, b"/")),
        (b"http://192.0.2.1/", ("192.0.2.1", 80, b"/")),
    ],
)
def test_an_absolute_target_is_split(target, expected):
    assert parse_absolute_target(target) == expected


@pytest.mark.parametrize(
    "text", ["a.example", "a.example:", ":443", "a.example:443x", "[::1]443", "u:p@a.example:443"]
)
def test_what_connect_names_must_be_host_and_port(text):
    with pytest.raises(HeadInvalid):
        parse_authority(text, None)


@pytest.mark.parametrize(
    "lines", [(), (b"Host: b.example",), (b"Host: a.example", b"Host: a.example"), (b"Host: a.example:81",),
              (b"Host: a.example, b.example",), (b"Host: a.example/",), (b"Host:",)]
)  # fmt: skip
def test_a_host_header_that_is_not_the_permitted_one_is_refused(lines):
    with pytest.raises(HeadInvalid):
        check_host_header(head_of(*lines), "a.example", 80)


def test_the_head_for_the_server_is_its_own_and_ends_the_connection():
    head = head_of(
        b"Host: A.example:80", b"Proxy-Authorization: Basic x", b"Proxy-Connection: keep-alive", b"Upgrade: h2c",
        b"Connection: keep-alive, X-Hop, Content-Length", b"X-Hop: 1", b"X-Kept: 2", b"Content-Length: 3",
    )  # fmt: skip
    sent = forwarded_head(head, b"/x", "a.example", 80)
    assert sent == (
        b"POST /x HTTP/1.1\r\nHost: a.example\r\nX-Kept: 2\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
    )


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_of_heads_fail_otherwise(data):
    for prefix in (b"", b"GET http://a.example/ HTTP/1.1\r\n", b"CONNECT "):
        try:
            found = read_head(prefix + data + b"\r\n\r\n")
        except HeadInvalid:
            continue
        if found is None:
            continue
        head, size = found
        assert size <= len(prefix + data) + 4
        for check, arguments in (
            (body_framing, (head,)),
            (check_host_header, (head, "a.example", 80)),
            (parse_absolute_target, (head.target,)),
        ):
            with contextlib.suppress(HeadInvalid):
                check(*arguments)
        sent = forwarded_head(head, b"/", "a.example", 80)
        assert sent.count(b"\r\n\r\n") == 1
        assert read_head(sent)[1] == len(sent)


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.binary(max_size=40), st.lists(st.integers(1, 60))
)
def test_a_chunked_body_ends_where_it_ends_however_it_arrives(pieces, behind, cuts):
    body = chunked(pieces)
    data, reader, taken, at = body + behind, BodyReader(Framing(None)), 0, 0
    for cut in [*cuts, len(data)]:
        if reader.is_complete:
            break
        piece = data[at : at + cut]
        used = reader.feed(piece)
        taken += used
        assert used == len(piece) or reader.is_complete
        at += cut
    assert reader.is_complete
    assert taken == len(body)


@given(st.binary(max_size=100))
def test_no_bytes_make_the_reader_of_chunks_fail_otherwise(data):
    reader = BodyReader(Framing(None))
    try:
        assert reader.feed(data) <= len(data)
    except HeadInvalid:
        return


@pytest.mark.parametrize("data", [b"x\r\n", b"1\n", b"1\r\nab\r\n", b"-1\r\n", b"0x1\r\na\r\n", b"1 1\r\n", b"0\r\nbad\r\n",
                                  b"1\r\na\n", b"fffffffffffffffff\r\n", b"1" * 9000])  # fmt: skip
def test_chunks_that_can_be_read_in_two_ways_are_refused(data):
    with pytest.raises(HeadInvalid):
        BodyReader(Framing(None)).feed(data)


def test_a_second_request_on_a_connection_is_not_passed_on():
    inspector = HttpInspector("a.example", 80)
    first = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
    second = b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n"
    with pytest.raises(RequestOver):
        inspector.feed(first + second)
    patient = HttpInspector("a.example", 80)
    assert b"Connection: close" in patient.feed(first)
    with pytest.raises(RequestOver):
        patient.feed(second)


def test_a_body_in_pieces_is_passed_on_and_nothing_behind_it():
    inspector = HttpInspector("a.example", 80)
    sent = inspector.feed(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nab")
    assert sent.endswith(b"\r\n\r\nab")
    assert inspector.feed(b"cdeGET / HTTP/1.1\r\nHost: b.example\r\n\r\n") == b"cde"
    with pytest.raises(RequestOver):
        inspector.feed(b"more")


# -- DNS -------------------------------------------------------------------------------------------


def answer(
    name: str, records: bytes, count: int, *, identifier: int = 7, flags: int = 0x8180, kind: int = 1
) -> bytes:
    return (
        struct.pack(">HHHHHH", identifier, flags, 1, count, 0, 0)
        + encode_name(name)
        + struct.pack(">HH", kind, 1)
        + records
    )


def record(owner: bytes, kind: int, content: bytes) -> bytes:
    return owner + struct.pack(">HHIH", kind, 1, 60, len(content)) + content


def test_addresses_are_taken_along_a_chain_of_aliases_and_from_no_other_name():
    records = (
        record(b"\xc0\x0c", 5, encode_name("cdn.example"))
        + record(encode_name("cdn.example"), 1, bytes([192, 0, 2, 1]))
        + record(encode_name("other.example"), 1, bytes([192, 0, 2, 9]))
    )
    found = read_answer(answer("a.example", records, 3), 7, "a.example", 1)
    assert found.addresses == (ipaddress.ip_address("192.0.2.1"),)


@pytest.mark.parametrize(
    "data",
    [
        answer("a.example", b"", 0, identifier=8),
        answer("a.example", b"", 0, flags=0x0100),
        answer("b.example", b"", 0),
        answer("a.example", b"", 0, kind=28),
        answer("a.example", b"", 1),
        answer("a.example", record(b"\xc0\x0c", 1, b"abc"), 1),
        answer("a.example", record(b"\xc0\xff", 1, bytes(4)), 1),
        struct.pack(">HHHHHH", 7, 0x8180, 1, 0, 0, 0) + b"\xc0\x0c" + struct.pack(">HH", 1, 1),
        b"",
    ],
)
def test_an_answer_to_another_question_or_a_malformed_one_is_refused(data):
    with pytest.raises(DnsMalformed):
        read_answer(data, 7, "a.example", 1)


def test_aliases_that_go_round_in_circles_end():
    records = record(b"\xc0\x0c", 5, b"\xc0\x0c")
    assert read_answer(answer("a.example", records, 1), 7, "a.example", 1).addresses == ()


@given(st.binary(max_size=200), st.integers(0, 40))
def test_no_bytes_make_the_reader_of_answers_fail_otherwise(data, count):
    for whole in (data, answer("a.example", data, count)):
        try:
            found = read_answer(whole, 7, "a.example", 1)
        except DnsMalformed:
            continue
        assert len(found.addresses) <= 32


def test_a_query_asks_for_the_absolute_name():
    assert build_query(7, "a.example", 1).endswith(b"\x01a\x07example\x00\x00\x01\x00\x01")


def test_of_resolv_conf_the_servers_alone_are_read():
    text = (
        "# x\nsearch corp.example\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver nope\noptions rotate\n"
    )
    assert parse_servers(text) == (("192.0.2.1", 53), ("fe80::1%eth0", 53))


# -- the worker's line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"{}", b'{"op":"connect"}', b'{"op":"connect","run":"r","key":"a b","allow":[]}',
     b'{"op":"connect","run":"r","key":"k","allow":["A"]}', b'{"op":"connect","run":"r","key":"k","allow":"*"}',
     b'{"op":"connect","run":"r","key":"k","allow":["*"],"deny":[1]}',
     b'{"op":"connect","run":"r","key":"k","allow":["*"],"deny":[],"left":true}',
     b'{"op":"change","run":"r","key":"k","allow":["*"],"deny":[],"version":"1"}',
     b'{"op":"change","key":"k","allow":["*"],"deny":[]}'],
)  # fmt: skip
def test_a_line_that_the_worker_does_not_send_is_refused(line):
    with pytest.raises(OpeningInvalid):
        read_opening(line)
