"""What the way through the proxy and the egress process adds to a request, and how many bytes a second pass.

The same program runs on the host, straight to a server on this machine, and in a sandbox through the proxy.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from typing import Any

from bench import programs
from bench.report import Table
from bench.service import Service

#: Servers of the tests: only a checkout has them.
SERVERS = "tests.support.egress_servers"
ADDRESS = "127.91.0.2"
SETTINGS = {
    "EGRESS": "on",
    "EGRESS_ALLOW": f"{ADDRESS}:9180",
    # A switch of the tests: the addresses of this machine count as public ones.
    "RUNYARD_EGRESS_TEST": "127.91.0.0/16;127.0.0.1:9",
}
PORT = 9180
BIG_BYTES = 300 * 1000 * 1000
#: At most so many milliseconds more for a request, and at least so many megabytes a second.
MORE_MS, MB_PER_S = 3.0, 100.0
PROGRAM = """
import json, socket, sys, time
TARGET, VIA, CALLS, BIG = %r, %r, %d, %d
def opened():
    s = socket.create_connection(VIA or TARGET)
    if VIA:
        s.sendall(b'CONNECT %%s:%%d HTTP/1.1\\r\\n\\r\\n' %% (TARGET[0].encode(), TARGET[1]))
        answer = b''
        while not answer.endswith(b'\\r\\n\\r\\n'):
            answer += s.recv(1)
    return s
def get(s, path):
    head = b'GET %%s HTTP/1.1\\r\\nHost: %%s:%%d\\r\\nConnection: close\\r\\n\\r\\n'
    s.sendall(head %% (path, TARGET[0].encode(), TARGET[1]))
    size = 0
    buffer = bytearray(1 << 20)
    while n := s.recv_into(buffer):
        size += n
    return size
times = []
for _ in range(CALLS):
    began = time.perf_counter()
    with opened() as s:
        get(s, b'/hello')
    times.append((time.perf_counter() - began) * 1000)
    time.sleep(0.06)  # at most 20 connections a second are made for a run
with opened() as s:
    began = time.perf_counter()
    size = get(s, b'/big/%%d' %% BIG)
    assert size > BIG, size
    rate = size / (time.perf_counter() - began) / 1e6
print(json.dumps({"p50_ms": sorted(times)[len(times) // 2], "mb_per_s": rate}))
"""


def measure(service: Service, calls: int) -> dict[str, Any]:
    """Return the figures of both ways. The service is restarted."""
    service.up(**SETTINGS)
    server = importlib.import_module(SERVERS).WebServer(ADDRESS, PORT)
    client = service.client()
    try:
        argv = [sys.executable, "-c", PROGRAM % ((ADDRESS, PORT), None, calls, BIG_BYTES)]
        direct = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
        code = PROGRAM % ((ADDRESS, PORT), ("127.0.0.1", 3128), calls, BIG_BYTES)
        network = {"allow": [f"{ADDRESS}:{PORT}"]}
        body = programs.body("python", code, network=network, limits={"timeout_ms": 60_000})
        run = json.loads(client.post_any("/v1/runs", body))
        if run["status"] != "succeeded":
            raise RuntimeError(f"the run through the proxy: {run['stderr'][-300:]}")
        proxied = json.loads(run["stdout"])
    finally:
        client.close()
        server.close()
    more_ms = round(proxied["p50_ms"] - direct["p50_ms"], 2)
    return {
        "direct": direct,
        "proxied": proxied,
        "more_ms": more_ms,
        "within": more_ms <= MORE_MS and proxied["mb_per_s"] >= MB_PER_S,
    }


def tables(found: dict[str, Any]) -> list[Table]:
    """Both ways."""
    table = Table(
        f"A request to a server on this machine (bounds: {MORE_MS:g} ms more, {MB_PER_S:g} MB/s)",
        ("", "p50 ms", "MB/s"),
    )
    for name in ("direct", "proxied"):
        table.rows.append((name, round(found[name]["p50_ms"], 2), round(found[name]["mb_per_s"])))
    table.rows.append(("difference", found["more_ms"], None))
    return [table]
