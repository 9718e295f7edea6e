"""`runyard login`, `logout`, `whoami`, `usage`, `run`, its help, and input that goes nowhere."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess

import click
import pytest
from runyard.cli import cli

from tests.clients.conftest import COMMAND, SECONDS

IGNORED = b"runyard: stdin is not passed to the program: add --stdin - to pass it, or </dev/null to leave it out\n"


@pytest.fixture
def config(tmp_path):
    return tmp_path / "config/runyard/config.toml"


@pytest.fixture
def fresh(runyard, tmp_path):
    """The command where neither the environment nor a file says anything: what is stored decides."""

    def typed(*arguments, stdin=b"", **variables):
        empty = {"RUNYARD_URL": "", "RUNYARD_API_KEY": "", "XDG_CONFIG_HOME": str(tmp_path / "config")}
        return runyard(*arguments, stdin=stdin, **(empty | variables))

    return typed


def test_logging_in_stores_a_key_for_its_owner_alone(fresh, service, config):
    code, out, err = fresh("login", service.url, stdin=service.token.encode() + b"\n")
    assert (code, out) == (0, b""), err
    assert b"logged in to" in err
    assert b"dev (key_" in err
    assert service.token.encode() not in err
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
    assert config.read_text() == f'url = "{service.url}"\napi_key = "{service.token}"\n'
    assert os.listdir(config.parent) == ["config.toml"]

    code, out, _ = fresh("whoami")
    assert (code, out.decode().splitlines()[0]) == (0, f"service    {service.url} (from {config})")
    assert re.search(rb"^key        dev \(key_\w+\) ", out, re.MULTILINE)
    assert re.search(rb"^runs left  no limit$", out, re.MULTILINE)
    assert json.loads(fresh("whoami", "--json")[1])["label"] == "dev"
    assert fresh("exec", "-r", "bash", "echo hi")[:2] == (0, b"hi\n")

    config.chmod(0o644)
    assert b"chmod 600" in fresh("doctor")[1]
    code, _, err = fresh("logout")
    assert (code, b"removed the key" in err) == (0, True)
    assert config.read_text() == f'url = "{service.url}"\n'
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert b"no key is stored" in fresh("logout")[2]


def test_a_key_that_the_service_refuses_changes_nothing(fresh, service, config):
    assert fresh("login", service.url, stdin=service.token.encode())[0] == 0
    before = config.read_bytes()
    for stdin, code, said in (
        (b"wrong\n", 125, b"Invalid token"),
        (b"", 2, b"no key was given"),
        ("schlüssel\n".encode(), 125, b"visible ASCII"),
        (b"\xff\xfe\n", 125, b"visible ASCII"),
        (b"x" * 100_000, 125, b"512"),
    ):
        found, _, err = fresh("login", stdin=stdin)
        assert (found, said in err) == (code, True), err
    assert fresh("login", "nonsense", stdin=b"x\n")[0] == 125
    assert config.read_bytes() == before


def test_logging_in_says_what_overrides_it_and_keeps_a_link(fresh, service, config, tmp_path):
    kept = tmp_path / "dotfiles"
    kept.write_text("")
    kept.chmod(0o644)
    config.parent.mkdir(parents=True)
    config.symlink_to(kept)
    code, _, err = fresh("login", service.url, stdin=service.token.encode(), RUNYARD_API_KEY="other")
    assert (code, b"RUNYARD_API_KEY is set" in err) == (0, True), err
    assert config.is_symlink()
    assert (service.token in kept.read_text(), stat.S_IMODE(kept.stat().st_mode)) == (True, 0o600)
    code, _, err = fresh(
        "login", stdin=b"x\n", RUNYARD_CONFIG=str(tmp_path / "none/yet.toml"), RUNYARD_URL=service.url
    )
    assert (code, (tmp_path / "none").exists()) == (
        125,
        False,
    )  # the key is wrong; the missing file is not at fault
    assert b"no such file" not in err


def test_run_is_exec(runyard):
    assert runyard("run", "-r", "bash", "echo same; exit 3") == (3, b"same\n", b"")


def test_usage_is_a_table(here, service):
    assert here("exec", "-r", "bash", "true")[0] == 0
    code, out, err = here("usage")
    rows = [line.split() for line in out.decode().splitlines()]
    assert (code, rows[0]) == (0, ["LANGUAGE", "RUNS", "CPU", "WALL", "GB-SECONDS"])
    bash = next(row for row in rows if row[0] == "bash")
    assert int(bash[1]) >= 1
    assert rows[-1][0] == "all"
    assert int(rows[-1][1]) == sum(int(row[1]) for row in rows[1:-1])
    assert re.search(rb"\d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d \(UTC\): \d+ bytes in, \d+ bytes out", err)
    assert json.loads(here("usage", "--json")[1])["by_language"]["bash"]["runs"] >= 1


# -- input that goes nowhere -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["script.sh"], ["-c", "cat", "-r", "bash"], ["cat", "-r", "bash", "--stdin", "f"], ["-d", "script.sh"]],
)
def test_piped_input_that_is_not_read_is_reported(runyard, tmp_path, arguments):
    (tmp_path / "script.sh").write_text("cat")
    (tmp_path / "f").write_text("of a file")
    code, out, err = runyard("exec", *arguments, stdin=b"lost")
    assert (code, err) == (0, IGNORED)
    assert "-d" in arguments or out == (b"of a file" if "--stdin" in arguments else b"")


def test_quiet_reports_no_input(runyard):
    assert runyard("exec", "-q", "-r", "bash", "cat", stdin=b"lost") == (0, b"", b"")


@pytest.mark.parametrize(
    ("redirection", "said"),
    [("< f", IGNORED), ("< <(echo text)", IGNORED), ("< /dev/null", b""), ("<&-", b"")],
)
def test_a_file_that_is_not_read_is_reported_and_an_empty_one_is_not(environment, tmp_path, redirection, said):
    (tmp_path / "f").write_text("lost")
    command = f"{' '.join(COMMAND)} exec -r bash 'echo ran' {redirection}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, timeout=SECONDS, check=True
    )
    assert (done.stdout, done.stderr) == (b"ran\n", said)


def test_input_that_comes_while_the_program_runs_is_reported_too(environment):
    command = f"(sleep 0.9; echo late; sleep 1) | {' '.join(COMMAND)} exec -r bash 'sleep 1.5'"
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, timeout=SECONDS, check=True
    )
    assert done.stderr == IGNORED


def test_input_that_is_read_is_not_reported(runyard):
    assert runyard("exec", "-r", "bash", "-", stdin=b"echo program") == (0, b"program\n", b"")
    assert runyard("exec", "-r", "bash", "cat", "--stdin", "-", stdin=b"input") == (0, b"input", b"")


# -- help ------------------------------------------------------------------------------------------


def commands(group, names=()):
    for name, command in group.commands.items():
        yield (*names, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*names, name))


@pytest.mark.parametrize("names", list(commands(cli)), ids=" ".join)
def test_help_shows_what_was_written_in_lines(here, names):
    code, out, err = here(*names, "--help")
    assert (code, err) == (0, b"")
    assert b"\\b" not in out
    assert b"\b" not in out
    command = cli
    for name in names:
        command = command.commands[name]
    written = [
        line for line in (command.help or "").splitlines() if line.lstrip().startswith(("runyard ", "echo "))
    ]
    shown = [line.strip() for line in out.decode().splitlines()]
    assert all(line.strip() in shown for line in written)


def test_help_of_exec_has_its_examples_and_exit_codes_in_lines(here):
    shown = [line.strip() for line in here("exec", "--help")[1].decode().splitlines()]
    assert 'runyard exec --runtime python "print(1+1)"' in shown
    assert "echo 'puts 1+1' | runyard exec --runtime ruby -" in shown
    assert "124    timeout" in shown
