"""Plans: the file that is read, what it may say, and what a plan makes of a run's limits."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.keys.plans import SHIPPED, Plans, load_plans
from config.settings import Settings, SettingsError
from protocol.limits import LIMIT_RULES, JobInvalid, Limits, limit_problem

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "plans.toml"
FREE = "[free]\nruns = 2\nrate_per_minute = 60\nburst = 5\n"


@pytest.fixture
def load(tmp_path):
    def load(text, **settings) -> Plans:
        path = tmp_path / "plans.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_plans(Settings(plans_file=path, **settings))

    return load


def ms(*moment):
    return int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)


def test_the_shipped_plans_are_what_the_documents_promise():
    plans = load_plans(Settings())
    free = plans.get("free")
    assert SHIPPED.is_file()
    assert (free.runs, free.period, free.bucket.burst) == (50, "all", 10)
    assert free.bucket.rate * 60 == pytest.approx(10)
    assert (free.reads.burst, free.reads.rate) == (100, pytest.approx(100 / 60))
    assert all(free.ceiling(name) <= rule.ceiling for name, rule in LIMIT_RULES.items())
    assert set(plans) == {"anonymous", "free", "pro", "unlimited"}
    no_packages = {name for name in plans if plans.get(name).package_patterns == ()}
    assert no_packages == {"anonymous", "free"}, "a build takes more than their runs may"


def test_everything_that_a_plan_may_say(load):
    plan = load(
        '[p-1_x]\nruns = 7\nperiod = "month"\nrate_per_minute = 0.5\nburst = 3\nconcurrency = 4\nqueue = 0\n'
        "storage_mb = 2\n[p-1_x.limits]\ncpus = 0.5\ntimeout_ms = 100\n"
    ).get("p-1_x")
    assert (plan.runs, plan.period, plan.concurrency, plan.queue, plan.storage_bytes) == (7, "month", 4, 0, 2097152)
    assert (plan.ceiling("cpus"), plan.ceiling("timeout_ms"), plan.ceiling("pids")) == (0.5, 100, 512)
    assert type(plan.ceiling("timeout_ms")) is int


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "not TOML"),
        (b"\xff", "not TOML"),
        ("free = 1", "free: must be a table"),
        ("[Free]\n", "Free: a plan's name"),
        ('["../x"]\n', "a plan's name"),
        ("[a]\nburst = 1", "a.rate_per_minute: is required"),
        (FREE + "what = 1", "free.what: there is no such entry"),
        (FREE.replace("2", "-1"), "free.runs"),
        (FREE.replace("2", '"2"'), "free.runs"),
        (FREE.replace("2", "true"), "free.runs"),
        (FREE.replace("60", "0"), "free.rate_per_minute"),
        (FREE.replace("60", "nan"), "free.rate_per_minute"),
        (FREE.replace("60", "inf"), "free.rate_per_minute"),
        (FREE.replace("5", "0"), "free.burst"),
        (FREE + 'period = "week"', "free.period"),
        (FREE + "concurrency = 0", "free.concurrency"),
        (FREE + "[free.limits]\ntimeout = 1", "there is no such limit"),
        (FREE + "[free.limits]\ntimeout_ms = 60001", "above the service's own 60000"),
        (FREE + "[free.limits]\ntimeout_ms = 1.5", "must be an integer"),
        (FREE + "[free.limits]\nmemory_mb = 1", "below the minimum"),
        ("#" * 300_000, "larger than"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_the_name_of_the_entry(load, text, said):
    with pytest.raises(SettingsError, match="PLANS_FILE") as refused:
        load(text)
    assert said in str(refused.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SettingsError, match=r"PLANS_FILE: .*No such file"):
        load_plans(Settings(plans_file=tmp_path / "none.toml"))
    with pytest.raises(SettingsError, match=r"PLANS_FILE: .*directory"):
        load_plans(Settings(plans_file=tmp_path))


def test_self_service_needs_its_plan(load):
    other = FREE.replace("free", "other")
    assert "other" in load(other, self_service_keys=False)
    with pytest.raises(SettingsError, match="no plan free"):
        load(other, self_service_keys=True)


def test_periods_and_when_they_begin_anew(load):
    month = load(FREE.replace("runs = 2", 'runs = 2\nperiod = "month"')).get("free")
    assert month.period_at(ms(2026, 11, 30, 23, 59, 59)) == "2026-11"
    assert month.period_at(ms(2026, 12, 1)) == "2026-12"
    assert month.resets_at_ms(ms(2026, 11, 3)) == ms(2026, 12, 1)
    assert month.resets_at_ms(ms(2026, 12, 31, 23)) == ms(2027, 1, 1)
    for_ever = load(FREE).get("free")
    assert (for_ever.period_at(0), for_ever.resets_at_ms(0)) == ("all", None)
    assert (for_ever.quota(0).period, for_ever.quota(0).limit) == ("all", 2)
    assert load(FREE.replace("runs = 2\n", "")).get("free").quota(0) is None


def test_what_lies_above_the_plan_is_named_with_its_bound(load):
    plan = load(FREE + "[free.limits]\ntimeout_ms = 10000\ncpus = 0.5\n").get("free")
    with pytest.raises(JobInvalid) as refused:
        plan.bounded({"timeout_ms": 99_999}, pids_default=64)
    assert refused.value.message == "limits.timeout_ms: 99999 exceeds this key's maximum of 10000"
    assert (refused.value.param, refused.value.code) == ("limits.timeout_ms", "limit_exceeds_maximum")
    with pytest.raises(JobInvalid, match=r"limits.cpus: 1.5 exceeds this key's maximum of 0.5"):
        plan.bounded({"cpus": 1.5}, pids_default=64)
    assert plan.bounded({"timeout_ms": 10_000, "cpus": 0.5}, pids_default=64)["timeout_ms"] == 10_000


ceilings = st.fixed_dictionaries(
    {},
    optional={
        "timeout_ms": st.integers(1, 60_000),
        "cpu_ms": st.integers(1, 120_000),
        "memory_mb": st.integers(16, 2048),
        "cpus": st.sampled_from([0.1, 0.5, 1.0, 2.0]),
        "pids": st.integers(1, 512),
        "max_artifact_files": st.integers(0, 100),
    },
)


@given(ceilings, ceilings, st.sampled_from([64, 256]))
def test_whatever_is_asked_a_run_stays_beneath_its_plan(most, asked, pids_default):
    from api.keys.plans import Plan
    from api.ratelimit.bucket import Bucket

    plan = Plan("p", Bucket(1, 1), Bucket(1, 1), limits=most)
    try:
        limits = plan.bounded(asked, pids_default=pids_default)
    except JobInvalid:
        assert any(asked[name] > most[name] for name in set(asked) & set(most))
        return
    resolved = Limits.resolve(limits, pids_default=pids_default)
    for name in LIMIT_RULES:
        value = getattr(resolved, name)
        assert value <= plan.ceiling(name)
        assert limit_problem(name, value) is None
        if name in asked:
            assert value == asked[name]


def test_the_example_has_the_tiers_of_runtools():
    plans = load_plans(Settings(plans_file=EXAMPLE, self_service_keys=True))
    tiers = {name: (plans.get(name).runs, plans.get(name).period) for name in plans if name != "anonymous"}
    assert tiers == {"free": (1_000, "month"), "pro": (50_000, "month"), "team": (500_000, "month")}
    assert {name for name in plans if plans.get(name).package_patterns == ()} == {"free", "anonymous"}
    anonymous = plans.get("anonymous")
    assert (anonymous.runs, anonymous.bucket.burst) == (None, 10)
    assert anonymous.bucket.rate * 60 == pytest.approx(10)
