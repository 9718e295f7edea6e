"""The agent's steps of a build where a registry wants a password: the file for npm, and the download of sources."""

import base64
import os

import pytest

from tests.support.registries import package_registry, sdist


@pytest.fixture
def npm(fresh_agent, tmp_path, monkeypatch):
    import agent.packages.npm

    monkeypatch.setattr(agent.packages.npm, "CONFIG", str(tmp_path / "npmrc"))
    return agent.packages.npm


@pytest.fixture
def sources(fresh_agent, monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    import agent.packages.sources

    return agent.packages.sources


def test_a_registry_without_a_password_has_no_file(npm, tmp_path):
    assert npm._login("https://npm.test/a/") == "https://npm.test/a/"
    assert not (tmp_path / "npmrc").exists()


@pytest.mark.parametrize(
    ("index", "address", "line"),
    [
        (
            "https://us%3Aer:n33d%40le@npm.test:8443/a/",
            "https://npm.test:8443/a/",
            "//npm.test:8443/:_auth=" + base64.b64encode(b"us:er:n33d@le").decode(),
        ),
        ("https://token@npm.test/", "https://npm.test/", "//npm.test/:_authToken=token"),
        ("http://user:@[::1]:80/", "http://[::1]:80/", "//[::1]:80/:_auth=" + base64.b64encode(b"user:").decode()),
    ],
)
def test_npm_gets_the_login_by_its_configuration(npm, tmp_path, index, address, line):
    assert npm._login(index) == address
    assert (tmp_path / "npmrc").read_text() == f"{line}\n"


def test_a_login_is_sent_to_the_host_of_the_index_alone(sources):
    with package_registry("us%3Aer:n33d%40le") as registry:
        name, content = sdist("plain", "1.0", {"setup.py": ""})
        registry.pip((name, content))
        _, url, sha256 = sources.find(registry.pypi_url, "plain")
        assert "@" not in url
        assert sources.get(url, 1 << 20, registry.pypi_url)[0] == content
        assert len(sha256) == 64
        for index in (
            "",
            registry.pypi_url.replace("127.0.0.1", "localhost"),
            registry.pypi_url.replace("n33", "x"),
        ):
            with pytest.raises(OSError, match="401"):
                sources.get(url, 1 << 20, index)
        assert sources.find(f"{registry.url}/simple/", "plain") is None


def test_no_proxy_is_left_for_a_build(fresh_agent, monkeypatch):
    from agent.packages.tool import forget_proxy

    for name in ("HTTP_PROXY", "https_proxy", "ALL_PROXY", "MY_PROXY_HOST"):
        monkeypatch.setenv(name, "http://127.0.0.1:3128")
    forget_proxy()
    assert [name for name in os.environ if "proxy" in name.lower()] == ["MY_PROXY_HOST"]


def test_a_tool_is_run_to_its_end(fresh_agent, capfd, tmp_path):
    from agent.packages.tool import run

    lines = []
    assert run(["sh", "-c", "echo one; echo two >&2; exit 3"], str(tmp_path), on_line=lines.append) == 3
    assert lines == ["one\n", "two\n"]
    assert capfd.readouterr().err == "one\ntwo\n"
