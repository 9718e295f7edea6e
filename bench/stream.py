"""How long what a program writes takes to reach the client of its stream.

The program prints CLOCK_MONOTONIC before each write and the client reads the same clock at each arrival: it is
one clock for the whole machine, as long as no time namespace shifts it, which is looked at. The yardstick is the
same program by a bare interpreter, its pipe read line by line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import programs
from bench.clients import NDJSON, SSE, Client
from bench.report import Table
from bench.sampling import FAILURES, Samples, ratio
from bench.service import Service

GAP_S = 0.01
STREAMS = (1, 8)
CODE = f"""
import time
for _ in range({{lines}}):
    print(time.monotonic_ns(), flush=True)
    time.sleep({GAP_S})
"""
OFFSETS = "print(open('/proc/self/timens_offsets').read())"


def measure(service: Service, lines: int) -> list[dict[str, Any]]:
    """Rows: the bare pipe, then each form of stream, alone and eight at a time."""
    _check_clock(service)
    code = CODE.format(lines=lines)
    yardstick = Samples(list(_piped(code)))
    rows = [_row("bare pipe", 1, yardstick, None, None)]
    for form, accept in (("NDJSON", NDJSON), ("SSE", SSE)):
        for streams in STREAMS:
            service.settle()
            written, first = Samples(), Samples()
            with ThreadPoolExecutor(streams) as threads:
                for one in [threads.submit(streamed, service, code, accept) for _ in range(streams)]:
                    lags, opening, errors = one.result()
                    written.seconds += lags
                    written.errors += errors
                    first.seconds += opening
            rows.append(_row(form, streams, written, first, yardstick))
    return rows


def streamed(service: Service, code: str, accept: str) -> tuple[list[float], list[float], int]:
    """Of one streamed run: the seconds each line took, those to its first line from the request, errors."""
    client = service.client()
    lags: list[float] = []
    first: list[float] = []
    try:
        list(client.stream(programs.body("python", programs.HELLO["python"], stream=True), accept))
        began = time.monotonic_ns()
        for at, written in _lines(client, code, accept):
            if not first:
                first.append((at - began) / 1e9)
            lags.append((at - written) / 1e9)
    except FAILURES as e:
        print(f"a stream failed: {e}", file=sys.stderr)
        return lags, first, 1
    finally:
        client.close()
    return lags, first, 0


def _lines(client: Client, code: str, accept: str) -> Iterator[tuple[int, int]]:
    """When the event with a line's first byte came, and when the line was written. Events may cut or join lines."""
    started, text = 0, ""
    for at, event in client.stream(programs.body("python", code, stream=True), accept):
        if event["event"] == "result" and event["data"]["status"] != "succeeded":
            raise RuntimeError(f"the run ended {event['data']['status']}")
        if event["event"] != "stdout":
            continue
        started = started if text else at
        text += event["data"]
        while "\n" in text:
            line, _, text = text.partition("\n")
            yield started, int(line)
            started = at


def _piped(code: str) -> Iterator[float]:
    argv = [*programs.BARE[:-1], code]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as bare:
        assert bare.stdout is not None
        for line in bare.stdout:
            yield (time.monotonic_ns() - int(line)) / 1e9


def _check_clock(service: Service) -> None:
    """Raises RuntimeError if the sandbox's monotonic clock is not the host's."""
    client = service.client()
    run = json.loads(client.call("POST", "/v1/runs", programs.body("python", OFFSETS)))
    client.close()
    offsets = [line.split() for line in run["stdout"].splitlines() if line.strip()]
    if any(name == "monotonic" and (int(seconds), int(rest)) != (0, 0) for name, seconds, rest in offsets):
        raise RuntimeError("sandboxes have a time namespace: their clock cannot be compared")


def _row(form: str, streams: int, written: Samples, first: Samples | None, bare: Samples | None) -> dict[str, Any]:
    return {
        "form": form,
        "streams": streams,
        "lines": len(written.seconds),
        "errors": written.errors,
        "p50_ms": written.ms(0.5),
        "p99_ms": written.ms(0.99),
        "ratio": ratio(written.ms(0.5), bare.ms(0.5), 1) if bare else None,
        "first_line_p50_ms": first.ms(0.5) if first else None,
    }


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """One row a form and number of streams."""
    shown = Table(
        "A line of a stream, from the program's write to the client",
        ("", "at a time", "lines", "p50 ms", "p99 ms", "of the pipe", "request to first line, ms", "errors"),
    )
    for row in rows:
        bare = row["form"] == "bare pipe"
        extra = ("–", "–") if bare else (row["ratio"], row["first_line_p50_ms"])
        shown.rows.append(
            (row["form"], row["streams"], row["lines"], row["p50_ms"], row["p99_ms"], *extra, row["errors"])
        )
    return [shown]
