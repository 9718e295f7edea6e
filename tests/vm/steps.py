"""The steps of a stock machine's suite: each is a line of shell in the machine, and the words that must come of it."""

from __future__ import annotations

from dataclasses import dataclass

LANGUAGES = "python,bash,go"
CHECKOUT = "/root/runyard"
STATE = "/var/lib/runyard"
URL = "http://localhost:8080"
HELLO = """{"language":"python","code":"print(1+1)"}"""
#: With the time that an emulated machine may need.
PLOT = (
    """{"language":"python","code":"import matplotlib.pyplot as plt; plt.plot([1, 4, 9]); """
    """plt.savefig(\\"outputs/plot.png\\")","limits":{"timeout_ms":60000}}"""
)
POST = f"curl -sS {URL}/v1/runs -H 'Authorization: Bearer dev_123' -H 'Content-Type: application/json' -d"
#: Takes a token, and a number of sessions.
SESSIONS = f"python3 tests/vm/use_sessions.py {URL}"
FEATURES = f"python3 -m tests.vm.use_features {URL}"
#: Of the answers to FEATURES: a variable of an earlier run after a freeze, a figure, a package twice, a function.
FEATURES_SHOW = (
    r'"status":"frozen"',
    r'"text":"21"',
    r'"png":"iVBOR',
    r'(?s)"stdout":"1\.16\.0\\n".*"stdout":"1\.16\.0\\n"',
    r'"output":\{"sum":6\.5\}',
)
RUNS = f"curl -sS {URL}/v1/runs"
FIRST_ID = """python3 -c 'import json,sys; print(json.load(sys.stdin)["data"][0]["id"])'"""
FIRST_LINK = """python3 -c 'import json,sys; print(json.load(sys.stdin)["artifacts"][0]["url"])'"""
#: Names in the kernel's list and in sandboxes' labels.
PROFILES = ("runyard-sandbox", "runyard-template")
#: Prints what a service has left, if anything, and fails then.
NOTHING_LEFT = (
    f"cd {CHECKOUT} && /usr/bin/python3 -c '"
    "from ops.down import left_over; from ops.state import StatePlace; import sys; "
    f'from pathlib import Path; left = left_over(StatePlace(Path("{STATE}"))); print(left or "nothing left"); '
    "sys.exit(bool(left))' && ! pgrep -af '[p]ython:api.server.gunicorn_conf|-m [w]orker'"
)
#: The tests that run against the service which is up. Go alone of the compiled languages is built.
TESTS = (
    "tests/engines/test_posture.py",
    "tests/engines/test_confinement.py",
    "tests/engines/test_landlock.py",
    "tests/engines/test_facts.py",
    "tests/engines/test_artifacts.py",
    "tests/engines/test_adversarial.py",
    "tests/engines/test_templates.py",
)
#: What pytest takes beyond the service's own environment.
TEST_LIBRARIES = ("pytest", "pytest-timeout", "pluggy", "iniconfig", "packaging", "pygments", "hypothesis")
TEST_LIBRARIES += ("attrs", "sortedcontainers")


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `seconds` is its bound on a machine that is not emulated; `code` its exit status, None for any."""

    name: str
    command: str
    seconds: float
    #: Regular expressions, each of which must be found in the output.
    shows: tuple[str, ...] = ()
    #: Regular expressions, none of which may be found.
    hides: tuple[str, ...] = ()
    code: int | None = 0
    #: The machine restarts before the step.
    reboots: bool = False


def in_checkout(command: str) -> str:
    """Run a command as a user would, who has changed to the checkout."""
    return f"cd {CHECKOUT} && {command}"


UP = in_checkout(f"LANGUAGES={LANGUAGES} make up")
DOWN = in_checkout("make down")
#: Waits for the service to have come back by itself.
READY = f"for i in $(seq 600); do curl -sf {URL}/readyz && break; sleep 1; done"
#: Waits until the languages that `make up` goes on to build behind the service are there.
BUILT = (
    f"for i in $(seq 1800); do built=$(curl -s {URL}/v1/languages -H 'Authorization: Bearer dev_123' | python3 -c '"
    'import json, sys; print(*sorted(each["id"] for each in json.load(sys.stdin)["data"] if each["ready"]))\'); '
    '[ "$built" = "bash go python" ] && break; sleep 5; done; echo "built: $built"'
)
LAST_LOG = f"tail -n 80 {STATE}/log/service.log"

FIRST_UP = Step("make up on a machine that never saw it", UP, 600, (r"Runyard is up",))
KERNEL = Step("the machine", "uname -r; cat /sys/kernel/security/lsm; echo; systemctl --version | head -1; id", 10)

README = (
    Step("make up again", UP, 120, (r"Runyard is up",)),
    Step(
        "README: a run",
        f"{POST} '{HELLO}'",
        20,
        (
            r'"status":"succeeded"',
            r'"stdout":"2\\n"',
            r'"source":"template"',
            r'"apparmor":"runyard-sandbox"',
            r'"user_namespace":true',
        ),
    ),
    Step(
        "README: a plot by its link",
        f"{POST} '{PLOT}' | tee /dev/stderr | {FIRST_LINK} | xargs curl -sS | head -c 4 | od -c",
        60,
        (r"211   P   N   G",),
    ),
    Step(
        "README: a session",
        in_checkout(f"{SESSIONS} dev_123"),
        90,
        (
            r"POST /v1/sessions 201",
            r'"stdout":"read from an earlier run\\n"',
            r'"stdout":"user 1000\\nfrom an earlier run',
            r"DELETE /v1/sessions/sess_\w+ 200",
            r'POST /v1/sessions/sess_\w+/runs 410 .*"session_ended"',
        ),
    ),
    Step("README: kernels, packages, functions", in_checkout(f"{FEATURES} dev_123"), 120, FEATURES_SHOW),
    Step("all languages are built", in_checkout(f"{BUILT}"), 900, (r"built: bash go python",)),
    Step("a compiled run", in_checkout(f"{POST} @tests/vm/hello_go.json"), 60, (r'"stdout":"3\\n"',)),
    Step(
        "make doctor",
        in_checkout("make doctor"),
        60,
        (r"apparmor +required +in force", r"seccomp +required +in force", r"is tested +ok"),
        (r"MISSING", r"not measured"),
    ),
    Step("make status", in_checkout("make status"), 20, (r"health: ok",)),
)


def tests(factor: float) -> Step:
    """Run the suites of the engine on the service that is up; the limits of time grow by `factor`."""
    libraries = f"{STATE}/test-libraries"
    wanted = "|".join(TEST_LIBRARIES)
    lock = "/tmp/test-libraries.lock"
    install = (
        f"awk '/^[a-z]/{{keep = ($0 ~ /^({wanted})==/)}} keep' requirements-dev.lock > {lock} && "
        f"{STATE}/venv/bin/python -m pip install -q --no-deps --require-hashes --target {libraries} -r {lock}"
    )
    run = (
        f"PYTHONPATH={libraries} RUNYARD_TEST_STATE={STATE} RUNYARD_TEST_PORT=8080 RUNYARD_TEST_REUSE=1 "
        f"RUNYARD_TEST_COLUMNS=oci/crun/template RUNYARD_TEST_LANGUAGES={LANGUAGES} "
        f"RUNYARD_TEST_TIME_FACTOR={factor:.1f} {STATE}/venv/bin/python -m pytest -q -p no:cacheprovider "
        f"--timeout={120 * factor:.0f} --durations=25 -m 'not slow' {' '.join(TESTS)}"
    )
    return Step(
        "engine tests", in_checkout(f"{install} && {run}"), 1500, (r"\d+ passed",), (r"\d+ failed", r"\d+ error")
    )


def _reload(options: str, name: str) -> str:
    return f"apparmor_parser {options} apparmor/{name}"


def _after_change(name: str, change: str, words: str) -> Step:
    """Change a profile under a running service: it must notice, load its own again and serve."""
    wait = f"for i in $(seq 60); do {LAST_LOG} | grep -q '{words}' && break; sleep 1; done; sleep 3; {READY}"
    shown = (words, r'"status":"ok"', r'"apparmor":"runyard-sandbox"')
    return Step(name, in_checkout(f"{change} && {wait}; {LAST_LOG}; {POST} '{HELLO}'"), 120, shown)


APPARMOR = (
    Step(
        "AppArmor: both profiles enforced",
        "cat /sys/kernel/security/apparmor/profiles",
        10,
        tuple(rf"{name} \(enforce\)" for name in PROFILES),
    ),
    _after_change("AppArmor: complain mode", _reload("-C -r", PROFILES[0]), f"{PROFILES[0]} is in complain mode"),
    _after_change(
        "AppArmor: replaced",
        "sed 's/deny umount,//' apparmor/runyard-sandbox | apparmor_parser -r",
        f"{PROFILES[0]} was replaced by another profile",
    ),
    _after_change("AppArmor: removed", _reload("-R", PROFILES[1]), f"{PROFILES[1]} is no longer loaded"),
    Step("AppArmor: down", DOWN, 60),
    Step(
        "AppArmor: no parser",
        f"mv /usr/sbin/apparmor_parser /root/ && ({UP}); code=$?; mv /root/apparmor_parser /usr/sbin/; exit $code",
        300,
        (r"make up: ", r"apparmor"),
        (r"Runyard is up",),
        code=None,
    ),
)
BAD_MACHINE = (
    Step("no user namespaces: down", DOWN, 60),
    Step(
        "no user namespaces",
        f"sysctl -w user.max_user_namespaces=0; ({UP}); code=$?; sysctl -w user.max_user_namespaces=60000; exit $code",
        300,
        (r"make up: ", r"user namespaces", r"sysctl user.max_user_namespaces"),
        (r"Runyard is up",),
        code=2,
    ),
    Step("no overlay: down", DOWN, 60),
    Step(
        "no overlay",
        "modprobe -r overlay; echo install overlay /bin/false > /etc/modprobe.d/no-overlay.conf; "
        f"({UP}); code=$?; rm /etc/modprobe.d/no-overlay.conf; exit $code",
        300,
        (r"make up: ", r"overlay", r"modprobe overlay"),
        (r"Runyard is up",),
        code=2,
    ),
    Step(
        "in a container",
        f"unshare --user --map-root-user --mount sh -c '{UP}'",
        60,
        (r"root of the machine",),
        code=2,
    ),
    Step(
        "no namespaces for the unprivileged",
        f"{DOWN}; sysctl -w kernel.unprivileged_userns_clone=0 && {UP} && {POST} '{HELLO}'; cd {CHECKOUT} && make doctor",
        300,
        (r'"status":"succeeded"', r'"source":"pool"', r"namespaces of templates +without"),
        code=0,
    ),
    Step("namespaces for the unprivileged again", "sysctl -w kernel.unprivileged_userns_clone=1", 10),
)
INSTALL = in_checkout(f"LANGUAGES={LANGUAGES} make install")
SETTINGS = "/etc/runyard/runyard.toml"
GENERATED = f"$(sed -n 's/^api_keys = .\\([^:]*\\):.*/\\1/p' {SETTINGS})"
AUTHORIZED = f'-H "Authorization: Bearer {GENERATED}"'
WITH_TOKEN = f"curl -sS {URL}/v1/runs {AUTHORIZED} -H 'Content-Type: application/json' -d '{HELLO}'"
WITHOUT_TOKEN = (
    f"curl -sS -o /dev/null -w 'dev_123: %{{http_code}}\\n' {URL}/v1/runs -H 'Authorization: Bearer dev_123'"
)
NOT_INSTALLED = (
    "! systemctl cat runyard-worker && ! getent passwd runyard-api && ! getent group runyard-api && "
    "test -z \"$(find /etc/systemd /etc/sysusers.d /etc/tmpfiles.d -name 'runyard*')\""
)
SERVED = (r'"status":"succeeded"', r'"source":"template"', r'"apparmor":"runyard-sandbox"')
SYSTEMD = (
    Step("systemd: down before", DOWN, 60),
    Step(
        "systemd: install",
        f"{INSTALL} && {WITH_TOKEN} && {WITHOUT_TOKEN}; ls -l {SETTINGS}; grep -c '^signing_key' {SETTINGS}",
        600,
        (r"Runyard is installed and up", *SERVED, r"dev_123: 401", r"-rw------- .* root root ", r"(?m)^1$"),
    ),
    Step("systemd: exposure", "systemd-analyze security --no-pager runyard-worker runyard-api | tail -n 200", 60),
    Step("systemd: status and doctor", in_checkout("make status && make doctor"), 60, (r"runyard-worker active",)),
    Step(
        "systemd: a wrong setting stops nothing",
        in_checkout(
            "cp -p /etc/runyard/runyard.toml /root/kept; "
            "echo 'max_runs = \"abc\"' >> /etc/runyard/runyard.toml; make install; "
            f"cp -p /root/kept /etc/runyard/runyard.toml; {WITH_TOKEN}"
        ),
        120,
        (r"max_runs in /etc/runyard/runyard.toml: must be an integer", *SERVED),
    ),
    Step("systemd: after a boot", f"{READY}; {WITH_TOKEN}", 300, SERVED, reboots=True),
    Step(
        "systemd: an upgrade with a changed setting keeps records",
        in_checkout(
            f"before=$({RUNS}?limit=1 {AUTHORIZED} | {FIRST_ID}); echo 'max_sessions = 1' >> {SETTINGS}; "
            f"echo '# another version' >> api/__init__.py; {INSTALL} && {SESSIONS} {GENERATED} 2; "
            f"git checkout -q api; {RUNS}/$before {AUTHORIZED} -w '\\nkept: %{{http_code}}\\n'"
        ),
        600,
        (
            r"upgrading: stopping the service",
            r"POST /v1/sessions 201",
            r'POST /v1/sessions \d+ .*"error"',
            r'"stdout":"read from an earlier run\\n"',
            r'"status":"succeeded"[^\n]*\n+kept: 200',
        ),
    ),
    Step(
        "systemd: a unit reads the settings file",
        f"sed -i 's/^max_sessions = .*/max_sessions = 0/' {SETTINGS}; "
        f"systemctl restart runyard-worker runyard-api; {READY}; "
        + in_checkout(f"{SESSIONS} {GENERATED}; {WITH_TOKEN}; sed -i '/^max_sessions/d' {SETTINGS}"),
        200,
        (r'POST /v1/sessions \d+ .*"error"', *SERVED),
        (r"POST /v1/sessions 201",),
    ),
    Step(
        "systemd: kernels, packages, functions",
        f"echo 'packages = \"any\"' >> {SETTINGS}; systemctl restart runyard-egress runyard-worker runyard-api; "
        f"{READY}; " + in_checkout(f"{FEATURES} {GENERATED}; systemctl --no-pager list-units 'runyard*'"),
        300,
        (*FEATURES_SHOW, r"runyard-egress.service +loaded active"),
    ),
    Step("systemd: make down", DOWN, 120, (r"starts again at boot",)),
    Step("systemd: nothing is left", NOTHING_LEFT, 20, (r"nothing left",)),
    Step(
        "systemd: uninstall",
        in_checkout(f"make uninstall && {NOT_INSTALLED} && ls -d /etc/runyard {STATE} && {NOTHING_LEFT}"),
        60,
        (r"The service was removed; kept: /etc/runyard", r"nothing left"),
    ),
    Step(
        "systemd: uninstall with PURGE=1",
        in_checkout(f"PURGE=1 make uninstall && {NOT_INSTALLED} && test ! -e /etc/runyard && test ! -e {STATE}"),
        60,
        (r"nothing was kept",),
    ),
)
END = (
    Step("make down", DOWN, 60, (r"The service in \S+ is stopped",)),
    Step("nothing is left", NOTHING_LEFT, 20, (r"nothing left",)),
)
