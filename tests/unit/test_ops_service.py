"""The supervisor's parts, what its children are given, and how what is left of a service is found."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config.settings import Settings
from ops import host, install, programs
from ops.checks import all_checks
from ops.children import FIRST_BACKOFF_S, Child, Program
from ops.environment import clean
from ops.images.run import BuildProgress
from ops.install import InstallError
from ops.state import StatePlace, cgroups, directory_problem, is_running, processes, service_lock, take_lock
from ops.up import Up
from ops.upkeep import _engines_under_test, collect

HYBRID = """tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup2 {v2} cgroup2 rw,nosuid,relatime 0 0
"""
UNIFIED = "cgroup2 {v2} cgroup2 rw,nosuid,nsdelegate,favordynmods 0 0\n"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)
    given = {
        "STATE_DIR": str(tmp_path),
        "API_KEYS": "t0ken:a:1:1",
        "SIGNING_KEY": "s3cret" * 6,
        "DATABASE_URL": "postgresql://user:s3cret@db/runyard",
        "BIND": "0.0.0.0",
        "MAX_RUNS": "3",
        "LANGUAGES": "python, bash",
        "AWS_SECRET_ACCESS_KEY": "not yours",
        "LD_PRELOAD": "/evil.so",
        "PYTHONPATH": "/evil",
        "HTTPS_PROXY": "http://user:pass@proxy",
        "PIP_INDEX_URL": "https://user:pass@index/",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return Settings()


def test_the_worker_learns_no_token_and_no_address(settings):
    env = programs.worker(settings).env
    assert not {"API_KEYS", "SIGNING_KEY", "BIND", "PORT", "DATABASE_URL"} & set(env)
    assert env["MAX_RUNS"] == "3"
    # Without the keys a worker that is told BIND would refuse its own settings.
    assert Settings(**{k.lower(): v for k, v in env.items() if k.lower() in Settings.model_fields})


def test_children_see_settings_and_nothing_else_of_the_callers_environment(settings):
    strangers = {"AWS_SECRET_ACCESS_KEY", "LD_PRELOAD", "PYTHONPATH", "HTTPS_PROXY", "PIP_INDEX_URL"}
    for program in (programs.worker(settings), programs.api(settings)):
        assert not strangers & set(program.env)
        assert "not yours" not in program.env.values()


def test_credentials_for_s3_go_to_those_who_reach_it_and_only_if_it_is_used(settings, monkeypatch):
    monkeypatch.setenv("STORAGE_URL", "s3://blobs/x")
    with_s3 = Settings()
    for program in (programs.worker(with_s3), programs.api(with_s3)):
        assert program.env["AWS_SECRET_ACCESS_KEY"] == "not yours"
        assert program.env["STORAGE_URL"] == "s3://blobs/x"
    assert "AWS_SECRET_ACCESS_KEY" not in programs.builder(with_s3).env


def test_what_opentelemetry_reads_goes_to_those_who_trace_and_only_where_traces_are_sent(settings, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret")
    assert not any("OTEL_EXPORTER_OTLP_HEADERS" in p(settings).env for p in (programs.worker, programs.api))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    tracing = Settings()
    for program in (programs.worker(tracing), programs.api(tracing)):
        assert program.env["OTEL_EXPORTER_OTLP_HEADERS"] == "authorization=s3cret"
        assert program.env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:4318"
    assert "OTEL_EXPORTER_OTLP_HEADERS" not in programs.builder(tracing).env


def test_the_token_of_the_metrics_is_apis_alone(settings, monkeypatch):
    monkeypatch.setenv("METRICS_TOKEN", "scrape-token-1")
    closed = Settings()
    assert programs.api(closed).env["METRICS_TOKEN"] == "scrape-token-1"
    assert "METRICS_TOKEN" not in {**programs.worker(closed).env, **programs.builder(closed).env}


def test_what_is_about_keys_is_apis_alone(settings, monkeypatch):
    given = {
        "ADMIN_TOKEN": "an-admin-token-1",
        "RATELIMIT_URL": "redis://:s3cret@h",
        "TRUSTED_PROXIES": "127.0.0.1",
    }
    given |= {"SELF_SERVICE_KEYS": "0", "API_PROCESSES": "2", "PLANS_FILE": "/x"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    closed = Settings()
    assert given.items() <= programs.api(closed).env.items()
    for program in (programs.worker(closed), programs.builder(closed)):
        assert not set(given) & set(program.env)


def test_the_api_is_told_its_keys_and_gives_up_every_privilege(settings):
    program = programs.api(settings)
    assert program.env["API_KEYS"] == "t0ken:a:1:1"
    assert program.env["SIGNING_KEY"] == "s3cret" * 6
    uid = str(settings.api_uid)
    assert {f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"} <= set(
        program.argv
    )
    assert program.umask == 0o077


def test_the_builder_reaches_the_archives_but_learns_no_token(settings):
    program = programs.builder(settings)
    assert program.env["PIP_INDEX_URL"] == "https://user:pass@index/"
    assert program.env["HTTPS_PROXY"] == "http://user:pass@proxy"
    assert not {"API_KEYS", "SIGNING_KEY", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD"} & set(program.env)
    assert program.argv[-2:] == ("python", "bash")
    assert not program.restart_on_success


def child(code, **fields):
    return Child(Program("child", (sys.executable, "-c", code), {"PATH": os.environ["PATH"]}, **fields))


def wait_for(check, seconds=10.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = check()
        if found is not None and found is not False:
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def test_a_child_that_dies_quickly_is_started_again_after_a_growing_wait():
    one, waits = child("raise SystemExit(3)"), []
    for _ in range(3):
        one.start()
        status = wait_for(one.ended)
        one.plan_restart(status)
        waits.append(one.restart_at - time.monotonic())
    assert waits == pytest.approx([FIRST_BACKOFF_S, 2 * FIRST_BACKOFF_S, 4 * FIRST_BACKOFF_S], abs=0.05)


def test_a_build_that_has_succeeded_is_not_started_again():
    one = child("", restart_on_success=False)
    one.start()
    one.plan_restart(wait_for(one.ended))
    assert one.restart_at is None


def test_a_child_that_ignores_the_request_is_killed_at_the_deadline_with_all_it_started(tmp_path):
    pids = tmp_path / "pids"
    one = child(
        "import os, signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "grandchild = subprocess.Popen(['sleep', '60'])\n"
        f"open({str(pids)!r} + '.new', 'w').write(f'{{os.getpid()}} {{grandchild.pid}}')\n"
        f"os.rename({str(pids)!r} + '.new', {str(pids)!r})\n"
        "time.sleep(60)"
    )
    one.start()
    wait_for(pids.exists)
    main, grandchild = map(int, pids.read_text().split())
    started = time.monotonic()
    one.stop(started + 0.3)
    assert 0.25 < time.monotonic() - started < 5
    assert not Path(f"/proc/{main}").exists()
    wait_for(lambda: not _alive(grandchild))


def test_a_child_starts_without_the_supervisors_blocked_signals():
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    try:
        one = child("import signal; raise SystemExit(len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))")
        one.start()
        assert wait_for(lambda: None if (status := one.ended()) is None else (status,)) == (0,)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_who_starts_or_stops_a_service_waits_for_another_who_does(tmp_path):
    place, said, order = StatePlace(tmp_path), [], []

    def second():
        with service_lock(place, said.append):
            order.append("second")

    with service_lock(place, said.append):
        waiting = threading.Thread(target=second)
        waiting.start()
        while not said:
            time.sleep(0.005)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
    assert said == ["waiting for another make up or make down of this service to finish"]
    with service_lock(StatePlace(tmp_path / "none"), said.append):
        assert len(said) == 1


def test_only_the_lock_says_that_a_service_runs(tmp_path):
    place = StatePlace(tmp_path)
    place.run.mkdir()
    place.pid_file.write_text(str(os.getpid()))
    assert not is_running(place)
    lock = take_lock(place)
    assert is_running(place)
    assert take_lock(place) is None
    lock.close()
    assert not is_running(place)


def test_processes_are_known_by_the_services_own_interpreter(tmp_path):
    place = StatePlace(tmp_path)
    place.python.parent.mkdir(parents=True)
    place.python.symlink_to("/usr/bin/sleep")
    ours = subprocess.Popen([str(place.python), "30"])
    bystander = subprocess.Popen(["sleep", "30"])
    try:
        wait_for(lambda: ours.pid in processes(place))
        assert bystander.pid not in processes(place)
    finally:
        for process in (ours, bystander):
            process.kill()
            process.wait()


def test_the_name_of_the_control_groups_is_the_engines(tmp_path):
    """`make down` must find them without the libraries that the engine needs."""
    from sandbox.engines.confinement import instance_name

    assert StatePlace(tmp_path).instance == instance_name(tmp_path)


def test_control_groups_are_listed_deepest_first(tmp_path, monkeypatch):
    monkeypatch.setattr("ops.state.CGROUP_ROOT", tmp_path)
    place = StatePlace(tmp_path)
    (tmp_path / "memory" / place.instance / "one").mkdir(parents=True)
    (tmp_path / place.instance / "two").mkdir(parents=True)
    (tmp_path / "memory/runyard-00000000/other").mkdir(parents=True)
    names = [str(path.relative_to(tmp_path)) for path in cgroups(place)]
    instance = place.instance
    assert set(names) == {f"memory/{instance}/one", f"memory/{instance}", f"{instance}/two", instance}
    assert names.index(f"memory/{instance}/one") < names.index(f"memory/{instance}")
    assert names.index(f"{instance}/two") < names.index(instance)


def test_a_state_directory_that_the_api_could_not_reach_is_refused():
    assert "must be an absolute path" in directory_problem(Path("state"))
    with tempfile.TemporaryDirectory() as name:
        open_one, closed = Path(name), Path(name) / "closed"
        open_one.chmod(0o755)
        closed.mkdir(mode=0o700)
        assert directory_problem(open_one / "state") is None
        assert directory_problem(closed / "state").startswith(f"STATE_DIR: {closed} is not accessible")


def test_directories_have_their_modes_whatever_the_umask(tmp_path):
    previous = os.umask(0o077)
    try:
        StatePlace(tmp_path / "s").make()
    finally:
        os.umask(previous)
    modes = {name: (tmp_path / "s" / name).stat().st_mode & 0o777 for name in (".", "run", "log", "images")}
    assert modes == {".": 0o755, "run": 0o755, "log": 0o700, "images": 0o755}


def test_controllers_left_in_v2_are_found_on_a_hybrid_machine_only(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("hugetlb misc\n")
    hybrid = host.cgroup_mounts(HYBRID.format(v2=tmp_path))
    assert hybrid.hybrid
    assert host.left_in_v2(hybrid) == ["hugetlb", "misc"]
    unified = host.cgroup_mounts(UNIFIED.format(v2=tmp_path))
    assert not unified.hybrid
    assert host.left_in_v2(unified) == []


def test_a_host_that_is_prepared_is_left_alone(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(host, "_mount", lambda arguments, text: done.append(arguments))
    (tmp_path / "cgroup.controllers").write_text("")
    host.prepare(UNIFIED.format(v2=tmp_path))
    assert done == []
    (tmp_path / "cgroup.controllers").write_text("hugetlb\n")
    host.prepare(HYBRID.format(v2=tmp_path).replace("/sys/fs/cgroup/memory", str(tmp_path / "memory")))
    assert done == [
        ["-t", "cgroup", "-o", "hugetlb", "cgroup", str(tmp_path / "hugetlb")],
        ["-o", "remount,favordynmods", str(tmp_path)],
    ]


def test_what_would_lead_python_or_pip_astray_is_dropped_and_where_packages_come_from_is_kept():
    kept = clean(
        {
            "PATH": "/home/me/.pyenv/shims",
            "PYTHONPATH": "x",
            "PYTHONHOME": "x",
            "VIRTUAL_ENV": "x",
            "LD_PRELOAD": "x",
            "PIP_TARGET": "x",
            "PIP_REQUIRE_VIRTUALENV": "1",
            "PIP_NO_BINARY": ":all:",
            "PIP_INDEX_URL": "https://index",
            "PIP_CERT": "/ca.pem",
            "https_proxy": "http://proxy",
            "API_KEYS": "a",
            "HOME": "/root",
        }
    )
    assert set(kept) == {
        "PATH",
        "LC_ALL",
        "PIP_DISABLE_PIP_VERSION_CHECK",
        "PIP_INDEX_URL",
        "PIP_CERT",
        "https_proxy",
        "API_KEYS",
        "HOME",
    }
    assert "pyenv" not in kept["PATH"]


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        (None, "http://127.0.0.1:8123"),
        ("0.0.0.0", "http://127.0.0.1:8123"),
        ("::1", "http://[::1]:8123"),
        ("::", "http://[::1]:8123"),
        ("192.0.2.1", "http://192.0.2.1:8123"),
    ],
)
def test_the_address_that_is_shown_can_be_reached(monkeypatch, bind, url):
    monkeypatch.setenv("PORT", "8123")
    monkeypatch.setenv("RUNYARD_ENV", "development")
    monkeypatch.delenv("BIND", raising=False)
    if bind:
        monkeypatch.setenv("BIND", bind)
    assert Up().url == url


def test_an_image_that_takes_longer_than_the_installation_is_not_ended_with_what_a_killed_supervisor_left(
    tmp_path, monkeypatch
):
    """The builder is started by the service's interpreter, as what a killed supervisor leaves is."""
    place = StatePlace(tmp_path / "state")
    place.python.parent.mkdir(parents=True)
    place.python.symlink_to(sys.executable)
    place.run.mkdir()
    monkeypatch.setenv("STATE_DIR", str(place.state_dir))
    monkeypatch.setattr("ops.up.settings.has_file", lambda _folder: False)
    monkeypatch.setattr("ops.up.settings_digest", lambda _record: "")
    built = tmp_path / "built"
    builder = [str(place.python), "-c", f"import time; time.sleep(1.5); open({str(built)!r}, 'w')"]

    class Start(Up):
        def prepare(self, code, resolve, begin):
            begin()
            wait_for(lambda: processes(place))

        def check(self, code):
            pass

        def check_port(self, ours=None):
            pass

        def _builder(self, *languages):
            return builder

        def start_supervisor(self, record):
            assert built.exists()

        def wait_until_healthy(self, process):
            pass

    with ThreadPoolExecutor(max_workers=1) as background:
        Start()._start_if_needed(background)

    assert built.exists()


def test_every_requirement_that_can_be_missing_says_how_it_is_mended(tmp_path):
    checks = list(all_checks(StatePlace(tmp_path)))
    assert {"root", "crun", "overlay", "seccomp", "user namespaces", "AppArmor", "Landlock"} <= {
        c.name for c in checks
    }
    assert all(check.mend for check in checks)


def test_nothing_is_collected_while_a_service_may_run_from_it(tmp_path):
    place = StatePlace(tmp_path)
    place.make()
    unused = place.images / "a-1"
    unused.mkdir()
    (unused / "image.json").write_text("{}")
    lock = take_lock(place)
    with pytest.raises(InstallError, match="make down first"):
        collect(place, BuildProgress())
    assert unused.exists()
    lock.close()
    collect(place, BuildProgress())
    assert not unused.exists()


@pytest.mark.parametrize("columns", ["", "oci/crun/template", "docker/runc"])
def test_the_proxies_of_the_documentation_are_installed_for_the_tests_of_every_column(monkeypatch, columns):
    monkeypatch.setenv("RUNYARD_TEST_COLUMNS", columns)
    assert _engines_under_test().items() >= install.PROXY_PACKAGES.items()


def test_a_server_that_a_package_starts_is_stopped_and_no_other(monkeypatch):
    ran = []
    monkeypatch.setattr(install.Path, "is_dir", lambda path: str(path) == "/run/systemd/system")
    monkeypatch.setattr(install.subprocess, "run", lambda argv, **_: ran.append(argv))
    install.stop_servers(["crun", "docker.io"])
    assert ran == []
    install.stop_servers(["crun", "nginx"])
    assert ran == [["systemctl", "disable", "--now", "nginx.service"]]
