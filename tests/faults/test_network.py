"""Runs that may reach hosts: a whole service with EGRESS=on, and servers on this machine's own addresses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.conftest import SERVICE_UIDS
from tests.support.network_world import ADDRESS, ALLOWED, HOST, start_world
from tests.support.workers import until

PLANS = """
[unlimited]
rate_per_minute = 60000
burst = 1000
[bounded]
rate_per_minute = 60000
burst = 1000
egress = ["api.example.test"]
egress_mb = 1
"""


@pytest.fixture(scope="module")
def world(service, tmp_path_factory):
    yield from start_world(
        service,
        SERVICE_UIDS,
        tmp_path_factory.mktemp("network"),
        PLANS,
        LANGUAGES="python,bash",
        WARM_POOL="python=2,bash=1",
        SELF_SERVICE_KEYS="0",
        ADMIN_TOKEN="admin_of_the_network_tests",
    )


GET = "import urllib.request as u, ssl\ncontext = ssl.create_default_context(cafile='ca.pem')\n"


def test_only_what_is_named_is_reached(world):
    code = GET + (
        "for url in ('http://api.example.test/hello', 'https://api.example.test/hello',\n"
        "            'http://evil.example.test/', *('http:' + '//' + host for host in\n"
        "            ('169.254.169.254', 'api.example.test:22', '2130706433', '127.0.0.2:3128'))):\n"
        "    try:\n"
        "        print(u.build_opener(u.ProxyHandler({'http': 'http://127.0.0.1:3128', 'https': 'http://127.0.0.1:3128'}),\n"
        "              u.HTTPSHandler(context=context)).open(url).read())\n"
        "    except u.HTTPError as e:\n"
        "        print(e.code, e.read().decode().strip())\n"
    )
    world.dns.asked.clear()
    ended = world.run(code)
    lines = ended["stdout"].splitlines()
    assert lines[:2] == [repr(b"hello from 80\n"), repr(b"hello from 443\n")], ended
    assert lines[2].startswith(
        "403 runyard: the connection to evil.example.test:80 is refused (denied): no pattern"
    )
    assert [line[:3] for line in lines[3:]] == ["403", "403", "400", "403"]
    assert ended["isolation"]["network"] == "proxy"
    assert ended["usage"]["egress_bytes"] > 1000
    assert set(world.dns.asked) == {HOST}


def test_a_refused_host_is_a_hint(world):
    for code in (
        "import requests; requests.get('https://evil.example.test/')",
        "import urllib.request as u; u.urlopen('https://evil.example.test/')",
    ):
        run = world.run(code)
        assert [hint["code"] for hint in run["hints"]] == ["network_disabled"], (
            run["hints"],
            run["stderr"][-1000:],
        )
        assert "network.allow" in run["hints"][0]["message"]


def test_a_plain_socket_fails_at_once(world):
    code = "import socket, time\nbegan = time.monotonic()\ntry:\n    socket.create_connection(('192.0.2.1', 443))\n"
    code += "except OSError as e:\n    print(e.strerror, time.monotonic() - began < 0.5)\n"
    assert world.run(code)["stdout"] == "Network is unreachable True\n"


def test_a_run_that_names_no_host_has_no_proxy(world):
    code = "import os, socket\nprint([name for name in os.environ if 'proxy' in name.lower()])\n"
    code += "try:\n    socket.create_connection(('127.0.0.1', 3128))\nexcept OSError as e:\n    print(e.strerror)\n"
    for network in (None, {"allow": []}, {"allow": [], "deny": ["a.example"]}):
        ended = world.run(code, network=network)
        assert ended["stdout"] == "[]\nConnection refused\n"
        assert ended["isolation"]["network"] == "none"
        assert ended["usage"]["egress_bytes"] == 0


@pytest.mark.parametrize(
    ("network", "status", "code", "param"),
    [
        ({"allow": ["api.example.test", "other.example"]}, 403, "network_not_allowed", "network.allow.1"),
        ({"allow": ["api.example.test:8443"]}, 403, "network_not_allowed", "network.allow.0"),
        ({"allow": ["*"]}, 403, "network_not_allowed", "network.allow.0"),
        ({"allow": ["API.example.test"]}, 400, "invalid_value", "network.allow.0"),
        ({"allow": ["0x7f.1"]}, 400, "invalid_value", "network.allow.0"),
        ({"allow": ["api.example.test"], "deny": ["a b"]}, 400, "invalid_value", "network.deny.0"),
        ({"allow": ["api.example.test"] * 65}, 400, "too_many", "network.allow"),
        ({"allow": "api.example.test"}, 400, "invalid_type", "network.allow"),
        ({"allowed": []}, 400, "unknown_field", "network.allowed"),
        (True, 400, "invalid_type", "network"),
    ],
)
def test_what_is_not_permitted_or_no_pattern_is_refused_by_name(world, network, status, code, param):
    reply = world.service.post("/v1/runs", json={"language": "bash", "code": "true", "network": network})
    assert (reply.status, reply.body["error"]["code"], reply.body["error"]["param"]) == (status, code, param)


def test_without_egress_a_host_is_refused_and_no_host_is_not(service):
    body = {"language": "bash", "code": "true", "network": {"allow": ["api.example.com"]}}
    reply = service.post("/v1/runs", json=body)
    assert (reply.status, reply.body["error"]["code"]) == (403, "network_not_allowed")
    assert "EGRESS is off" in reply.body["error"]["message"]
    assert service.run("bash", "echo ok", network={"allow": []})["stdout"] == "ok\n"


def test_a_plan_bounds_hosts_and_bytes(world):
    admin = {"token": "admin_of_the_network_tests"}
    made = world.service.post("/v1/admin/keys", json={"plan": "bounded", "label": "n"}, **admin)
    assert made.status == 201, made.body
    token = made.body["key"]
    body = {"language": "bash", "code": "true", "network": {"allow": ["files.example.test"]}}
    reply = world.service.post("/v1/runs", json=body, token=token)
    assert (reply.status, reply.body["error"]["code"]) == (403, "network_not_allowed")
    assert "bounded" in reply.body["error"]["message"]
    code = GET + (
        "try:\n    print(len(u.urlopen('http://api.example.test/big/9000000').read()))\nexcept Exception as e:\n"
        "    print(type(e).__name__)\n"
        "try:\n    u.urlopen('http://api.example.test/hello')\nexcept u.HTTPError as e:\n    print(e.code, e.read())\n"
    )
    ended = world.run(code, network={"allow": [HOST]}, token=token)
    assert ended["stdout"], ended
    assert ended["stdout"].splitlines()[0] in ("IncompleteRead", "ConnectionResetError"), ended
    assert "403" in ended["stdout"], ended
    assert "egress_mb" in ended["stdout"]
    assert ended["usage"]["egress_bytes"] < 4_000_000


@pytest.fixture
def session(world):
    """A session whose programs may reach the hosts of ALLOWED."""
    body = {"language": "python", "network": ALLOWED, "files": [{"path": "ca.pem", "content": world.certificate}]}
    made = world.service.post("/v1/sessions", json=body)
    assert made.status == 201, made.body
    yield made.body
    world.service.request("DELETE", f"/v1/sessions/{made.body['id']}")


def in_session(world, session, code, **fields):
    reply = world.service.post(f"/v1/sessions/{session['id']}/runs", json={"code": code, **fields})
    assert reply.status == 200, reply.body
    return reply.body


def test_a_session_reaches_its_hosts_by_runs_and_processes(world, session):
    assert session["network"] == {**ALLOWED, "deny": []}
    code = GET + (
        "print(u.urlopen('http://api.example.test/hello').read())\n"
        "print(u.urlopen('https://api.example.test/hello', context=context).read())\n"
        "print(len(u.urlopen('http://api.example.test/big/3000000').read()))\n"
        "try:\n    u.urlopen('http://evil.example.test/')\nexcept u.HTTPError as e:\n    print(e.code)\n"
    )
    for _ in range(2):
        ended = in_session(world, session, code)
        assert ended["stdout"].splitlines() == [
            repr(b"hello from 80\n"), repr(b"hello from 443\n"), "3000000", "403",
        ], ended  # fmt: skip
        assert ended["isolation"]["network"] == "proxy"
    command = "python3 -c \"import urllib.request as u; print(u.urlopen('http://api.example.test/hello').status)\""
    process = world.service.post(
        f"/v1/sessions/{session['id']}/processes", json={"command": command, "wait": True}
    ).body
    assert process["stdout"] == "200\n"
    facts = world.service.get(f"/v1/sessions/{session['id']}").body
    assert facts["usage"]["egress_bytes"] > 6_000_000


def test_connections_of_processes_side_by_side_pass_and_end_with_their_processes(world, session):
    code = (
        "import socket, sys\n"
        "s = socket.create_connection(('127.0.0.1', 3128))\n"
        "s.sendall(b'CONNECT api.example.test:9091 HTTP/1.1\\r\\n\\r\\n')\n"
        "f = s.makefile('rb')\n"
        "while f.readline() != b'greeting\\n': pass\n"
        "s.sendall(b'x' * 300_000); s.shutdown(socket.SHUT_WR)\n"
        "print(len(f.read()))\n"
    )
    path = f"/v1/sessions/{session['id']}"
    argv = ["python3", "-c", code]
    started = [world.service.post(f"{path}/processes", json={"argv": argv}).body["id"] for _ in range(6)]
    for one in started:
        until(lambda one=one: world.service.get(f"{path}/processes/{one}").body["status"] == "ended", 40)
        assert world.service.get(f"{path}/processes/{one}").body["exit_code"] == 0
    hangs = world.service.post(
        f"{path}/processes",
        json={"argv": ["python3", "-c", code.replace("300_000", "1") + "\nimport time; time.sleep(99)"]},
    )
    time.sleep(1)
    assert world.service.request("DELETE", f"{path}/processes/{hangs.body['id']}").status == 200
    until(lambda: "runyard_egress_open 0.0" in world.service.get("/metrics", token=None).raw.decode(), 20)
    assert in_session(world, session, "print(1)")["stdout"] == "1\n"


def test_connections_end_when_a_session_is_paused_and_are_made_again_after_it(world, session):
    path = f"/v1/sessions/{session['id']}"
    code = (
        "import socket, time\n"
        "s = socket.create_connection(('127.0.0.1', 3128))\n"
        "s.sendall(b'CONNECT api.example.test:9091 HTTP/1.1\\r\\n\\r\\n')\n"
        "f = s.makefile('rb')\n"
        "while f.readline() != b'greeting\\n': pass\n"
        "open('/work/connected', 'w').close()\n"
        "try:\n    found = f.read()\nexcept OSError:\n    found = b''\n"
        "open('/work/ended', 'wb').write(found)\n"
    )
    world.service.post(f"{path}/processes", json={"argv": ["python3", "-c", code]})
    until(lambda: world.service.get(f"{path}/files/stat?path=/work/connected").status == 200, 20)
    paused = world.service.post(f"{path}/pause", data=b"")
    if paused.status == 200:
        until(lambda: "runyard_egress_open 0.0" in world.service.get("/metrics", token=None).raw.decode(), 20)
        assert world.service.post(f"{path}/resume", data=b"").status == 200
        until(lambda: world.service.get(f"{path}/files/stat?path=/work/ended").status == 200, 20)
    ended = in_session(world, session, GET + "print(u.urlopen('http://api.example.test/hello').status)\n")
    assert ended["stdout"] == "200\n"


def test_a_session_without_hosts_has_no_proxy_and_a_run_in_one_names_none(world):
    made = world.service.post("/v1/sessions", json={"language": "bash"}).body
    path = f"/v1/sessions/{made['id']}"
    assert made["network"] == {"allow": [], "deny": []}
    reply = world.service.post(f"{path}/runs", json={"code": "true", "network": ALLOWED})
    assert (reply.status, reply.body["error"]["param"]) == (400, "network")
    ended = world.service.post(f"{path}/runs", json={"code": "echo $HTTP_PROXY; echo > /dev/tcp/127.0.0.1/3128"})
    assert ended.body["stdout"] == "\n"
    assert "refused" in ended.body["stderr"]
    world.service.request("DELETE", path)
    for allow, status in ((["other.example"], 403), (["A"], 400)):
        reply = world.service.post("/v1/sessions", json={"language": "bash", "network": {"allow": allow}})
        assert (reply.status, reply.body["error"]["param"]) == (status, "network.allow.0")


def patch(world, path, network, token=None):
    body = json.dumps({"network": network}).encode()
    return world.service.request(
        "PATCH", path, body, {"Content-Type": "application/json"}, token=token or world.service.token
    )


#: Connects to a host, notes that, and what it reads until the end.
HOLDS = (
    "import socket, sys\n"
    "host = sys.argv[1]\n"
    "s = socket.create_connection(('127.0.0.1', 3128))\n"
    "s.sendall(f'CONNECT {host}:9091 HTTP/1.1\\r\\n\\r\\n'.encode())\n"
    "f = s.makefile('rb')\n"
    "while f.readline() != b'greeting\\n': pass\n"
    "open(f'/work/connected-{host}', 'w').close()\n"
    "f.read()\n"
    "open(f'/work/ended-{host}', 'w').close()\n"
)
TWO = {"allow": [f"{HOST}:9091", "files.example.test:9091"]}
FETCH = (
    "import urllib.request as u\n"
    "try:\n    print(u.urlopen('http://api.example.test/hello').status)\nexcept u.HTTPError as e:\n    print(e.code)\n"
)


def is_there(world, path, name):
    return world.service.get(f"{path}/files/stat?path=/work/{name}").status == 200


def test_a_change_closes_connections_to_hosts_that_are_not_allowed_any_more_and_no_others(world):
    path = (
        f"/v1/sessions/{world.service.post('/v1/sessions', json={'language': 'python', 'network': TWO}).body['id']}"
    )
    for host in (HOST, "files.example.test"):
        world.service.post(f"{path}/processes", json={"argv": ["python3", "-c", HOLDS, host]})
        until(lambda host=host: is_there(world, path, f"connected-{host}"), 20)
    changed = patch(world, path, {"allow": [f"{HOST}:9091", HOST]})
    assert (changed.status, changed.body["network"]) == (200, {"allow": [f"{HOST}:9091", HOST], "deny": []})
    until(lambda: is_there(world, path, "ended-files.example.test"), 10)
    assert not is_there(world, path, f"ended-{HOST}")
    assert world.service.post(f"{path}/runs", json={"code": FETCH}).body["stdout"] == "200\n"
    assert world.service.get(path).body["network"] == {"allow": [f"{HOST}:9091", HOST], "deny": []}
    assert patch(world, path, {"allow": []}).body["network"] == {"allow": [], "deny": []}
    until(lambda: is_there(world, path, f"ended-{HOST}"), 10)
    assert world.service.post(f"{path}/runs", json={"code": FETCH}).body["stdout"] == "403\n"
    world.service.request("DELETE", path)
    assert patch(world, path, {"allow": []}).status == 410


def test_a_session_without_a_network_gets_one(world):
    path = f"/v1/sessions/{world.service.post('/v1/sessions', json={'language': 'python'}).body['id']}"
    assert patch(world, path, {"allow": []}).body["network"] == {"allow": [], "deny": []}
    look = "import os\nprint(os.environ.get('HTTP_PROXY'))\n"
    before = world.service.post(f"{path}/runs", json={"code": look}).body
    assert (before["stdout"], before["isolation"]["network"]) == ("None\n", "none")
    listens = (
        "import socket, time\ns = socket.create_server(('127.0.0.1', 3128))\n"
        "open('/work/listens', 'w').close()\ntime.sleep(99)\n"
    )
    world.service.post(f"{path}/processes", json={"argv": ["python3", "-c", listens], "tag": "listens"})
    until(lambda: is_there(world, path, "listens"), 20)
    reply = patch(world, path, {"allow": [HOST]})
    assert (reply.status, reply.body["error"]["code"], reply.body["error"]["param"]) == (
        409, "session_busy", "network",
    )  # fmt: skip
    assert world.service.get(path).body["network"]["allow"] == []
    world.service.request("DELETE", f"{path}/processes/tag:listens")
    changed = patch(world, path, {"allow": [HOST]})
    assert (changed.status, changed.body["network"]["allow"]) == (200, [HOST])
    after = world.service.post(f"{path}/runs", json={"code": look + FETCH}).body
    assert after["stdout"] == "http://127.0.0.1:3128\n200\n"
    assert after["isolation"]["network"] == "proxy"
    own = world.service.post(f"{path}/processes", json={"command": "echo $https_proxy", "wait": True}).body
    assert own["stdout"] == "http://127.0.0.1:3128\n"
    assert world.service.get(path).body["usage"]["egress_bytes"] > 0
    world.service.request("DELETE", path)


def test_a_frozen_session_gets_a_network_and_a_paused_one_not_before_it_is_resumed(world):
    body = {"language": "python", "freeze_after_s": 1}
    path = f"/v1/sessions/{world.service.post('/v1/sessions', json=body).body['id']}"
    time.sleep(2.5)
    assert patch(world, path, {"allow": [HOST]}).status == 200
    assert world.service.post(f"{path}/runs", json={"code": FETCH}).body["stdout"] == "200\n"
    world.service.request("DELETE", path)
    path = f"/v1/sessions/{world.service.post('/v1/sessions', json={'language': 'bash'}).body['id']}"
    if world.service.post(f"{path}/pause", data=b"").status == 200:
        reply = patch(world, path, {"allow": [HOST]})
        assert (reply.status, reply.body["error"]["code"]) == (409, "session_paused")
        assert world.service.get(path).body["network"]["allow"] == []
        world.service.post(f"{path}/resume", data=b"")
        assert patch(world, path, {"allow": [HOST]}).status == 200
    world.service.request("DELETE", path)


def test_a_session_under_gvisor_gets_a_network_and_its_disk_is_not_seen(world):
    made = world.service.post("/v1/sessions", json={"language": "python", "isolation": "gvisor"})
    if made.status == 400:
        pytest.skip("gVisor is not installed here")
    path = f"/v1/sessions/{made.body['id']}"
    assert patch(world, path, {"allow": [HOST]}).status == 200
    ended = world.service.post(f"{path}/runs", json={"code": FETCH + "open('x', 'w').write('x' * 2**21)\n"}).body
    assert (ended["stdout"], ended["isolation"]["network"]) == ("200\n", "proxy")
    assert world.service.get(path).body["usage"]["disk_mb"] == 0
    world.service.request("DELETE", path)


@pytest.mark.parametrize(
    ("network", "status", "code", "param"),
    [
        ({"allow": [HOST, "other.example"]}, 403, "network_not_allowed", "network.allow.1"),
        ({"allow": [f"{HOST}:8443"]}, 403, "network_not_allowed", "network.allow.0"),
        ({"allow": ["*"]}, 403, "network_not_allowed", "network.allow.0"),
        ({"allow": ["0x7f.1"]}, 400, "invalid_value", "network.allow.0"),
        ({"allow": [HOST], "deny": ["a b"]}, 400, "invalid_value", "network.deny.0"),
        ({"allow": [HOST] * 65}, 400, "too_many", "network.allow"),
        ({"allow": HOST}, 400, "invalid_type", "network.allow"),
        ({"allowed": []}, 400, "unknown_field", "network.allowed"),
        ([], 400, "invalid_type", "network"),
    ],
)
def test_a_change_is_refused_as_a_creation_is_and_changes_nothing(world, session, network, status, code, param):
    path = f"/v1/sessions/{session['id']}"
    reply = patch(world, path, network)
    assert (reply.status, reply.body["error"]["code"], reply.body["error"]["param"]) == (status, code, param)
    assert world.service.get(path).body["network"] == {**ALLOWED, "deny": []}
    assert in_session(world, session, FETCH)["stdout"] == "200\n"


def test_a_plan_bounds_the_hosts_of_a_change(world):
    made = world.service.post(
        "/v1/admin/keys", json={"plan": "bounded", "label": "c"}, token="admin_of_the_network_tests"
    )
    token = made.body["key"]
    path = f"/v1/sessions/{world.service.post('/v1/sessions', json={'language': 'bash'}, token=token).body['id']}"
    reply = patch(world, path, {"allow": ["files.example.test"]}, token)
    assert (reply.status, reply.body["error"]["code"]) == (403, "network_not_allowed")
    assert "files.example.test" in reply.body["error"]["message"]
    assert patch(world, path, {"allow": [HOST]}, token).status == 200
    assert patch(world, path, {"allow": [HOST]}).status == 404
    world.service.request("DELETE", path, token=token)


def test_the_usage_of_a_key_has_the_bytes_of_its_runs_and_sessions(world):
    made = world.service.post(
        "/v1/admin/keys", json={"plan": "unlimited", "label": "u"}, token="admin_of_the_network_tests"
    )
    token = made.body["key"]
    code = "import urllib.request as u\nprint(len(u.urlopen('http://api.example.test/big/100000').read()))\n"
    of_run = world.run(code, token=token)["usage"]["egress_bytes"]
    assert of_run > 100_000
    body = {"language": "python", "network": ALLOWED}
    path = f"/v1/sessions/{world.service.post('/v1/sessions', json=body, token=token).body['id']}"
    run = world.service.post(f"{path}/runs", json={"code": code}, token=token)
    assert run.body["stdout"] == "100000\n"
    of_session = world.service.get(path, token=token).body["usage"]["egress_bytes"]
    assert of_session > 100_000
    world.service.request("DELETE", path, token=token)
    until(lambda: world.service.get("/v1/usage", token=token).body["egress_bytes"] == of_run + of_session, 20)


def test_the_token_of_a_session_cannot_widen_its_network(world, session):
    path = f"/v1/sessions/{session['id']}"
    token = world.service.post(f"{path}/token", data=b"").body["token"]
    reply = patch(world, path, {"allow": [HOST]}, token)
    assert (reply.status, reply.body["error"]["code"], reply.body["error"]["param"]) == (
        403, "network_not_allowed", "network",
    )  # fmt: skip
    assert world.service.get(path, token=token).body["network"] == {**ALLOWED, "deny": []}


def test_without_egress_no_session_gets_a_host(service):
    path = f"/v1/sessions/{service.post('/v1/sessions', json={'language': 'bash'}).body['id']}"
    body = json.dumps({"network": {"allow": ["api.example.com"]}}).encode()
    reply = service.request("PATCH", path, body, {"Content-Type": "application/json"})
    assert (reply.status, reply.body["error"]["code"]) == (403, "network_not_allowed")
    assert "EGRESS is off" in reply.body["error"]["message"]
    service.request("DELETE", path)


def test_libraries_and_pip_work_through_it(world):
    package = world.root / "simple/runyard-sample"
    package.mkdir(parents=True)
    _wheel(package)
    code = (
        "import requests, subprocess, sys\n"
        "print(requests.get('https://api.example.test/hello', verify='ca.pem').text.strip())\n"
        "done = subprocess.run([sys.executable, '-m', 'pip', '--version'], capture_output=True, text=True)\n"
        "print('pip' in done.stdout)\n"
    )
    ended = world.run(code)
    assert ended["stdout"].splitlines()[0] == "hello from 443", ended
    if ended["stdout"].splitlines()[1] == "True":
        install = (
            "import subprocess, sys\n"
            "subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--no-cache-dir', '--target', '/work/lib',\n"
            "  '--cert', '/work/ca.pem', '--index-url', 'https://files.example.test/files/simple', 'runyard-sample'],\n"
            "  check=True)\n"
            "sys.path.insert(0, '/work/lib')\nimport runyard_sample\nprint(runyard_sample.WORD)\n"
        )
        assert world.run(install, limits={"timeout_ms": 60_000})["stdout"] == "installed\n"


def _wheel(folder: Path) -> None:
    import zipfile

    name = folder / "runyard_sample-1.0-py3-none-any.whl"
    about = "runyard_sample-1.0.dist-info"
    with zipfile.ZipFile(name, "w") as file:
        file.writestr("runyard_sample.py", "WORD = 'installed'\n")
        file.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: runyard-sample\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("git") is None, reason="needs curl and git here")
def test_curl_and_git_speak_to_the_egress_process_as_to_any_proxy(world, tmp_path):
    """The images have neither: so this machine's own programs, by a proxy that passes bytes as the agent does."""
    repository = world.root / "sample.git"
    source = tmp_path / "source"
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.test"]
    for argv in (
        ["git", "init", "-q", str(source)],
        ["git", "-C", str(source), *identity, "commit", "-q", "--allow-empty", "-m", "one"],
        ["git", "clone", "-q", "--bare", str(source), str(repository)],
        ["git", "-C", str(repository), "update-server-info"],
    ):
        subprocess.run(argv, check=True, capture_output=True)
    from tests.support.egress_servers import PassingProxy

    opening = {"op": "connect", "run": "run_x", "key": "k", "allow": [HOST, "files.example.test"], "deny": []}
    proxy = PassingProxy(world.service.state / "run/egress/egress.sock", json.dumps(opening).encode() + b"\n")
    ca = tmp_path / "ca.pem"
    ca.write_text(world.certificate)
    env = {**os.environ, **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy.url)}
    env |= {"GIT_SSL_CAINFO": str(ca), "GIT_TERMINAL_PROMPT": "0", "NO_PROXY": "", "no_proxy": ""}
    try:
        for url in (f"http://{HOST}/hello", f"https://{HOST}/hello"):
            done = subprocess.run(
                ["curl", "-sS", "-m", "20", "--cacert", str(ca), url],
                env=env,
                capture_output=True,
                text=True,
                check=True,
            )
            assert done.stdout.startswith("hello from")
        argv = ["git", "clone", "-q", "https://files.example.test/files/sample.git", str(tmp_path / "clone")]
        subprocess.run(argv, env=env, check=True, capture_output=True, timeout=60)
        argv = ["git", "-C", str(tmp_path / "clone"), "log", "--oneline"]
        log = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert log.stdout.endswith(" one\n")
    finally:
        proxy.close()


def test_many_connections_half_closed_ends_and_large_bodies(world):
    code = (
        "import socket, threading\n"
        "def one(number, found):\n"
        "    s = socket.create_connection(('127.0.0.1', 3128))\n"
        "    s.sendall(b'CONNECT api.example.test:9091 HTTP/1.1\\r\\n\\r\\n')\n"
        "    f = s.makefile('rb')\n"
        "    assert b'200' in f.readline(), 'status'\n"
        "    assert f.readline() == b'\\r\\n'\n"
        "    assert f.readline() == b'greeting\\n'\n"
        "    data = bytes([number]) * 700_000\n"
        "    threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR))).start()\n"
        "    assert f.read() == data + b'bye\\n'\n"
        "    found.append(number)\n"
        "found = []\n"
        "threads = [threading.Thread(target=one, args=(n, found)) for n in range(12)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "print(len(found))\n"
    )
    ended = world.run(code, limits={"timeout_ms": 60_000})
    assert ended["stdout"] == "12\n", ended
    assert ended["usage"]["egress_bytes"] > 12 * 1_400_000


def test_a_program_that_abuses_the_proxy_ends_as_any_other(world):
    """Connections without an end, garbage, a listener of its own in the place, and a flood at the end of the run."""
    code = (
        "import os, socket\n"
        "held = []\n"
        "for _ in range(200):\n"
        "    s = socket.socket(); s.setblocking(False)\n"
        "    s.connect_ex(('127.0.0.1', 3128)); held.append(s)\n"
        "for s in held[:40]:\n"
        "    try: s.send(os.urandom(5000))\n"
        "    except OSError: pass\n"
        "l = socket.socket()\n"
        "try: l.bind(('127.0.0.1', 3128))\n"
        "except OSError as e: print(e.strerror)\n"
        "try: os.kill(1, 9)\n"
        "except OSError: pass\n"
        "print('end')\n"
    )
    ended = world.run(code)
    assert ended["stdout"] == "Address already in use\nend\n", ended
    assert world.run("print(1)")["stdout"] == "1\n"
    until(lambda: "runyard_egress_open 0.0" in world.service.get("/metrics", token=None).raw.decode(), 20)


def test_a_killed_egress_process_ends_connections_and_no_runs_and_is_started_again(world):
    code = (
        "import socket, sys, time, urllib.request as u\n"
        "s = socket.create_connection(('127.0.0.1', 3128))\n"
        "s.sendall(b'CONNECT api.example.test:9091 HTTP/1.1\\r\\n\\r\\n')\n"
        "f = s.makefile('rb')\n"
        "while b'greeting' not in f.readline(): pass\n"
        "print('connected', flush=True)\n"
        "print('closed', f.read())\n"
        "for _ in range(100):\n"
        "    try:\n"
        "        print(u.urlopen('http://api.example.test/hello').read()); break\n"
        "    except u.HTTPError as e:\n"
        "        first = e.read() if _ == 0 else b''\n"
        "        time.sleep(0.2)\n"
    )
    before = world.process()
    body = {
        "language": "python",
        "code": code,
        "stream": True,
        "network": ALLOWED,
        "limits": {"timeout_ms": 60_000},
    }
    with world.service.events(json=body) as events:
        for _, event in events:
            if event["event"] == "stdout" and "connected" in event["data"]:
                os.kill(before, signal.SIGKILL)
            if event["event"] == "result":
                ended = event["data"]
    assert ended["status"] == "succeeded", ended
    assert ended["stdout"] == f"connected\nclosed b''\n{b'hello from 80' + bytes([10])!r}\n"
    assert world.process() not in (None, before)


def test_a_dns_server_that_never_answers_ends_a_connection_not_a_run(world):
    world.dns.silent.add("silent.example.test")
    code = GET + "try:\n    u.urlopen('http://silent.example.test/')\nexcept u.HTTPError as e:\n    print(e.code)\n"
    began = time.monotonic()
    ended = world.run(code, network={"allow": ["*.example.test"]}, limits={"timeout_ms": 30_000})
    assert ended["stdout"] == "502\n"
    assert time.monotonic() - began < 15


def test_the_process_has_no_right_and_no_way_to_others(world):
    pid = world.process()
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    uid = str(SERVICE_UIDS + 1)
    assert set(status["Uid"].split()) == {uid}
    assert set(status["Gid"].split()) == {uid}
    assert status["Groups"].strip() == ""
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    for name in (b"API_KEYS", b"SIGNING_KEY", b"ADMIN_TOKEN", b"DATABASE_URL"):
        assert name not in environment
    folder = world.service.state / "run/egress"
    assert (folder.stat().st_uid, folder.stat().st_mode & 0o777) == (int(uid), 0o700)
    assert (folder / "egress.sock").stat().st_mode & 0o777 == 0o600


def test_each_connection_is_a_line_and_a_count_and_no_metric_has_a_host(world):
    run = world.run(GET + "u.urlopen('http://api.example.test/hello').read()\n")
    lines = [json.loads(line) for line in (world.service.state / "log/service.log").read_text().splitlines()]
    (line,) = [one for one in lines if one.get("event") == "egress.connection" and one["run_id"] == run["id"]]
    assert (line["host"], line["port"], line["address"], line["verdict"]) == (HOST, 80, ADDRESS, "allowed")
    assert line["received_bytes"] > 0
    metrics = world.service.get("/metrics", token=None).raw.decode()
    assert "runyard_egress_up 1.0" in metrics
    assert "example" not in metrics
