"""The worker's own check of a job: as strict as API.md, whatever api let through."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Settings
from protocol.job import Job, JobFile, path_problem
from protocol.limits import COMPILE_CPUS, COMPILE_TIMEOUT_MS, LIMIT_RULES, MIB, JobInvalid, Limits
from sandbox.languages import Catalogue
from sandbox.run.plan import build_plan

CATALOGUE = Catalogue.load()


def plan(**fields):
    fields.setdefault("language", "python")
    if "entrypoint" not in fields:
        fields.setdefault("code", "pass")
    return build_plan(Job(run_id="run_x", **fields), CATALOGUE)


def files(*paths):
    return tuple(JobFile(path, b"x") for path in paths)


REFUSED = [
    ("language", {"language": "cobol"}),
    ("language", {"language": "../sh"}),
    ("language", {"language": "Python\n"}),
    ("code", {"code": ""}),
    ("code", {"code": None}),
    ("code", {"code": "x", "entrypoint": "a.py", "files": files("a.py")}),
    ("code", {"code": "x" * (MIB + 1)}),
    ("code", {"code": "\ud800"}),
    ("entrypoint", {"code": None, "entrypoint": "a.py", "files": files("b.py")}),
    ("files.0.path", {"files": files("../x")}),
    ("files.0.path", {"files": files("/etc/passwd")}),
    ("files.0.path", {"files": files("")}),
    ("files.0.path", {"files": files("a//b")}),
    ("files.0.path", {"files": files("a/./b")}),
    ("files.0.path", {"files": files("a\0b")}),
    ("files.0.path", {"files": files("x" * 256)}),
    ("files.0.path", {"files": files("/".join(["x" * 200] * 6))}),
    ("files.0.path", {"files": files("main.py")}),
    ("files.1.path", {"files": files("a", "a")}),
    ("files", {"files": files("a", "a/b")}),
    ("files", {"files": files("outputs")}),
    ("files", {"files": files(*map(str, range(65)))}),
    ("args", {"args": ("x",) * 65}),
    ("args.0", {"args": ("a\0",)}),
    ("args.1", {"args": ("", "x" * 4097)}),
    ("env", {"env": {str(n): "" for n in range(65)}}),
    ("env", {"env": {"A=B": ""}}),
    ("packages", {"packages": ("x",) * 33}),
    ("packages", {"language": "bash", "packages": ("x",)}),
    ("packages", {"packages": ("x",), "session": "sess_x"}),
    ("packages.0", {"packages": ("-r x",)}),
    ("packages.1", {"packages": ("x", "\ud800")}),
    ("packages.1", {"packages": ("x", "X==1")}),
    ("packages.0", {"language": "node", "packages": ("x@file:../y",)}),
    ("packages.0", {"language": "go", "packages": ("uuid",)}),
    ("packages.0", {"language": "rust", "packages": ("x@git",)}),
    ("env", {"env": {"": ""}}),
    ("env.A", {"env": {"A": "x" * 4096}}),
    ("env.A", {"env": {"A": "\0"}}),
    ("stdin", {"stdin": "x" * (8 * MIB + 1)}),
    ("limits.timeout_ms", {"limits": {"timeout_ms": 60_001}}),
    ("limits.timeout_ms", {"limits": {"timeout_ms": 0}}),
    ("limits.timeout_ms", {"limits": {"timeout_ms": True}}),
    ("limits.timeout_ms", {"limits": {"timeout_ms": 5.0}}),
    ("limits.memory_mb", {"limits": {"memory_mb": "256"}}),
    ("limits.memory_mb", {"limits": {"memory_mb": 15}}),
    ("limits.cpus", {"limits": {"cpus": float("nan")}}),
    ("limits.cpus", {"limits": {"cpus": float("inf")}}),
    ("limits.cpus", {"limits": {"cpus": 0.05}}),
    ("limits.pids", {"limits": {"pids": 10**4000}}),
    ("limits.nope", {"limits": {"nope": 1}}),
]


@pytest.mark.parametrize(("param", "fields"), REFUSED)
def test_a_job_that_breaks_a_rule_is_refused_naming_the_field(param, fields):
    with pytest.raises(JobInvalid) as refused:
        plan(**fields)
    assert refused.value.param == param
    assert refused.value.message.startswith(param)
    assert len(refused.value.message) < 300


def test_an_integer_beyond_64_bits_is_too_large_and_not_of_the_wrong_type():
    for name in ("timeout_ms", "cpus"):
        with pytest.raises(JobInvalid) as refused:
            Limits.resolve({name: 1e30})
        assert refused.value.code == "limit_exceeds_maximum"
    with pytest.raises(JobInvalid, match="integer"):
        Limits.resolve({"timeout_ms": 5e3})


def test_a_language_is_found_by_id_and_by_alias():
    for name in ("python", "py", "python3"):
        assert plan(language=name).language.id == "python"
    for name in ("node", "js", "javascript", "nodejs"):
        assert plan(language=name).language.id == "node"
    for name in ("bash", "sh", "shell"):
        assert plan(language=name).language.id == "bash"


def test_the_unknown_language_message_lists_the_known():
    with pytest.raises(JobInvalid, match=r"bash.*node.*python"):
        plan(language="cobol")


def test_compiling_has_the_time_that_is_set_whatever_the_run_has():
    job = Job(run_id="run_x", language="rust", code="fn main() {}", limits={"timeout_ms": 100})
    by_default = build_plan(job, CATALOGUE).compiling.limits
    assert by_default.timeout_ms == COMPILE_TIMEOUT_MS == Settings().compile_timeout_ms
    shorter = build_plan(job, CATALOGUE, compile_timeout_ms=Settings(compile_timeout_s=2.5).compile_timeout_ms)
    assert shorter.compiling.limits.timeout_ms == 2500
    assert shorter.compiling.limits.cpu_ms == round(2500 * COMPILE_CPUS)


def test_limits_left_out_take_their_defaults():
    fixed = {name: rule.default for name, rule in LIMIT_RULES.items() if rule.default is not None}
    assert asdict(plan().limits) == fixed | {"cpu_ms": 10_000, "pids": 64}


def test_the_cpu_limit_follows_time_and_processors():
    assert plan(limits={"timeout_ms": 3000, "cpus": 2}).limits.cpu_ms == 6000
    assert plan(limits={"timeout_ms": 3000, "cpu_ms": 100}).limits.cpu_ms == 100


@pytest.mark.parametrize("name", list(LIMIT_RULES))
def test_each_limit_takes_its_bounds_and_nothing_beyond(name):
    rule = LIMIT_RULES[name]
    whole = int if rule.integer else float
    for value in (whole(rule.minimum), whole(rule.ceiling)):
        assert getattr(Limits.resolve({name: value}), name) == value
    step = 1 if rule.integer else 0.001
    for value in (whole(rule.minimum) - step, whole(rule.ceiling) + step):
        with pytest.raises(JobInvalid):
            Limits.resolve({name: value})


def test_an_interpreter_that_reads_the_environment_at_boot_starts_cold():
    assert plan(env={"MODE": "x"}).warm
    for name in ("PYTHONHASHSEED", "LD_PRELOAD", "TZ", "LC_ALL"):
        assert not plan(env={name: "x"}).warm
    assert not plan(language="node", env={"NODE_OPTIONS": "--no-warnings"}).warm


def test_an_interpreter_that_reads_files_at_boot_starts_cold_when_they_are_given():
    assert plan(language="deno", files=files("h.ts", "lib/deno.json")).warm
    for name in ("deno.json", "package.json"):
        assert not plan(language="deno", files=files(name)).warm


def test_an_interpreter_that_keeps_its_arguments_from_boot_starts_cold_when_there_are_any():
    assert not plan(language="deno", args=("x",)).warm
    assert plan(language="node", args=("x",)).warm


def test_another_entry_file_starts_cold_and_the_usual_one_does_not():
    assert not plan(entrypoint="app.py", files=files("app.py")).warm
    assert plan(entrypoint="main.py", files=files("main.py")).warm


def test_the_entry_file_is_among_the_files():
    made = plan(code="print('é')", files=files("a/b"))
    assert dict(made.files) == {"a/b": b"x", "main.py": "print('é')".encode()}


def test_the_compiler_has_limits_of_its_own_and_the_program_those_asked_for():
    made = plan(
        language="rust", code="fn main() {}", limits={"memory_mb": 16, "pids": 1, "cpus": 0.1, "timeout_ms": 5}
    )
    own = made.compiling.limits
    assert (made.limits.memory_mb, made.limits.pids, made.limits.cpus, made.limits.timeout_ms) == (16, 1, 0.1, 5)
    assert (own.pids, own.cpus, own.timeout_ms) == (256, 2.0, 30_000)
    assert made.memory_mb == own.memory_mb > 256


def test_the_compiler_has_no_less_than_the_program():
    made = plan(language="go", code="package main", limits={"memory_mb": 2048, "pids": 512})
    assert (made.compiling.limits.memory_mb, made.compiling.limits.pids, made.memory_mb) == (2048, 512, 2048)


def test_what_is_not_compiled_needs_a_place_of_its_own_size_only():
    made = plan(limits={"memory_mb": 100})
    assert (made.compiling, made.memory_mb) == (None, 100)


def test_compiled_languages_may_have_more_threads():
    assert plan(language="golang", code="package main").limits.pids == 256
    assert plan(language="rs", code="fn main() {}").limits.pids == 256


def test_the_compiler_never_has_the_programs_environment_or_arguments():
    made = plan(language="rust", code="fn main() {}", env={"RUSTFLAGS": "x"}, args=("--emit=asm",))
    assert "RUSTFLAGS" not in made.compiling.env
    assert "--emit=asm" not in made.compiling.argv


def test_an_entry_that_looks_like_an_option_is_a_file_to_the_compiler_too():
    made = plan(language="rust", entrypoint="-o", files=files("-o"))
    assert made.compiling.argv[-1] == "./-o"


@given(st.text(max_size=40))
def test_an_accepted_path_stays_beneath_work(path):
    if path_problem(path) is None:
        assert not path.startswith("/")
        assert not {"", ".", ".."} & set(path.split("/"))
        assert "\0" not in path


def test_a_job_may_give_its_compiler_less_and_never_more():
    job = Job("run_1", "go", code="x", compile_limits={"timeout_ms": 500, "cpu_ms": 700, "memory_mb": 64})
    own = build_plan(job, CATALOGUE).compiling.limits
    assert (own.timeout_ms, own.cpu_ms, own.memory_mb) == (500, 700, 64)
    most = {"timeout_ms": 60_000, "cpu_ms": 120_000, "memory_mb": 2_048}
    assert (
        build_plan(replace(job, compile_limits=most), CATALOGUE).compiling
        == build_plan(replace(job, compile_limits={}), CATALOGUE).compiling
    )
    assert build_plan(replace(job, language="bash"), CATALOGUE).compiling is None
    for wrong in ({"pids": 1}, {"timeout_ms": 0}, {"memory_mb": "x"}, {"x" * 300: 1}):
        with pytest.raises(JobInvalid, match=r"compile_limits") as e:
            build_plan(replace(job, compile_limits=wrong), CATALOGUE)
        assert e.value.param.startswith("compile_limits.")
        assert len(e.value.message) < 200


def test_packages_are_sorted_and_their_places_kept():
    made = plan(packages=("zope", "Attrs>=1,<2", "b"))
    assert made.packages == ("attrs<2,>=1", "b", "zope")
    assert [made.place_of(index) for index in (0, 1, 2, None)] == [1, 2, 0, None]
    assert (plan().packages, plan().layer, plan().layer_id) == ((), None, None)
