"""What a run is charged with at its end."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from api.runs.document import RunRecord
from protocol.limits import Limits
from protocol.result import Compile, JobError, Result, Usage

LIMITS = Limits.resolve({"memory_mb": 256})
FACTS = RunRecord("run_x", "key_x", "go", {"memory_mb": 256}, {}, "00", "2026-01-01T00:00:00Z", 0, 100)
RESULT = Result("succeeded", "go", LIMITS, exit_code=0, stdout="hi\n", usage=Usage(wall_ms=10, cpu_ms=4))


@pytest.mark.parametrize(
    ("compiled", "cpu_ms"), [(None, 4), (Compile("", "", 0, 300, 450), 454), (Compile("", "x", None, 9, 7), 11)]
)
def test_the_compilers_cpu_time_is_charged(compiled, cpu_ms):
    end = FACTS.ended(replace(RESULT, compile=compiled).to_json())
    assert (end.usage.cpu_ms, end.usage.wall_ms, end.usage.memory_mb_ms) == (cpu_ms, 10, 2560)
    assert (end.usage.bytes_in, end.usage.bytes_out) == (100, 3)


@pytest.mark.parametrize(
    ("code", "started_at", "never_began"),
    [("interrupted", None, True), ("interrupted", "2026-01-01T00:00:01Z", False), ("queue_timeout", None, False)],
)
def test_what_was_interrupted_before_it_started_never_began(code, started_at, never_began):
    result = replace(RESULT, status="error", error=JobError("no", code), started_at=started_at)
    assert FACTS.ended(result.to_json()).never_began == never_began
    assert not FACTS.ended(RESULT.to_json()).never_began


def test_hints_are_part_of_the_document_and_of_a_live_one():
    hint = {"code": "disk_full", "message": "A file system is full.", "limit": "memory_mb"}
    ended = FACTS.ended(replace(RESULT, hints=(hint,)).to_json())
    assert orjson.loads(ended.document)["hints"] == [hint]
    assert orjson.loads(FACTS.live("running"))["hints"] == []


def test_a_result_of_a_worker_without_hints_has_none():
    result = RESULT.to_json()
    del result["hints"]
    assert orjson.loads(FACTS.ended(result).document)["hints"] == []
