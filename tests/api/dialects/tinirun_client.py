"""A client of tinirun, written from its documented contract: it reads lines as its own clients do."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field

#: Its Rust client refuses a longer line.
LONGEST_LINE = 65_536


@dataclass
class Stream:
    """The answer of a call that streams."""

    status: int
    content_type: str
    chunks: list[dict] = field(default_factory=list)
    text: str = ""

    @property
    def last(self):
        return self.chunks[-1]

    @property
    def result(self):
        assert self.last["event"] == "result", self.chunks[-3:]
        return self.last["data"]

    def said(self, event):
        return "".join(chunk["data"] for chunk in self.chunks if chunk["event"] == event)


class Tinirun:
    """Calls beneath a base URL that ends in /api."""

    def __init__(self, service, key=None):
        self._service = service
        self._key = service.token if key is None else key

    def post(self, path, body, *, accept="application/jsonl", key=None):
        headers = {"Content-Type": "application/json", "X-Runner-Api-Key": key or self._key, "Accept": accept}
        return self._call("POST", path, json.dumps(body).encode() if not isinstance(body, bytes) else body, headers)

    def get(self, path):
        status, kind, data = self._get(path)
        return status, json.loads(data) if kind == "application/json" else data.decode()

    def run(self, code, lang="python", **fields):
        return self.post("/api/code/run", {"code": code, "lang": lang, **fields})

    def _get(self, path):
        connection = http.client.HTTPConnection(self._service.host, self._service.port, timeout=120)
        connection.request("GET", path, headers={"X-Runner-Api-Key": self._key})
        reply = connection.getresponse()
        data = reply.read()
        connection.close()
        return reply.status, reply.headers["content-type"], data

    def _call(self, method, path, body, headers):
        connection = http.client.HTTPConnection(self._service.host, self._service.port, timeout=120)
        connection.request(method, path, body=body, headers=headers)
        reply = connection.getresponse()
        stream = Stream(reply.status, reply.headers["content-type"])
        if reply.status != 200 or stream.content_type == "application/json":
            stream.text = reply.read().decode()
        elif stream.content_type.startswith("text/event-stream"):
            stream.chunks = [_event(block) for block in reply.read().split(b"\n\n") if block]
        else:
            while line := reply.readline(LONGEST_LINE + 1):
                assert len(line) <= LONGEST_LINE
                stream.chunks.append(json.loads(line))
        connection.close()
        return stream


def _event(block):
    assert block.startswith(b"data: "), block[:100]
    assert b"\n" not in block
    assert len(block) + 2 <= LONGEST_LINE
    return json.loads(block[6:])
