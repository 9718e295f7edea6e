"""`python -m bench.keys`: what knowing a caller, its bucket and counting its run cost a request, in CPU time.

The bound is 0.3 ms for the three together with a stored key, in memory mode. Buckets in memory or, with `--redis
URL`, in Redis; the database is SQLite in a scratch directory. Counting is what a run's acceptance costs more with a
quota and a bound of storage than without. Given beside the milliseconds: the ratio to one acceptance without
either, which was measured in the same moments. The service is not needed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable

from api.keys.authentication import Authenticator
from api.keys.plans import Plans, load_plans
from api.keys.service import KeyService
from api.keys.static_keys import static_callers
from api.ratelimit.bucket import Bucket
from api.ratelimit.limiter import Limiter
from bench.report import Table
from bench.sampling import percentile
from config.settings import Settings
from config.static_keys import ApiKey
from records import Records, migrate, open_records
from records.runs import AcceptedRun, NewRun
from records.usage import Quota

BOUND_MS = 0.3
#: The parts take turns in rounds of so many calls, so that whatever else the machine does falls on all of them.
CALLS = 50
MANY = Bucket(1e6, 1_000_000)
NOW_MS = 1_800_000_000_000


def measure(records: Records, plans: Plans, limiter: Limiter, rounds: int) -> dict[str, float]:
    """The median CPU milliseconds of a call, by what was called."""
    made = KeyService(records.keys, records.usage, plans).make("unlimited", "bench")
    static = static_callers([ApiKey(f"token_{n}", f"n{n}", 1, 1) for n in range(4)], records.tenants)
    authenticator = Authenticator(static, records.keys, plans)
    header, quota = f"Bearer {made.text}", Quota("all", 2**31 - 1)
    calls: dict[str, Callable[[], object]] = {
        "static token": lambda: authenticator.authenticate("Bearer token_3"),
        "stored key": lambda: authenticator.authenticate(header),
        "bucket": lambda: limiter.spend(made.stored.id, MANY, reading=False),
        "accept": lambda: _accept(records, made.stored.id, None, None),
        "accept and count": lambda: _accept(records, made.stored.id, quota, 2**40),
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.process_time_ns()
            for _ in range(CALLS):
                call()
            taken[name].append((time.process_time_ns() - began) / CALLS / 1e6)
    return {name: percentile(samples, 0.5) for name, samples in taken.items()}


def tables(ms: dict[str, float]) -> list[Table]:
    """What was measured, and whether it is within the bound."""
    count = max(0.0, ms["accept and count"] - ms["accept"])
    together = ms["stored key"] + ms["bucket"] + count
    parts = {
        "static token": ms["static token"],
        "stored key (its row is read)": ms["stored key"],
        "bucket": ms["bucket"],
        "quota and storage, counted": count,
        f"together (≤ {BOUND_MS})": together,
    }
    rows = [(name, f"{value:.3f}", f"{value / ms['accept']:.2f}") for name, value in parts.items()]
    title = "CPU of a request's key, bucket and quota"
    return [Table(title, ("", "ms", "of accepting a run"), rows)]


def main() -> int:
    """Measure and print; 1 if the bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help=f"rounds of {CALLS} calls of each")
    parser.add_argument("--redis", help="the URL of a server to keep the buckets in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runyard-bench-") as scratch:
        url = f"sqlite:///{scratch}/records.sqlite"
        migrate(url)
        records = open_records(url)
        limiter = Limiter(url=options.redis, anonymous=MANY, keys_an_hour=20)
        ms = measure(records, load_plans(Settings()), limiter, options.rounds)
        records.close()
    for table in tables(ms):
        print(table.text())
    together = ms["stored key"] + ms["bucket"] + ms["accept and count"] - ms["accept"]
    return int(together > BOUND_MS)


def _accept(records: Records, owner: str, quota: Quota | None, storage_bytes: int | None) -> None:
    run = NewRun(
        f"run_{os.urandom(14).hex()}",
        owner,
        "python",
        NOW_MS,
        b"{}",
        b"{}",
        "running",
        quota,
        storage_bytes,
    )
    assert isinstance(records.runs.accept(run), AcceptedRun)


if __name__ == "__main__":
    raise SystemExit(main())
