"""`python -m bench.storage`: megabytes a second through a local store, beside what hashing and the disk allow.

Needs no service. The directory should lie on the disk that blobs will be on (`--dir`); it is made and removed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.sampling import percentile
from storage import CHUNK_BYTES, Blob
from storage.local import LocalStore

MB = 1_000_000
SMALL_BYTES = 10_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path("/var/lib"), help="where to put the blobs")
    parser.add_argument("--mb", type=int, default=100, help="size of the large blob")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runyard-bench-", dir=options.dir) as scratch:
        area = Path(scratch) / "area"
        area.mkdir(mode=0o700)
        measure(LocalStore(area), Path(scratch) / "plain", options.mb, options.rounds)


def measure(store: LocalStore, plain: Path, size_mb: int, rounds: int) -> None:
    seed = os.urandom(CHUNK_BYTES - 8)
    pieces = size_mb * MB // CHUNK_BYTES

    def large(salt: int) -> Iterator[bytes]:
        return (seed + (salt * pieces + n).to_bytes(8) for n in range(pieces))

    def hashed() -> None:
        digest = hashlib.sha256()
        for piece in large(0):
            digest.update(piece)

    def written() -> None:
        with plain.open("wb", buffering=0) as file:
            for piece in large(0):
                file.write(piece)
            os.fsync(file.fileno())
        plain.unlink()

    def read(blob: Blob) -> None:
        with store.open(blob) as content:
            for _ in content:
                pass

    moved = pieces * CHUNK_BYTES / MB
    row("sha256 alone", moved, times(rounds, lambda _: hashed()))
    row("write and fsync alone", moved, times(rounds, lambda _: written()))
    stored = []
    row("put", moved, times(rounds, lambda n: stored.append(store.put(large(n + 1), 10**12))))
    row("open, read, verify", moved, times(rounds, lambda n: read(stored[n])))
    row("the same, two at once", 2 * moved, times(rounds, lambda n: at_once(lambda: read(stored[n]))))
    took = [wall for wall, _ in times(200, lambda n: store.put([seed[:SMALL_BYTES], n.to_bytes(4)], MB))]
    p50, p99 = (percentile(took, share) * 1000 for share in (0.5, 0.99))
    print(f"{'put of 10 kB':24}{p50:8.2f} ms p50{p99:8.2f} ms p99")


def times(rounds: int, do: Callable[[int], object]) -> list[tuple[float, float]]:
    """Seconds by the clock and of CPU, for each round."""
    found = []
    for n in range(rounds):
        began, cpu = time.perf_counter(), time.process_time()
        do(n)
        found.append((time.perf_counter() - began, time.process_time() - cpu))
    return found


def at_once(do: Callable[[], object]) -> None:
    threads = [threading.Thread(target=do) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def row(name: str, megabytes: float, took: list[tuple[float, float]]) -> None:
    wall, cpu = (megabytes / percentile([sample[column] for sample in took], 0.5) for column in (0, 1))
    print(f"{name:24}{wall:8.0f} MB/s{cpu:8.0f} MB per second of CPU")


if __name__ == "__main__":
    main()
