"""A small server that speaks tinirun's contract as its clients do, and the demo as a process.

`TinirunServer` really runs bash and python programs, on this machine: only the tests' own programs are given to it.
`Canned` answers each request with fixed bytes.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.service import REPO

KEY = "n33dle-api-key-123"
STARTED_S = 30
COMMANDS = {"bash": ["bash", "-c"], "python": [sys.executable, "-u", "-c"]}


class _Handler(BaseHTTPRequestHandler):
    server: TinirunServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.path, dict(self.headers), body))
        if self.headers.get("X-Runner-Api-Key") != KEY:
            return self._answer(401, "text/plain", b"Unauthorized")
        if self.path != "/api/code/run":
            return self._answer(404, "text/plain", b"Not Found")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with suppress(OSError):
            self._run(json.loads(body))
            self.wfile.write(b"0\r\n\r\n")
        return None

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _event(self, event: str, data: Any) -> None:
        line = b"data: " + json.dumps({"event": event, "data": data}).encode() + b"\n\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")

    def _run(self, request: dict[str, Any]) -> None:
        self._event("info", "Checking base image...")
        process = subprocess.Popen(
            [*COMMANDS[request["lang"]], request["code"]],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
            env={"PATH": os.environ["PATH"], "MPLCONFIGDIR": "/tmp", "HOME": "/nonexistent"},
            start_new_session=True,
        )  # fmt: skip
        self.server.processes.append(process)
        try:
            self._pass_on(process, request.get("timeout", 60))
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def _pass_on(self, process: subprocess.Popen[bytes], timeout_s: float) -> None:
        assert process.stdout
        assert process.stderr
        names = {process.stdout.fileno(): "stdout", process.stderr.fileno(): "stderr"}
        said = {"stdout": "", "stderr": ""}
        poll = select.poll()
        for number in [*names, self.connection.fileno()]:
            poll.register(number, select.POLLIN)
        deadline = time.monotonic() + timeout_s
        while names and time.monotonic() < deadline:
            for number, _ in poll.poll(100):
                if number not in names:
                    raise ConnectionResetError("the client has gone")
                piece = os.read(number, 16_384).decode(errors="replace")
                if not piece:
                    poll.unregister(number)
                    del names[number]
                    continue
                said[names[number]] += piece
                self._event(names[number], piece)
        late = bool(names)
        self._event("result", {**said, "exit_code": None if late else process.wait(), "timeout": late})

    def log_message(self, *_: object) -> None:
        pass


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # a client that goes is no failure of a test


class TinirunServer(_Quiet):
    """Serves `/api/code/run` until `close`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.key = KEY
        self.url = f"http://127.0.0.1:{self.server_port}/api"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Canned:
    """Answers each connection, once its request is there, with these bytes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/api"
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                self.requests.append(_whole_request(connection))
                connection.sendall(self.answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


def _whole_request(connection: socket.socket) -> bytes:
    """Read a request to its end: to close a connection with unread data resets it, and the answer may be lost."""
    data, size = b"", None
    while size is None or len(data) < size:
        if not (piece := connection.recv(65_536)):
            break
        data += piece
        head, end, _ = data.partition(b"\r\n\r\n")
        if end:
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            size = len(head) + len(end) + (int(length[1]) if length else 0)
    return data


class Demo:
    """`python -m web.demo` in front of a service."""

    def __init__(self, url: str, key: str = KEY, **settings: str) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "DEMO_TINIRUN_URL": url,
            "DEMO_TINIRUN_API_KEY": key,
            "DEMO_PORT": "0",
            "DEMO_RATE_PER_MINUTE": "6000",
            **settings,
        }
        argv = [sys.executable, "-m", "web.demo"]
        self.process = subprocess.Popen(argv, cwd=REPO, env=environment, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = int(self._first()["port"])
        self.url = f"http://127.0.0.1:{self.port}"

    def _read(self) -> None:
        assert self.process.stderr
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def _first(self) -> dict[str, Any]:
        deadline = time.monotonic() + STARTED_S
        while not self.lines:
            assert self.process.poll() is None, "the demo ended"
            assert time.monotonic() < deadline, "the demo does not start"
            time.sleep(0.02)
        return json.loads(self.lines[0])

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, source: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of an answer."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=60, source_address=(source, 0) if source else None
        )
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def run(self, lang: str, code: str, **more: Any) -> tuple[int, dict[str, str], bytes]:
        return self.request("POST", "/run", {"lang": lang, "code": code, **more})

    def end(self) -> list[str]:
        """Stop it, and return the lines of its log."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        self._reader.join(10)
        self.process.stderr.close()
        return self.lines


def events(body: bytes) -> list[dict[str, Any]]:
    """Return the events of a stream."""
    return [json.loads(line[5:]) for line in body.splitlines() if line.startswith(b"data:")]
