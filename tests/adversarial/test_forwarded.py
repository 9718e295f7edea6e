"""Headers of proxies as a client forges them: only the tests' own proxy address is believed, and no nonsense of it."""

from __future__ import annotations

import http.client
import json

import pytest

#: Header lines of one request each. The service trusts 127.0.0.1 and nobody else of loopback.
FORGED = {
    "a path": [("X-Forwarded-Host", "evil.example/path")],
    "a user": [("X-Forwarded-Host", "real@evil.example")],
    "two hosts": [("X-Forwarded-Host", "evil.example, runs.example")],
    "two lines": [("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Host", "runs.example")],
    "a port too large": [("X-Forwarded-Host", "evil.example:65536")],
    "an open bracket": [("X-Forwarded-Host", "[::1")],
    "brackets around a name": [("X-Forwarded-Host", "[evil.example]")],
    "a scheme in the host": [("X-Forwarded-Host", "https://evil.example")],
    "no ASCII": [("X-Forwarded-Host", "ev\xefl.example")],
    "7 kB": [("X-Forwarded-Host", "e" * 7_000)],
    "two schemes": [("X-Forwarded-Proto", "https, http")],
    "a scheme that runs": [("X-Forwarded-Proto", "javascript")],
    "an underscore": [("X_Forwarded_Host", "evil.example"), ("X_Forwarded_Proto", "https")],
    "other headers": [("Forwarded", "host=evil.example;proto=https"), ("X-Forwarded-Server", "evil.example")],
    "a prefix": [("X-Forwarded-Prefix", "/evil"), ("X-Script-Name", "/evil")],
    "a port": [("X-Forwarded-Port", "1"), ("X-Forwarded-Ssl", "on"), ("X-Forwarded-Protocol", "ssl")],
}  # fmt: skip
BELIEVED = [("X-Forwarded-Host", "[2001:db8::1]:8443"), ("X-Forwarded-Proto", "https")]


@pytest.fixture(scope="module")
def run_id(service):
    run = service.run("bash", "echo x > outputs/a")
    assert run["artifacts"]
    return run["id"]


def answer(service, run_id, headers, source="127.0.0.1"):
    connection = http.client.HTTPConnection(service.host, service.port, timeout=20, source_address=(source, 0))
    try:
        connection.putrequest("GET", f"/v1/runs/{run_id}")
        for name, value in [("Authorization", f"Bearer {service.token}"), *headers]:
            connection.putheader(name, value.encode("latin-1"))
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def link(*asked):
    status, body = answer(*asked)
    assert status == 200, body
    return json.loads(body)["artifacts"][0]["url"].partition("/v1/files/")[0]


@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED.keys())
def test_a_link_keeps_its_host_whatever_is_forged(service, run_id, headers):
    assert link(service, run_id, headers) == service.url


def test_a_header_of_ten_kilobytes_is_refused(service, run_id):
    status, body = answer(service, run_id, [("X-Forwarded-Host", "e" * 10_000)])
    assert (status, json.loads(body)["error"]["code"]) == (431, "headers_too_large")


def test_only_a_trusted_address_is_believed(service, run_id):
    assert link(service, run_id, BELIEVED) == "https://[2001:db8::1]:8443"
    assert link(service, run_id, BELIEVED, "127.0.0.2") == service.url
