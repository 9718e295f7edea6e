"""Servers on this machine's own addresses for the tests of the network: DNS, HTTP, HTTPS, and a plain echo."""

from __future__ import annotations

import contextlib
import http.server
import ipaddress
import os
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
import time
from pathlib import Path


def _both_sockets(port: int) -> tuple[socket.socket, socket.socket]:
    """Open a UDP and a TCP socket of one port; 0 is any that both can have."""
    for _ in range(50):
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("127.0.0.1", port))
        try:
            return datagrams, socket.create_server(datagrams.getsockname())
        except OSError:  # a connection of another program has it
            datagrams.close()
            if port:
                raise
    raise OSError("no port is free for UDP and TCP")


class DnsServer:
    """Answers for the names it was given, by UDP and TCP; others do not exist.

    `silent` names are not answered at all, and of a name with several lists each question has the next.
    """

    def __init__(self, port: int = 0) -> None:
        self.names: dict[str, list[list[str]]] = {}
        self.silent: set[str] = set()
        self.truncated: set[str] = set()
        self.asked: list[str] = []
        self._socket, self._listener = _both_sockets(port)
        self.address = self._socket.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()
        threading.Thread(target=self._serve_tcp, daemon=True).start()

    def add(self, name: str, *addresses: list[str]) -> None:
        self.names[name] = list(addresses)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, sender = self._socket.recvfrom(4096)
                if not query:  # closed
                    return
                if (answer := self._answer(query, truncate=True)) is not None:
                    self._socket.sendto(answer, sender)

    def _serve_tcp(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                asker, _ = self._listener.accept()
                with asker:
                    query = asker.recv(4096)[2:]
                    if (answer := self._answer(query, truncate=False)) is not None:
                        asker.sendall(struct.pack(">H", len(answer)) + answer)

    def _answer(self, query: bytes, *, truncate: bool) -> bytes | None:
        (identifier,) = struct.unpack_from(">H", query)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += query[at] + 1
        name, question = ".".join(labels), query[12 : at + 5]
        (kind,) = struct.unpack_from(">H", query, at + 1)
        self.asked.append(name)
        if name in self.silent:
            return None
        if truncate and name in self.truncated:
            return struct.pack(">HHHHHH", identifier, 0x8380, 1, 0, 0, 0) + question
        lists = self.names.get(name)
        if lists is None:
            return struct.pack(">HHHHHH", identifier, 0x8183, 1, 0, 0, 0) + question
        found = [ipaddress.ip_address(text) for text in lists[0]]
        if len(lists) > 1 and kind == 1:
            lists.append(lists.pop(0))
        packed = [one.packed for one in found if one.version == (4 if kind == 1 else 6)]
        records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(p)) + p for p in packed)
        return struct.pack(">HHHHHH", identifier, 0x8180, 1, len(packed), 0, 0) + question + records

    def close(self) -> None:
        for one in (self._socket, self._listener):
            with contextlib.suppress(OSError):  # a thread that waits holds the port until it is woken
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers each path: `/hello`, `/big/BYTES`, `/echo` (the body), `/headers`, `/slow/SECONDS`, or a file."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind, _, rest = self.path.partition("?")[0].strip("/").partition("/")
        if kind == "big":
            self._send_big(int(rest))
        elif kind == "slow":
            time.sleep(float(rest))
            self._send(b"late")
        elif kind == "headers":
            self._send(str(self.headers).encode())
        elif kind == "redirect":
            self.send_response(302)
            self.send_header("Location", f"http://{rest}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif kind == "files" and self.server.root is not None and (self.server.root / rest).is_file():
            self._send((self.server.root / rest).read_bytes())
        elif kind == "files" and self.server.root is not None and (self.server.root / rest).is_dir():
            names = sorted(os.listdir(self.server.root / rest))
            self._send("".join(f'<a href="{name}">{name}</a>\n' for name in names).encode(), "text/html")
        elif kind == "files":
            self.send_error(404)
        else:
            self._send(f"hello from {self.server.server_port}\n".encode())

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._send(body)

    def _send(self, body: bytes, kind: str = "text/plain") -> None:
        self.server.requests.append((self.command, self.path, self.headers.get("Host")))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_big(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        piece = bytes(1 << 20)
        with contextlib.suppress(OSError):
            while size > 0:
                self.wfile.write(piece[: min(size, len(piece))])
                size -= len(piece)

    def log_message(self, *args) -> None:
        pass


class WebServer(http.server.ThreadingHTTPServer):
    """An HTTP server, with TLS where a certificate is given. `requests` are (method, path, Host)."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: str, port: int = 0, certificate: Path | None = None, root: Path | None = None
    ) -> None:
        super().__init__((address, port), _Handler)
        self.requests: list[tuple[str, str, str | None]] = []
        self.root = root
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, request, client_address) -> None:
        pass

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class EchoServer(socketserver.ThreadingTCPServer):
    """Greets first, then sends back what it gets until the end of it, then says good-bye."""

    daemon_threads = True
    allow_reuse_address = True

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"greeting\n")
            while data := self.request.recv(65536):
                self.request.sendall(data)
            self.request.sendall(b"bye\n")

    def __init__(self, address: str, port: int = 0) -> None:
        super().__init__((address, port), self.Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


def make_certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """Make a certificate for these names and addresses; return it with its key, and the root that has signed it.

    Some libraries refuse a server's certificate that is a root itself.
    """
    alternatives = ",".join(f"IP:{name}" if name[0].isdigit() else f"DNS:{name}" for name in names)
    root_key, root, key, certificate = (folder / name for name in ("root.key", "ca.pem", "key.pem", "server.pem"))
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    signs = ["-addext", "keyUsage=critical,keyCertSign"]
    subprocess.run(
        [*made, "-subj", "/CN=runyard tests root", *signs, "-keyout", str(root_key), "-out", str(root)],
        check=True,
        capture_output=True,
    )
    signed = ["-CA", str(root), "-CAkey", str(root_key), "-addext", "basicConstraints=critical,CA:FALSE"]
    signed += ["-addext", "authorityKeyIdentifier=keyid"]
    named = ["-subj", "/CN=runyard tests", "-addext", f"subjectAltName={alternatives}"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made, *signed, *named, *files], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both, root


class PassingProxy:
    """Passes the bytes of each connection to the egress process behind its opening line, as agent and worker do."""

    def __init__(self, path: Path, opening: bytes) -> None:
        self._path, self._opening = path, opening
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                program, _ = self._listener.accept()
                threading.Thread(target=self._connection, args=(program,), daemon=True).start()

    def _connection(self, program: socket.socket) -> None:
        with program, socket.socket(socket.AF_UNIX) as egress:
            egress.connect(str(self._path))
            egress.sendall(self._opening)
            back = threading.Thread(target=self._pass, args=(egress, program), daemon=True)
            back.start()
            self._pass(program, egress)
            back.join()

    @staticmethod
    def _pass(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.close()
