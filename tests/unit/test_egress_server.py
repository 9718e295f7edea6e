"""The egress process as the worker reaches it, with real servers on this machine's own addresses."""

import asyncio
import contextlib
import ipaddress
import json
import os
import socket
import ssl
import threading
import time

import pytest

from config.parsers import parse_networks
from egress import accounts, dialer, front, relay
from egress.addresses import AddressRules
from egress.dialer import Dialer, in_turn
from egress.resolver import Resolver
from egress.server import EgressServer
from tests.support.egress_servers import DnsServer, EchoServer, WebServer, make_certificate

OWN = "127.0.0.0/8"


class Running:
    """An egress server in a thread of its own."""

    def __init__(self, path, dns, *, most=64, rules=None):
        self.path = path
        self._ready = threading.Event()
        self._rules = rules or AddressRules(own=parse_networks(OWN))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(dns, most)), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    async def _serve(self, dns, most):
        self._loop = asyncio.get_running_loop()
        dialing = Dialer(Resolver([dns.address]), self._rules)
        server = EgressServer(self.path, dialing, most=most, uids=frozenset({os.getuid()}))
        self._task = asyncio.ensure_future(server.serve())
        self._ready.set()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def stop(self):
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def open(self, *allow, deny=(), run="run_1", key="k", left=None):
        """Return a connection as the worker opens one for a program."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(15)
        connection.connect(str(self.path))
        line = {"op": "connect", "run": run, "key": key, "allow": allow, "deny": list(deny), "left": left}
        connection.sendall(json.dumps(line).encode() + b"\n")
        return connection

    def change(self, *allow, deny=(), run="run_1", key="k", version=1):
        """Replace the patterns of a run as the worker does; how many connections that ended."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(15)
            connection.connect(str(self.path))
            line = {"op": "change", "run": run, "key": key, "allow": allow, "deny": list(deny), "version": version}
            connection.sendall(json.dumps(line).encode() + b"\n")
            return json.loads(connection.makefile().readline())["ended"]

    def ask(self, request, *allow, **options):
        """Send the bytes of a program and return all that it is answered."""
        with self.open(*allow, **options) as connection:
            connection.sendall(request)
            return read_all(connection)

    def status(self):
        deadline = time.monotonic() + 5
        while (found := self._status())["open"] and time.monotonic() < deadline:
            time.sleep(0.01)  # the last connection has told its program everything, and is about to be counted
        return found

    def _status(self):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.path))
            connection.sendall(b'{"op":"status"}\n')
            return json.loads(connection.makefile().readline())["status"]


def read_all(connection):
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            found += data
    return found


def get(host, path="/hello", *, port=None):
    authority = host if port is None else f"{host}:{port}"
    return f"GET http://{authority}{path} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode()


def connect(host, port):
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


@pytest.fixture(scope="module")
def dns():
    server = DnsServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def web():
    server = WebServer("127.0.0.1")
    yield server
    server.close()


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    both, certificate = make_certificate(folder, "api.example.test", "other.example.test")
    server = WebServer("127.0.0.1", certificate=both)
    server.trusted = ssl.create_default_context(cafile=str(certificate))
    yield server
    server.close()


@pytest.fixture(scope="module")
def echo():
    server = EchoServer("127.0.0.1")
    yield server
    server.close()


@pytest.fixture
def egress(tmp_path, dns):
    dns.add("api.example.test", ["127.0.0.1"])
    running = Running(tmp_path / "egress.sock", dns)
    yield running
    running.stop()


def tunnel(egress, host, port, *allow, **options):
    connection = egress.open(*(allow or (f"{host}:{port}",)), **options)
    connection.sendall(connect(host, port))
    answer = connection.recv(len(front.ESTABLISHED))
    if answer != front.ESTABLISHED:
        connection.close()
        pytest.fail(f"not connected: {answer!r}")
    return connection


def test_a_plain_request_reaches_the_host_and_nothing_of_the_proxy_goes_with_it(egress, web):
    port = web.server_port
    request = (
        f"GET http://api.example.test:{port}/headers HTTP/1.1\r\nHost: api.example.test:{port}\r\n"
        "Proxy-Authorization: Basic c2VjcmV0\r\nX-Mine: 1\r\n\r\n"
    ).encode()
    answer = egress.ask(request, f"api.example.test:{port}")
    assert b"200 OK" in answer
    assert b"X-Mine: 1" in answer
    assert b"Proxy" not in answer
    status = egress.status()
    assert status["verdicts"]["allowed"] == 1
    assert status["open"] == 0
    assert status["received_bytes"] > 100


def test_bodies_pass_with_a_length_and_in_chunks(egress, web):
    port = web.server_port
    head = f"POST http://api.example.test:{port}/echo HTTP/1.1\r\nHost: api.example.test:{port}\r\n".encode()
    pattern = f"api.example.test:{port}"
    assert egress.ask(head + b"Content-Length: 5\r\n\r\nhello", pattern).endswith(b"\r\n\r\nhello")
    chunks = b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
    assert egress.ask(head + chunks, pattern).endswith(b"\r\n\r\nhello")


def test_of_two_requests_on_a_connection_the_server_gets_one(egress, web):
    port, before = web.server_port, len(web.requests)
    request = get("api.example.test", "/first", port=port) + get("api.example.test", "/second", port=port)
    answer = egress.ask(request, f"api.example.test:{port}")
    assert answer.count(b"200 OK") == 1
    assert [path for _, path, _ in web.requests[before:]] == ["/first"]


def test_tls_passes_where_the_server_name_is_the_host(egress, tls):
    port = tls.server_port
    connection = tunnel(egress, "api.example.test", port)
    with tls.trusted.wrap_socket(connection, server_hostname="api.example.test") as secure:
        secure.sendall(b"GET /hello HTTP/1.1\r\nHost: api.example.test\r\nConnection: close\r\n\r\n")
        assert b"hello from" in read_all(secure)


def test_tls_with_another_server_name_is_refused_by_an_alert(egress, tls):
    port = tls.server_port
    connection = tunnel(egress, "api.example.test", port)
    with connection, pytest.raises(ssl.SSLError, match=r"(?i)unrecognized"):
        tls.trusted.wrap_socket(connection, server_hostname="other.example.test")
    assert egress.status()["verdicts"]["tls"] == 1


def test_a_plain_request_in_a_tunnel_must_be_for_the_host(egress, web):
    port = web.server_port
    with tunnel(egress, "api.example.test", port) as connection:
        connection.sendall(f"GET /hello HTTP/1.1\r\nHost: api.example.test:{port}\r\n\r\n".encode())
        assert b"hello from" in read_all(connection)
    with tunnel(egress, "api.example.test", port) as connection:
        connection.sendall(b"GET /hello HTTP/1.1\r\nHost: fronted.example\r\n\r\n")
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"Host header names another host" in answer


def test_a_server_that_speaks_first_and_half_closed_ends_work_both_ways(egress, echo):
    with tunnel(egress, "api.example.test", echo.server_address[1]) as connection:
        assert connection.recv(100) == b"greeting\n"
        connection.sendall(b"\x00binary")
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == b"\x00binarybye\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "words"),
    [
        (get("evil.example"), 403, b"evil.example:80 is refused (denied): no pattern of network.allow"),
        (connect("api.example.test", 25), 403, b"(denied)"),
        (connect("denied.example.test", 443), 403, b"network.deny has denied.example.test"),
        (connect("2130706433", 443), 400, b"canonical"),
        (connect("0x7f.1", 443), 400, b"must not be a number"),
        (connect("[::ffff:127.0.0.1]", 443), 400, b"canonical"),
        (connect("[::ffff:7f00:1]", 443), 403, b"(denied)"),
        (b"CONNECT api.example.test HTTP/1.1\r\n\r\n", 400, b"no port"),
        (b"GET /path HTTP/1.1\r\nHost: api.example.test\r\n\r\n", 400, b"CONNECT"),
        (b"GET http://api.example.test/ HTTP/1.1\r\nHost: other.test\r\n\r\n", 403, b"Host header"),
        (b"POST http://api.example.test/ HTTP/1.1\r\nHost: api.example.test\r\nContent-Length: 1\r\n"
         b"Transfer-Encoding: chunked\r\n\r\n", 403, b"both"),
        (b"\x16\x03\x01 garbage\r\n\r\n", 400, b"not a request"),
        (b"GET http://api.example.test/\nHost: x\r\n\r\n", 400, b""),
    ],
)  # fmt: skip
def test_refusals_name_the_host_and_the_rule(egress, request_bytes, status, words):
    answer = egress.ask(request_bytes, "api.example.test", "*.example.test", deny=["denied.example.test"])
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert words in answer
    assert egress.status()["open"] == 0


def test_a_name_is_looked_up_only_when_a_pattern_permits_it(egress, dns):
    dns.asked.clear()
    egress.ask(get("secret-data.evil.example"), "api.example.test")
    assert dns.asked == []
    egress.ask(get("missing.example.test"), "*.example.test")
    assert set(dns.asked) == {"missing.example.test"}


def test_a_name_that_does_not_exist_is_a_502(egress):
    answer = egress.ask(get("missing.example.test"), "*.example.test")
    assert answer.startswith(b"HTTP/1.1 502")
    assert b"(name): the name has no address" in answer


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1", "10.0.0.1"], ["127.0.0.1", "::ffff:127.0.0.1"], ["169.254.169.254"], ["::1"], ["fd00:ec2::254"]],
)
def test_a_mix_with_one_address_that_is_refused_is_refused(egress, dns, web, addresses):
    dns.add("mixed.example.test", addresses)
    answer = egress.ask(get("mixed.example.test", port=web.server_port), f"*.example.test:{web.server_port}")
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"(address)" in answer


def test_without_the_switch_of_tests_this_machine_is_refused_whatever_is_private(tmp_path, dns, web):
    dns.add("own.example.test", ["127.0.0.1"])
    rules = AddressRules(private=parse_networks("0.0.0.0/0,::/0"))
    running = Running(tmp_path / "other.sock", dns, rules=rules)
    try:
        for host in ("own.example.test", "127.0.0.1"):
            answer = running.ask(get(host, port=web.server_port), f"*:{web.server_port}")
            assert b"403" in answer.splitlines()[0]
            assert b"127.0.0.1 is not permitted: loopback" in answer
    finally:
        running.stop()


def test_a_name_that_changes_between_two_look_ups_is_checked_each_time(egress, dns, web):
    dns.add("rebound.example.test", ["127.0.0.1"], ["10.0.0.1"])
    first, second = (
        egress.ask(get("rebound.example.test", port=web.server_port), f"*.example.test:{web.server_port}")
        for _ in (1, 2)
    )
    assert b"200 OK" in first
    assert b"10.0.0.1 is not permitted: private" in second


def test_an_answer_that_is_too_long_for_a_datagram_is_asked_for_by_tcp(egress, dns, web):
    dns.add("long.example.test", ["127.0.0.1"])
    dns.truncated.add("long.example.test")
    assert b"200 OK" in egress.ask(
        get("long.example.test", port=web.server_port), f"*.example.test:{web.server_port}"
    )


def test_a_dns_server_that_never_answers_holds_no_connection_for_long(egress, dns, monkeypatch):
    monkeypatch.setattr("egress.resolver.TRY_S", 0.3)
    dns.silent.add("silent.example.test")
    began = time.monotonic()
    answer = egress.ask(get("silent.example.test"), "*.example.test")
    assert answer.startswith(b"HTTP/1.1 502")
    assert b"no DNS server answers" in answer
    assert time.monotonic() - began < 3


def test_a_host_that_never_answers_is_given_up(egress, dns, monkeypatch):
    monkeypatch.setattr(dialer, "CONNECT_S", 0.5)
    dead = socket.create_server(("127.0.0.1", 0), backlog=0)
    filled = [socket.socket() for _ in range(4)]
    try:
        for one in filled:
            one.setblocking(False)
            one.connect_ex(dead.getsockname())
        time.sleep(0.2)
        port = dead.getsockname()[1]
        answer = egress.ask(get("api.example.test", port=port), f"api.example.test:{port}")
        assert answer.startswith(b"HTTP/1.1 502")
        assert b"not connected within" in answer
    finally:
        for one in (*filled, dead):
            one.close()


def test_the_next_address_is_tried_when_one_refuses(egress, dns, web):
    dns.add("two.example.test", ["127.0.0.9", "127.0.0.1"])
    answer = egress.ask(get("two.example.test", port=web.server_port), f"*.example.test:{web.server_port}")
    assert b"200 OK" in answer


def test_addresses_are_tried_by_turns_each_once_and_not_all():
    found = in_turn([ipaddress.ip_address(text) for text in ("1.1.1.1", "1.1.1.1", "1.0.0.1", "2606:4700::1")])
    assert [str(address) for address in found] == ["2606:4700::1", "1.1.1.1", "1.0.0.1"]
    assert len(in_turn([ipaddress.ip_address(number) for number in range(2**24, 2**24 + 50)])) == dialer.MAX_TRIES


def test_a_change_of_the_patterns_ends_the_connections_that_they_permit_no_more_and_no_others(egress, echo, dns):
    port = echo.server_address[1]
    dns.add("other.example.test", ["127.0.0.1"])
    both = (f"api.example.test:{port}", f"other.example.test:{port}")
    with contextlib.ExitStack() as stack:
        api, other = (
            stack.enter_context(tunnel(egress, host, port, *both))
            for host in ("api.example.test", "other.example.test")
        )
        of_another_run = stack.enter_context(tunnel(egress, "other.example.test", port, *both, run="run_2"))
        for one in (api, other, of_another_run):
            assert one.recv(100) == b"greeting\n"
        assert egress.change(both[0]) == 1
        assert read_all(other) == b""
        for one in (api, of_another_run):
            one.sendall(b"\x00x")
            assert one.recv(2) == b"\x00x"
        assert egress.change(*both, deny=["api.example.test"], version=2) == 1
        assert read_all(api) == b""
    status = egress.status()
    assert (status["verdicts"]["denied"], status["verdicts"]["allowed"]) == (2, 1)


def test_a_connection_with_older_patterns_is_judged_by_the_newest(egress, echo):
    port = echo.server_address[1]
    old = f"api.example.test:{port}"
    assert egress.change("elsewhere.example.test", version=3) == 0
    assert b"403" in egress.ask(connect("api.example.test", port), old)
    with tunnel(egress, "api.example.test", port, old, run="run_2") as connection:
        assert connection.recv(100) == b"greeting\n"
        assert egress.change(run="run_2", version=0) == 1
        assert read_all(connection) == b""


def test_a_request_that_was_not_complete_when_the_patterns_changed_is_judged_by_the_new_ones(egress, echo):
    port = echo.server_address[1]
    request = connect("api.example.test", port)
    with egress.open(f"api.example.test:{port}") as connection:
        connection.sendall(request[:10])
        time.sleep(0.1)
        assert egress.change("elsewhere.example.test") == 0
        connection.sendall(request[10:])
        assert connection.recv(12) == b"HTTP/1.1 403"


def test_a_silent_connection_is_closed(egress, echo, monkeypatch):
    monkeypatch.setattr(relay, "IDLE_S", 0.3)
    with tunnel(egress, "api.example.test", echo.server_address[1]) as connection:
        assert read_all(connection) == b"greeting\n"
    assert egress.status()["verdicts"]["idle"] == 1


def test_a_run_has_so_many_connections_at_a_time_and_another_run_has_its_own(egress, echo, monkeypatch):
    monkeypatch.setattr(accounts, "MOST_OPEN", 3)
    port = echo.server_address[1]
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(tunnel(egress, "api.example.test", port))
        refused = egress.ask(connect("api.example.test", port), f"api.example.test:{port}")
        assert refused.startswith(b"HTTP/1.1 429")
        stack.enter_context(tunnel(egress, "api.example.test", port, run="run_2"))
    assert egress.status()["verdicts"]["connections"] == 1


def test_one_key_holds_no_more_than_half_of_all_connections(tmp_path, dns, echo, monkeypatch):
    monkeypatch.setattr(accounts, "MOST_OPEN", 2)
    running = Running(tmp_path / "small.sock", dns, most=6)
    port = echo.server_address[1]
    try:
        with contextlib.ExitStack() as stack:
            for number in range(3):
                stack.enter_context(tunnel(running, "api.example.test", port, run=f"run_{number}"))
            refused = running.ask(connect("api.example.test", port), f"*:{port}", run="run_9")
            assert refused.startswith(b"HTTP/1.1 429")
            stack.enter_context(tunnel(running, "api.example.test", port, key="other", run="run_other"))
    finally:
        running.stop()


def test_new_connections_beyond_the_rate_wait_and_beyond_that_are_refused(monkeypatch):
    books = accounts.Accounts(1000)
    account = books.account("run_1", "k", None)
    delays = []
    for _ in range(60):
        delays.append(books.open_connection(account))
        books.close_connection(account)
    assert delays[0] == 0
    assert 1.5 < delays[-1] < 2.5
    monkeypatch.setattr(accounts, "MOST_DELAY_S", 0.0)
    with pytest.raises(front.Refused) as refused:
        books.open_connection(account)
    assert refused.value.verdict == "rate"


def test_the_budget_of_a_run_ends_its_connections(egress, web):
    port = web.server_port
    answer = egress.ask(
        get("api.example.test", "/big/5000000", port=port), f"api.example.test:{port}", left=1_000_000
    )
    assert 0 < len(answer) < 1_100_000
    refused = egress.ask(get("api.example.test", port=port), f"api.example.test:{port}", left=-1)
    assert refused.startswith(b"HTTP/1.1 403")
    assert b"egress_mb" in refused
    assert egress.status()["verdicts"]["budget"] == 2


def test_refused_connections_have_lines_up_to_a_number_and_are_counted_beyond(egress, caplog, monkeypatch):
    monkeypatch.setattr(accounts, "MOST_REFUSED_LINES", 3)
    with caplog.at_level("INFO", logger="audit"):
        for _ in range(5):
            egress.ask(get("evil.example"), "api.example.test")
    lines = [one for one in caplog.records if getattr(one, "event", "") == "egress.connection"]
    assert len(lines) == 3
    assert {(one.host, one.port, one.verdict, one.run_id, one.key) for one in lines} == {
        ("evil.example", 80, "denied", "run_1", "k")
    }


def test_what_a_program_sends_cannot_become_a_host_in_the_log(egress, caplog):
    with caplog.at_level("INFO", logger="audit"):
        egress.ask(b'CONNECT evil"\x1b[2Jx\xff:443 HTTP/1.1\r\n\r\n', "*")
        egress.ask(b'CONNECT {"a":1}:443 HTTP/1.1\r\n\r\n', "*")
    lines = [one for one in caplog.records if getattr(one, "event", "") == "egress.connection"]
    assert {one.host for one in lines} == {""}


def test_strangers_are_turned_away(tmp_path, dns):
    running = Running(tmp_path / "strangers.sock", dns)
    try:
        assert (tmp_path / "strangers.sock").stat().st_mode & 0o777 == 0o600
    finally:
        running.stop()


def test_nothing_is_left_of_many_connections(egress, web):
    descriptors = len(os.listdir("/proc/self/fd"))
    for number in range(40):
        egress.ask(
            get("api.example.test", port=web.server_port), f"api.example.test:{web.server_port}", run=f"r{number}"
        )
    assert egress.status()["open"] == 0
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 5


def test_a_hundred_megabytes_pass(egress, web):
    port, size = web.server_port, 50_000_000
    with egress.open(f"api.example.test:{port}") as connection:
        connection.sendall(get("api.example.test", f"/big/{size}", port=port))
        found = 0
        while data := connection.recv(1 << 20):
            found += len(data)
    assert found > size
