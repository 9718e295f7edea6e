"""What the bench says of its samples, and that the pages say what the results do."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from bench import amqp_tables, report
from bench.__main__ import SUBJECTS
from bench.report import Table, fill, filled
from bench.sampling import Samples, paced, percentile, ratio, sustained

PAGE = f"above\n{report.BEGIN.format(name='x')}\nold\n{report.END.format(name='x')}\nbelow\n"


def test_percentiles_are_samples():
    samples = [float(n) for n in range(100, 0, -1)]
    assert (percentile(samples, 0), percentile(samples, 0.5), percentile(samples, 0.99)) == (1, 51, 100)
    assert percentile([7.0], 0.99) == 7.0


def test_a_ratio_to_nothing_is_not_measured():
    assert ratio(3, 2) == 1.5
    assert ratio(None, 2) is None
    assert ratio(3, None) is None
    assert ratio(3, 0) is None


def test_a_call_that_fails_is_an_error_and_no_sample():
    outcomes = iter([0.5, RuntimeError("503"), ConnectionResetError(), 0.25])

    def step():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    samples = Samples()
    paced(samples, 4, 0, step)
    assert (samples.seconds, samples.errors) == ([0.5, 0.25], 2)
    assert Samples().ms(0.5) is None


def test_a_sustained_rate_counts_what_each_loop_did():
    def step():
        time.sleep(0.01)
        return 0.01

    rate = sustained(3, 0.3, lambda: step)
    assert rate.samples.errors == 0
    assert 3 <= len(rate.samples.seconds) <= 3 * 31
    assert 0 < rate.per_s <= len(rate.samples.seconds) / 0.3 + 0.1


def test_a_block_is_replaced_and_nothing_else():
    once = fill(PAGE, "x", "new\n")
    assert once == PAGE.replace("old", "new")
    assert fill(once, "x", "new\n") == once


@pytest.mark.parametrize("page", ["", PAGE.replace("end", "und"), PAGE.replace("bench:x", "bench:y")])
def test_a_page_without_the_block_is_refused(page):
    with pytest.raises(ValueError, match="no block x"):
        fill(page, "x", "new")


def test_what_was_not_measured_is_said():
    table = Table("T", ("", "a"), [("row", None)])
    assert "not measured" in table.text()
    assert "| row | not measured |" in table.markdown()


def test_the_page_says_what_the_results_do():
    results = report.read()
    tables = {name: subject.tables(results[name]) for name, subject in SUBJECTS.items() if name in results}
    page = report.PAGE.read_text()
    assert filled(page, {"circumstances": [report.circumstances(results)], **tables}) == page


def test_the_readme_says_what_the_results_do():
    readme = report.README.read_text()
    assert filled(readme, {"summary": [report.summary(report.read())]}) == readme


def test_a_subject_that_does_not_exist_is_refused_before_anything_is_started():
    done = subprocess.run([sys.executable, "-m", "bench", "weather"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "weather" in done.stderr


TIMES = {"samples": 1, "p50_ms": 2.0, "p90_ms": 3.0, "errors": 0}
OVER_THE_BROKER = {
    "runs": {
        "bare": TIMES, "socket": TIMES, "amqp": TIMES,
        "hop": 0.7, "hop_quartiles_ms": [1, 2], "bound": 0.6, "within": False,
    },
    "events": {"socket": TIMES, "amqp": TIMES, "bound_ms": 5.0, "within": True},
    "cpu": {
        "socket": {"api": 1.0, "worker": 1.0}, "amqp": {"api": 1.0, "worker": 1.0, "broker": 0.5},
        "idle_ms_per_s": {
            "socket": {"api": 1.0, "worker": 1.0}, "amqp": {"api": 1.0, "worker": 1.0, "broker": 0.25},
        },
        "ratio": 1.4, "quartiles": [1.3, 1.5], "bound": 1.3, "within": False,
    },
    "traffic": dict.fromkeys(("published", "delivered", "confirmed", "acknowledged", "bytes_in", "bytes_out"), 3),
    "workers": {"one": [10, 11], "two": [20, 21], "ratio": 1.95, "errors": 0, "bound": 1.8, "within": True},
    "crowd": {
        "workers": 100, "published": 50, "delivered": 60, "broker_cpu_ms": 20, "api_cpu_ms": 6,
        "memory_kb": 18000, "resident_kb": 20000,
    },
}  # fmt: skip


def test_what_a_broker_costs_is_shown_with_its_bounds():
    shown = {table.title: table for table in amqp_tables.tables(OVER_THE_BROKER)}
    assert [row[-1] for row in shown["Bounds"].rows] == ["no", "yes", "no", "yes"]
    assert shown["CPU, ms"].rows == [
        ("Unix socket", 1.0, 1.0, "–", 1.0, 1.0, "–"),
        ("AMQP", 1.0, 1.0, 0.5, 1.0, 1.0, 0.25),
    ]
    for table in shown.values():
        assert all(len(row) == len(table.head) for row in table.rows), table.title
