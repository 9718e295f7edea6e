"""A worker's socket whose answers the test writes, in front of a real api process."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress

LANGUAGE = {
    "id": "python", "aliases": ["py"], "version": "3", "entry_file": "main.py", "packages": [], "ready": True,
    "example": "", "keeps": "files", "kernels": [], "results": False, "pids_default": 64,
}  # fmt: skip
FACTS = {
    "status": "ready", "end_reason": None, "expires_in_ms": 60_000, "runs": 0, "awake_ms": 5,
    "usage": {"memory_mb": 1, "disk_mb": 0, "cpu_ms": 1, "processes": 0, "egress_bytes": 0},
}  # fmt: skip


class Held:
    """A connection that waits for messages: the request, and what is sent to it."""

    def __init__(self, sock, request):
        self.sock, self.request = sock, request

    def say(self, *messages):
        self.sock.sendall(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def is_gone(self, within_s=10.0):
        """Whether its peer has closed it, or does in that time."""
        self.sock.settimeout(within_s)
        with suppress(TimeoutError):
            try:
                while self.sock.recv(4096):
                    pass
            except ConnectionError:
                pass
            return True
        return False

    def end(self):
        self.sock.close()


class ScriptedWorker:
    """Accepts runs and sessions, and holds every connection that asks for events, a watch or a wait."""

    def __init__(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(2048)
        self._lock = threading.Lock()
        self.held = []
        self.runs, self.sessions = {}, {}
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for one in self.held:
            one.end()

    def wait_for(self, count, do=None, within_s=30):
        """The connections that are held for one kind of request, when there are that many."""
        deadline = time.monotonic() + within_s
        while True:
            with self._lock:
                found = [one for one in self.held if do in (None, one.request.get("do", one.request["op"]))]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, f"{len(found)} of {count}"
            time.sleep(0.02)

    def forget(self):
        """Close what was held until now, but for the collector's."""
        with self._lock:
            over, self.held = self.held, [one for one in self.held if one.request["op"] == "collect"]
        for one in over:
            if one not in self.held:
                one.end()

    def drop(self, held):
        """Hold this one no more; its connection is kept for the next request."""
        with self._lock:
            self.held.remove(held)
        threading.Thread(target=self._serve, args=(held.sock,), daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        with suppress(OSError, ValueError):
            buffer = b""
            while True:
                while b"\n" not in buffer:
                    data = sock.recv(65536)
                    if not data:
                        raise ConnectionResetError
                    buffer += data
                line, _, buffer = buffer.partition(b"\n")
                if self._answer(sock, json.loads(line)):
                    return
        sock.close()

    def _answer(self, sock, request):
        """Answer one request. Returns whether its connection is held from now on."""
        op = request["op"]
        if op == "status":
            answer = {"status": {"languages": [LANGUAGE]}}
        elif op == "run" and request["mode"] == "background":
            run_id = request["job"]["run_id"]
            self.runs[run_id] = None
            answer = {"accepted": {"run_id": run_id}}
        elif op == "session" and request["do"] == "create":
            name = request["session"]["session_id"]
            answer = {"session": self.sessions.setdefault(name, {"id": name, **FACTS})}
        elif op == "session" and request["do"] in ("facts", "end"):
            answer = {"session": self.sessions.get(request["id"])}
        elif op == "session" and request["do"] == "list":
            answer = {"sessions": list(self.sessions.values())}
        elif op == "metrics":
            answer = {"metrics": {"text": ""}}
        elif op in ("ack", "leave"):
            return False
        else:
            held = Held(sock, request)
            if op == "collect":
                held.say({"runs": {"live": self.runs}})
            elif request.get("confirm"):
                held.say({"following": {}})
            elif request.get("do") == "watch":
                held.say({"watching": {}})
            with self._lock:
                self.held.append(held)
            return True
        sock.sendall(json.dumps(answer).encode() + b"\n")
        return False
