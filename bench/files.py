"""What files cost: a run with an artifact beside one without, and megabytes a second up and down.

The loopback's own rate is the yardstick of both: the same bytes through a socket, and nothing done to them.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from typing import Any

from bench import programs
from bench.report import Table
from bench.sampling import Samples, paced, percentile, ratio
from bench.service import HOST, TOKEN, Service

MB = 1_000_000
ARTIFACT_BYTES = MB
GAP_MS = 100
BLOCK = 10
FILE_BYTES = 50 * MB
ROUNDS = 5
CHUNK_BYTES = 1 << 20
TIMEOUT_S = 180
#: Random bytes, as a picture's are to whoever compresses; written in one piece, as a library would.
WITH = f"open('/work/outputs/a', 'wb').write(__import__('os').urandom({ARTIFACT_BYTES}))"
WITHOUT = f"len(__import__('os').urandom({ARTIFACT_BYTES}))"


def measure(service: Service, count: int) -> dict[str, Any]:
    """`artifact`: the two runs in ms; `rates`: MB/s of upload, download and bare loopback."""
    return {"artifact": _artifact(service, count), "rates": _rates(service)}


def _artifact(service: Service, count: int) -> dict[str, Any]:
    client = service.client()
    requests = {"without": programs.body("python", WITHOUT), "with": programs.body("python", WITH)}
    found = {name: Samples() for name in requests}
    for _ in range(-(-count // BLOCK)):
        for name, request in requests.items():
            service.settle()
            paced(found[name], BLOCK, GAP_MS / 1000, lambda request=request: client.run(request))  # type: ignore[misc]
    client.close()
    p50 = {name: samples.ms(0.5) for name, samples in found.items()}
    more = None if p50["with"] is None or p50["without"] is None else round(p50["with"] - p50["without"], 2)
    return {
        "without_p50_ms": p50["without"],
        "with_p50_ms": p50["with"],
        "more_ms": more,
        "errors": sum(samples.errors for samples in found.values()),
    }


def _rates(service: Service) -> list[dict[str, Any]]:
    data = os.urandom(FILE_BYTES)
    took: dict[str, list[float]] = {"loopback": [], "upload": [], "download": []}
    for _ in range(ROUNDS):
        took["loopback"].append(_loopback(data))
        began = time.perf_counter()
        file = _upload(service, data)
        took["upload"].append(time.perf_counter() - began)
        began = time.perf_counter()
        _download(service, file["id"])
        took["download"].append(time.perf_counter() - began)
        _call(service, "DELETE", f"/v1/files/{file['id']}")
    yardstick = percentile(took["loopback"], 0.5)
    return [
        {
            "what": what,
            "mb_per_s": round(FILE_BYTES / MB / percentile(seconds, 0.5)),
            "best_mb_per_s": round(FILE_BYTES / MB / min(seconds)),
            "of_loopback": ratio(yardstick, percentile(seconds, 0.5)),
        }
        for what, seconds in took.items()
    ]


def _loopback(data: bytes) -> float:
    """Seconds for the bytes from one thread of this process to another through a socket of the loopback."""
    with socket.create_server((HOST, 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
    with sender, receiver:
        began = time.perf_counter()
        thread = threading.Thread(target=sender.sendall, args=(data,))
        thread.start()
        left = len(data)
        while left:
            left -= len(receiver.recv(CHUNK_BYTES))
        thread.join()
        return time.perf_counter() - began


def _upload(service: Service, data: bytes) -> dict[str, Any]:
    boundary = "runyard-bench-boundary"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
    tail = f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    found: dict[str, Any] = json.loads(_call(service, "POST", "/v1/files", head + data + tail, headers))
    return found


def _download(service: Service, file_id: str) -> None:
    if len(_call(service, "GET", f"/v1/files/{file_id}/content")) != FILE_BYTES:
        raise RuntimeError("the file did not come back whole")


def _call(
    service: Service, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> bytes:
    connection = http.client.HTTPConnection(HOST, service.port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"} | (headers or {}))
        response = connection.getresponse()
        raw = response.read()
        if response.status not in (200, 201, 204):
            raise RuntimeError(f"{response.status} {raw[:200]!r}")
        return raw
    finally:
        connection.close()


def tables(found: dict[str, Any]) -> list[Table]:
    """The artifact's cost, and the rates."""
    artifact = Table(
        f"A python run that makes {ARTIFACT_BYTES // MB} MB, and keeps it as an artifact; {GAP_MS} ms idle before",
        ("without p50 ms", "with p50 ms", "more, ms", "errors"),
    )
    row = found["artifact"]
    artifact.rows.append((row["without_p50_ms"], row["with_p50_ms"], row["more_ms"], row["errors"]))
    rates = Table(
        f"A file of {FILE_BYTES // MB} MB on local storage", ("", "MB/s, median", "MB/s, best", "of loopback")
    )
    rates.rows.extend((r["what"], r["mb_per_s"], r["best_mb_per_s"], r["of_loopback"]) for r in found["rates"])
    return [artifact, rates]
