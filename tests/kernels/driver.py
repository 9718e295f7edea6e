"""A kernel as a plain process with its four descriptors, and the replies read in the way of the agent."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from tests.kernels.image_root import RUNNERS, UID, program

TIMEOUT_S = 20
ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/work", "LANG": "C.UTF-8"}


@dataclass
class Outcome:
    """Everything that came out of one cell."""

    events: list[tuple[str, object]] = field(default_factory=list)
    done: dict[str, object] | None = None

    def _joined(self, kind: str) -> str:
        return b"".join(v for k, v in self.events if k == kind).decode("utf-8", "replace")

    @property
    def stdout(self) -> str:
        return self._joined("stdout")

    @property
    def stderr(self) -> str:
        return self._joined("stderr")

    @property
    def displays(self) -> list[dict]:
        return [v for k, v in self.events if k == "display"]

    @property
    def exception(self) -> dict | None:
        return next((v for k, v in self.events if k == "exception"), None)


class KernelEnded(Exception):
    """The kernel closed its replies; `outcome` is what came before."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class Kernel:
    """One kernel of a language, in the root of its image."""

    def __init__(self, language: str, folder: Path | None = None) -> None:
        settings = tomllib.loads((RUNNERS / language / "runner.toml").read_text())
        self._place = Path(tempfile.mkdtemp(prefix="kernel-"))
        kernels = assembled(self._place / "kernels")
        (self._place / "root").mkdir()
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        self._stdout, stdout = os.pipe()
        self._stderr, stderr = os.pipe()
        os.set_inheritable(replies, True)
        for fd in (requests, replies, stdout, stderr):
            os.fchown(fd, UID, UID)  # as the agent's: a program may open its own outputs again
        argv = program(language, kernels, self._place / "root", settings["kernel"]["argv"])
        self.process = subprocess.Popen(
            argv,
            stdin=requests,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(replies,),
            env={**ENV, "REPLIES": str(replies)},
            start_new_session=True,
        )
        for fd in (requests, replies, stdout, stderr):
            os.close(fd)
        for fd in (self._stdout, self._stderr):
            os.set_blocking(fd, False)
        self.ready = self._reply(Outcome())

    def execute(
        self, code: str, stdin: bytes = b"", env: dict[str, str] | None = None, interrupt_s: float | None = None
    ):
        """Run a cell; SIGINT is sent after `interrupt_s`."""
        self.send({"code": code.encode(), "stdin": stdin}, op="execute", env=env or {}, results=True)
        outcome = Outcome()
        if interrupt_s is not None:
            time.sleep(interrupt_s)
            self.process.send_signal(signal.SIGINT)
        while outcome.done is None:
            reply = self._reply(outcome)
            outcome.events.append((reply["type"], reply))
            if reply["type"] == "done":
                outcome.done = reply
        return outcome

    def ask(self, op: str, code: str, cursor: int | None = None) -> dict:
        """Send `complete` or `inspect`."""
        self.send({"code": code.encode()}, op=op, cursor=len(code) if cursor is None else cursor)
        return self._reply(Outcome())

    def send(self, parts: dict[str, bytes], **request: object) -> None:
        header = json.dumps({**request, "parts": [[name, len(part)] for name, part in parts.items()]}).encode()
        data = b"".join((struct.pack(">I", len(header)), header, *parts.values()))
        while data:
            data = data[os.write(self._requests, data) :]

    def close(self) -> int | None:
        """End the requests; return the kernel's status, or None where it had to be killed."""
        os.close(self._requests)
        try:
            status: int | None = self.process.wait(5)
        except subprocess.TimeoutExpired:
            status = None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for fd in (self._replies, self._stdout, self._stderr):
            os.close(fd)
        shutil.rmtree(self._place)
        return status

    def drain(self, outcome: Outcome) -> None:
        """Read the outputs until nothing is there."""
        for kind, fd in (("stdout", self._stdout), ("stderr", self._stderr)):
            while True:
                try:
                    part = os.read(fd, 1 << 16)
                except BlockingIOError:
                    break
                if not part:
                    break
                outcome.events.append((kind, part))

    def _reply(self, outcome: Outcome) -> dict:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            left = deadline - time.monotonic()
            if left < 0:
                raise TimeoutError(f"no reply in {TIMEOUT_S} s; so far: {outcome}")
            ready, _, _ = select.select([self._replies, self._stdout, self._stderr], [], [], min(left, 0.5))
            self.drain(outcome)
            if self._replies in ready:
                head = self._exactly(4, outcome)
                header = json.loads(self._exactly(struct.unpack(">I", head)[0], outcome))
                parts = {name: self._exactly(size, outcome).decode() for name, size in header.pop("parts", ())}
                return with_parts(header, parts)

    def _exactly(self, size: int, outcome: Outcome) -> bytes:
        data = b""
        while len(data) < size:
            part = os.read(self._replies, size - len(data))
            if not part:
                self.drain(outcome)
                raise KernelEnded(outcome)
            data += part
        return data


def with_parts(reply: dict, parts: dict[str, str]) -> dict:
    """Return a reply as one object: the data of a result, lines as lists."""
    if reply["type"] == "display":
        data = {
            kind: json.loads(text) if kind.endswith(("/json", "+json")) else text for kind, text in parts.items()
        }
        return {**reply, "data": data}
    lines = {"traceback", "matches"}
    return reply | {name: text.split("\n") if name in lines else text for name, text in parts.items()}


def assembled(target: Path) -> Path:
    """Copy the files of all kernels as they are in every image. No link is followed: checkouts may lack them."""
    for kernel in RUNNERS.glob("*/kernel"):
        shutil.copytree(kernel, target / kernel.parent.name / "kernel", symlinks=True)
    return target
