"""A Docker daemon on another machine is refused: nothing could be measured there."""

from __future__ import annotations

import socket

import pytest

from config.docker_host import check_docker_host
from config.settings import SettingsError, load_settings

HERE = [
    "unix:///var/run/docker.sock",
    "unix://nowhere.sock",
    "http+unix:///var/run/docker.sock",
    "tcp://127.0.0.1:2375",
    "tcp://localhost:2375",
    "tcp://LOCALHOST",
    "tcp://[::1]:2376",
    "127.0.0.1:2375",
    "ssh://user@localhost",
    f"tcp://{socket.gethostname()}:2375",
]
ELSEWHERE = [
    "tcp://192.0.2.7:2375",
    "tcp://docker:2375",
    "tcp://[2001:db8::1]:2375",
    "https://docker.example.org",
    "ssh://root@builder.example.org",
    "tcp://localhost.example.org",
    "tcp://127.0.0.1.example.org:2375",
    "192.0.2.7:2375",
    "tcp://0.0.0.0:2375",
    "npipe:////./pipe/docker_engine",
    "tcp://",
]


@pytest.mark.parametrize("text", HERE)
def test_a_daemon_of_this_host_is_taken(text):
    check_docker_host(text)


@pytest.mark.parametrize("text", ELSEWHERE)
def test_a_daemon_of_another_machine_is_refused_with_the_reason(text):
    with pytest.raises(ValueError, match="on another machine"):
        check_docker_host(text)


def test_a_text_that_is_no_address_is_refused_by_name():
    with pytest.raises(ValueError, match="DOCKER_HOST: must be the socket of a daemon on this host"):
        check_docker_host("tcp://[::1")


def test_no_password_is_told():
    with pytest.raises(ValueError, match="DOCKER_HOST=ssh://there: ") as refused:
        check_docker_host("ssh://user:n33dle@there")
    assert "n33dle" not in str(refused.value)


@pytest.mark.parametrize("engine", ["auto", "docker"])
def test_a_start_is_refused_unless_docker_is_out_of_the_question(monkeypatch, engine):
    monkeypatch.setenv("DOCKER_HOST", "ssh://builder.example.org")
    monkeypatch.setenv("ENGINE", engine)
    with pytest.raises(SettingsError, match="through the /proc and the control groups of this host"):
        load_settings()
    monkeypatch.setenv("ENGINE", "oci")
    assert load_settings().engine == "oci"
