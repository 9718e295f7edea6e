"""The state machine against a model of it, by whatever calls Hypothesis thinks of."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from records import open_records
from records.runs import ENDED, AcceptedRun, Duplicate, Mismatch, OverQuota
from records.usage import Quota
from tests.records.builders import an_end, events, key, new_run, unique

RUNS_ALLOWED = 6


@dataclass
class Model:
    """What a run must look like."""

    status: str
    attempt: int = 1
    document: bytes = b""
    seqs: list[int] = field(default_factory=list)
    counted: bool = True
    key: str | None = None

    @property
    def live(self):
        return self.status not in ENDED


class Runs(RuleBasedStateMachine):
    records = None
    ids = Bundle("ids")
    attempts = st.integers(1, 3)
    batch = st.lists(st.integers(1, 30), max_size=5, unique=True).map(sorted)

    def __init__(self):
        super().__init__()
        self.owner = unique("key")
        self.runs = {}
        self.keys = {}
        self.deleted = 0

    @rule(
        target=ids,
        status=st.sampled_from(["queued", "running"]),
        name=st.none() | st.sampled_from(["k1", "k2"]),
        body=st.sampled_from([b"one", b"two"]),
    )
    def accept(self, status, name, body):
        run = new_run(self.owner, status=status, document=b"new", quota=Quota("all", RUNS_ALLOWED))
        given = None if name is None else key(name, body)
        answer = self.records.runs.accept(run, given)
        if name in self.keys:
            first, first_body = self.keys[name]
            assert answer == (Duplicate(first) if body == first_body else Mismatch())
        elif self.counted() >= RUNS_ALLOWED:
            assert answer == OverQuota(RUNS_ALLOWED, RUNS_ALLOWED)
        else:
            assert answer == AcceptedRun()
            self.runs[run.id] = Model(status, document=b"new", key=name)
            if name is not None:
                self.keys[name] = (run.id, body)
        return run.id

    def counted(self):
        return sum(model.counted for model in self.runs.values()) + self.deleted

    def allowed(self, run_id, attempt):
        model = self.runs.get(run_id)
        return model is not None and model.live and model.attempt == attempt

    @rule(run_id=ids, attempt=attempts)
    def begin(self, run_id, attempt):
        expected = self.allowed(run_id, attempt) and self.runs[run_id].status == "queued"
        assert self.records.runs.begin(run_id, attempt, b"begun") == expected
        if expected:
            self.runs[run_id].status = "running"
            self.runs[run_id].document = b"begun"

    @rule(run_id=ids, attempt=attempts)
    def requeue(self, run_id, attempt):
        expected = self.allowed(run_id, attempt) and self.runs[run_id].status == "running"
        assert self.records.runs.requeue(run_id, attempt, b"waits") == expected
        if expected:
            self.runs[run_id].status = "queued"
            self.runs[run_id].document = b"waits"

    @rule(run_id=ids, attempt=attempts)
    def retry(self, run_id, attempt):
        expected = attempt + 1 if self.allowed(run_id, attempt) else None
        assert self.records.runs.retry(run_id, attempt, b"again") == expected
        if expected:
            model = self.runs[run_id]
            model.status, model.attempt, model.document = "queued", expected, b"again"

    @rule(run_id=ids, attempt=attempts, seqs=batch)
    def append(self, run_id, attempt, seqs):
        expected = self.allowed(run_id, attempt)
        assert self.records.runs.append_events(run_id, attempt, events(*seqs)) == expected
        if expected:
            self.add_events(run_id, seqs)

    def add_events(self, run_id, seqs):
        kept = self.runs[run_id].seqs
        last = kept[-1] if kept else 0
        kept += [seq for seq in seqs if seq > last]

    @rule(run_id=ids, attempt=attempts, status=st.sampled_from(sorted(ENDED)), seqs=batch)
    def finish(self, run_id, attempt, status, seqs):
        expected = self.allowed(run_id, attempt)
        end = an_end(status, document=status.encode(), events=events(*seqs))
        assert self.records.runs.finish(run_id, attempt, end) == expected
        if expected:
            self.runs[run_id].status = status
            self.runs[run_id].document = status.encode()
            self.add_events(run_id, seqs)

    @rule(run_id=ids)
    def discard(self, run_id):
        model = self.runs.get(run_id)
        expected = model is not None and model.live
        assert self.records.runs.discard(run_id) == expected
        if expected:
            del self.runs[run_id]
            self.keys.pop(model.key, None)

    @rule(run_id=ids)
    def delete(self, run_id):
        model = self.runs.get(run_id)
        expected = "unknown" if model is None else "live" if model.live else "deleted"
        assert self.records.runs.delete(self.owner, run_id) == expected
        if expected == "deleted":
            del self.runs[run_id]
            self.deleted = self.deleted + 1

    @invariant()
    def all_is_as_in_the_model(self):
        found = self.records.runs.list(self.owner, limit=100, order="asc").items
        assert [run.id for run in found] == list(self.runs)
        for run in found:
            model = self.runs[run.id]
            assert (run.status, run.attempt, run.document, run.ended) == (
                model.status,
                model.attempt,
                model.document,
                not model.live,
            )
            page = self.records.runs.events(self.owner, run.id)
            assert [event.seq for event in page.events] == model.seqs
        assert self.records.usage.counted(self.owner, "all") == self.counted()


@pytest.mark.timeout(300)
def test_the_store_does_as_the_model(shared_url):
    records = open_records(shared_url)
    try:
        run_state_machine_as_test(
            type("BoundRuns", (Runs,), {"records": records}),
            settings=settings(
                max_examples=15,
                stateful_step_count=20,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        records.close()
