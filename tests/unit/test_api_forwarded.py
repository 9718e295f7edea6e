"""Scheme, host and address of a request, as trusted proxies report them, and hostile reports."""

from __future__ import annotations

from ipaddress import ip_network
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.forwarded import TrustedProxies, is_host
from protocol.limits import Limits
from protocol.result import Artifact, Result
from tests.unit.test_api_app import AUTH, Api

PROXY = "10.1.2.3"
TRUSTED = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))


def seen(remote=PROXY, **headers):
    """Return scheme, host and address as the application gets them."""
    environ = {"REMOTE_ADDR": remote, "HTTP_HOST": "real.example", "wsgi.url_scheme": "http"}
    environ |= {f"HTTP_X_FORWARDED_{name.upper()}": value for name, value in headers.items()}
    found = []
    application = TrustedProxies(lambda given, _start: found.append(given) or [], TRUSTED)
    assert application(environ, lambda *_: None) == []
    return found[0]["wsgi.url_scheme"], found[0].get("HTTP_HOST"), found[0]["REMOTE_ADDR"]


@pytest.mark.parametrize("remote", [PROXY, "::ffff:10.0.0.1", "2001:db8::7"])
@pytest.mark.parametrize(
    "host", ["runs.example", "runs.example:8443", "10.0.0.9:81", "[2001:db8::1]:8443", "[::1]", "a_b", "x" * 253]
)
def test_a_trusted_proxy_is_believed(remote, host):
    assert seen(remote, proto="https", host=host) == ("https", host, seen(remote)[2])


@pytest.mark.parametrize("remote", ["192.0.2.1", "11.0.0.1", "2001:db9::1", "", "unix:", "10.0.0.0/8"])
def test_all_others_are_ignored(remote):
    assert seen(remote, proto="https", host="evil.example")[:2] == ("http", "real.example")


def test_a_client_behind_the_proxy_is_no_proxy():
    assert seen(proto="https", host="runs.example", **{"for": "198.51.100.7"}) == (
        "https",
        "runs.example",
        "198.51.100.7",
    )


HOSTILE_HOSTS = {
    "empty": "",
    "spaces": "   ",
    "a path": "evil.example/path",
    "a query": "evil.example?x",
    "a fragment": "evil.example#x",
    "a user": "user@evil.example",
    "a password": "user:pass@evil.example",
    "a line": "evil.example\r\nSet-Cookie: a=b",
    "a line feed": "evil.example\n",
    "a NUL": "evil.example\x00",
    "two": "evil.example, runs.example",
    "two without a space": "evil.example,runs.example",
    "a comma alone": ",",
    "a space inside": "evil.example x",
    "a scheme": "https://evil.example",
    "a backslash": "evil.example\\@runs.example",
    "percent": "evil%2eexample",
    "HTML": "<script>",
    "quotes": '"evil.example"',
    "not ASCII": "ev\u00efl.example",
    "wide digits": "evil.example:\uff11",
    "no port": "evil.example:",
    "port 0": "evil.example:0",
    "port 65536": "evil.example:65536",
    "port 99999": "evil.example:99999",
    "a port of six digits": "evil.example:000443",
    "a negative port": "evil.example:-1",
    "a port in hexadecimal": "evil.example:0x50",
    "two ports": "evil.example:1:2",
    "bare IPv6": "2001:db8::1",
    "an open bracket": "[::1",
    "a closed bracket": "::1]",
    "brackets around a name": "[evil.example]",
    "brackets around dots": "[....]",
    "brackets around IPv4": "[127.0.0.1]",
    "an IPv6 address with a zone": "[fe80::1%eth0]",
    "an IPv6 address with too many parts": "[1:2:3:4:5:6:7:8:9]",
    "text behind brackets": "[::1]evil.example",
    "10 kB": "e" * 10_000,
    "10 kB of dots": "e." * 5_000,
}  # fmt: skip


@pytest.mark.parametrize("host", HOSTILE_HOSTS.values(), ids=HOSTILE_HOSTS.keys())
def test_a_hostile_host_falls_back_to_the_real_one(host):
    assert seen(proto="https", host=host)[:2] == ("https", "real.example")


@pytest.mark.parametrize(
    "proto",
    [
        "",
        "https, http",
        "http,https",
        "https\r\nx: y",
        "javascript",
        "ftp",
        "https:",
        "h" * 10_000,
        "wss",
        "\uff48ttps",
    ],
)
def test_a_hostile_scheme_falls_back_to_the_real_one(proto):
    assert seen(proto=proto, host="runs.example")[:2] == ("http", "runs.example")


@pytest.mark.parametrize("proto", ["HTTPS", "https", " https "])
def test_the_scheme_is_in_any_case(proto):
    assert seen(proto=proto)[:2] == ("https", "real.example")


@given(st.text(st.characters(max_codepoint=255), max_size=300))
def test_whatever_is_a_host_is_one_in_a_url(text):
    if is_host(text):
        parts = urlsplit(f"https://{text}/v1/files")
        assert (parts.netloc, parts.path, parts.username) == (text, "/v1/files", None)
        assert parts.port is None or 1 <= parts.port <= 65535


# -- links -----------------------------------------------------------------------------------------


def link(api, address, **headers):
    artifact = Artifact(f"file_{len(api.worker.jobs)}", "p.png", "p.png", 3, "ab", "image/png")
    api.worker.answer = Result(
        "succeeded", "python", Limits.resolve({}), exit_code=0, artifacts=(artifact,)
    ).to_json()
    run = {"language": "python", "code": "x"}
    reply = api.client.post("/v1/runs", json=run, headers=AUTH | headers, environ_base={"REMOTE_ADDR": address})
    assert reply.status_code == 200, reply.json
    return reply.json["artifacts"][0]["url"].partition("/v1/")[0]


@pytest.fixture
def make_api():
    made = []

    def make(**settings):
        made.append(Api(**settings))
        return made[-1]

    yield make
    for api in made:
        api.close()


HTTPS = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "runs.example:8443"}


def test_links_begin_as_the_client_reached_the_proxy(make_api):
    api = make_api(trusted_proxies="10.0.0.0/8")
    assert link(api, PROXY, **HTTPS) == "https://runs.example:8443"
    assert link(api, "192.0.2.1", **HTTPS) == "http://localhost"
    assert link(api, PROXY, **HTTPS | {"X-Forwarded-Host": "evil.example/x"}) == "https://localhost"
    listed = api.client.get("/v1/runs", headers=AUTH | HTTPS, environ_base={"REMOTE_ADDR": PROXY}).json["data"]
    assert all(run["artifacts"][0]["url"].startswith("https://runs.example:8443/v1/files/") for run in listed)


def test_without_trusted_proxies_nobody_is_believed(make_api):
    assert link(make_api(), "127.0.0.1", **HTTPS) == "http://localhost"


def test_a_public_base_url_goes_before_every_header(make_api):
    api = make_api(trusted_proxies="10.0.0.0/8", public_base_url="https://set.example/runs")
    assert link(api, PROXY, **HTTPS) == "https://set.example/runs"


def test_the_document_and_redirects_name_no_host(make_api):
    api = make_api(trusted_proxies="10.0.0.0/8")
    assert api.client.get("/openapi.json", headers=HTTPS, environ_base={"REMOTE_ADDR": PROXY}).json["servers"] == [
        {"url": "/"}
    ]
    assert not [rule.rule for rule in api.app.url_map.iter_rules() if rule.rule != "/" and rule.rule.endswith("/")]
