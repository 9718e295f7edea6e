"""Packages that a program installs for itself in a session whose network permits the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.conftest import SERVICE_UIDS
from tests.faults.test_network_registries import MachinesNames
from tests.support.network_world import DNS_PORT, start_world

pytestmark = pytest.mark.slow

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@pytest.fixture(scope="module")
def online(service, tmp_path_factory):
    """Yield a service whose sessions may reach what this machine reaches, whatever its addresses."""
    for found in start_world(
        service,
        SERVICE_UIDS,
        tmp_path_factory.mktemp("installs"),
        EGRESS_ALLOW="*",
        LANGUAGES="python,node,go,bash",
        WARM_POOL="python=1,node=1",
        RUNYARD_EGRESS_TEST=f"0.0.0.0/0;127.0.0.1:{DNS_PORT}",
    ):
        found.dns.names = MachinesNames()
        yield found.service


@pytest.fixture
def session(online, request):
    """Make a session of a language; the certificates of this machine are among its files."""
    made = []

    def make(language):
        files = [{"path": "ca.pem", "content": CERTIFICATES.read_text()}]
        names = ("PIP_CERT", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE")
        body = {"language": language, "network": {"allow": ["*"]}, "env": dict.fromkeys(names, "/work/ca.pem")}
        reply = online.post("/v1/sessions", json=body | {"files": files})
        assert reply.status == 201, reply.body
        made.append(reply.body["id"])

        def run(code, **fields):
            reply = online.post(f"/v1/sessions/{made[-1]}/runs", json={"code": code} | fields, timeout=120)
            assert reply.status == 200, reply.body
            assert reply.body["status"] == "succeeded", reply.body
            return reply.body["stdout"]

        return run

    yield make
    for session_id in made:
        online.request("DELETE", f"/v1/sessions/{session_id}")


def test_pip_installs_for_the_cells_that_follow(session):
    run = session("python")
    run("%pip install -q six==1.16.0")
    assert run("import six; print(six.__file__)") == "/work/.local/lib/python3.13/site-packages/six.py\n"


def test_npm_installs_into_work(session):
    run = session("node")
    run("require('child_process').execSync('npm install is-odd@3.0.1')")
    assert run("console.log(require('is-odd')(3))") == "true\n"
