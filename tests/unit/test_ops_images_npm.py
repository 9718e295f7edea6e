"""What of the host's npm configuration a build is given: how to reach the registry, and nothing else."""

from __future__ import annotations

import pytest

from ops.images import npm


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """Call it with an npmrc and an environment; the npmrc of the build, and its environment."""

    def configured(npmrc="", **environment):
        (tmp_path / "user").write_text(npmrc)
        monkeypatch.setattr(npm, "_GLOBAL", tmp_path / "global")
        monkeypatch.setattr("os.environ", {"NPM_CONFIG_USERCONFIG": str(tmp_path / "user"), **environment})
        given = npm.configuration(tmp_path, "/inside")
        return (tmp_path / "npmrc").read_text(), given

    return configured


def test_registries_and_how_they_are_reached_are_passed_on(configured):
    npmrc = "registry=https://registry.example/\n@a:registry = https://a.example\n//a.example/:_authToken=${NPM_TOKEN}\nhttps-proxy=x\n"
    assert configured(npmrc)[0] == npmrc


def test_what_would_change_the_build_is_not(configured):
    assert (
        configured("prefix=/opt\nignore-scripts=false\n; a comment\ncafile=/etc/x.pem\nscript-shell=sh\n")[0] == ""
    )


def test_the_environment_is_held_to_the_same(configured):
    given = configured(npm_config_registry="r", NPM_CONFIG_STRICT_SSL="f", npm_config_prefix="/x", NPM_TOKEN="t")[1]
    assert given["npm_config_registry"] == "r"
    assert given["NPM_CONFIG_STRICT_SSL"] == "f"
    assert given["NPM_TOKEN"] == "t"
    assert "npm_config_prefix" not in given
    assert given["NPM_CONFIG_USERCONFIG"] == "/inside/npmrc"


def test_only_root_may_read_it(configured, tmp_path):
    configured("//a.example/:_authToken=secret\n")
    assert (tmp_path / "npmrc").stat().st_mode & 0o777 == 0o600


def test_a_host_without_any_is_no_matter(tmp_path, monkeypatch):
    monkeypatch.setattr("os.environ", {"NPM_CONFIG_USERCONFIG": str(tmp_path / "nowhere")})
    monkeypatch.setattr(npm, "_GLOBAL", tmp_path / "nowhere-either")
    npm.configuration(tmp_path, "/inside")
    assert (tmp_path / "npmrc").read_text() == ""
