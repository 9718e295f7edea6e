"""The output of a build's tool as its client sees it, and the report of what it has installed."""

import json

import pytest

from sandbox.frames import ProtocolError
from sandbox.layers.credentials import Credentials
from sandbox.layers.facts import LockedPackage
from sandbox.layers.registries import (
    Registries,
    RegistryUnusable,
    parse_hosts,
    patterns_of,
    refuse_password,
    registries_of_host,
)
from sandbox.layers.resolutions import Resolutions
from sandbox.layers.steps import MAX_LINE_LENGTH, MAX_LINES, TAIL_LINES, StepOutput, read_packages

SIX = LockedPackage("six", "1.16.0", "f" * 64)


def test_output_is_told_by_lines_however_it_is_cut():
    lines = []
    output = StepOutput(lines.append, Credentials(""))
    for piece in (b"Coll", b"ecting six\n\n  Down", b"loading\x1b[32m six\x1b[0m\r\n", b"the rest"):
        output.take(piece)
    assert lines == ["Collecting six", "  Downloading six"]
    output.end()
    assert lines[-1] == "the rest"


def test_a_flood_of_output_is_bounded():
    lines = []
    output = StepOutput(lines.append, Credentials(""))
    output.take(b"x" * 10_000_000)
    output.take(b"\n" + b"line\n" * 100_000)
    assert len(lines) == MAX_LINES
    assert max(map(len, lines)) <= MAX_LINE_LENGTH
    assert output.tail().count("\n") == TAIL_LINES - 1


def test_the_report_is_read():
    assert read_packages(json.dumps([["six", "1.16.0", "f" * 64], ["x", "1", "0" * 64]]).encode()) == (
        SIX,
        LockedPackage("x", "1", "0" * 64),
    )


@pytest.mark.parametrize(
    "report",
    ["", "{}", "[1]", '[["a","1"]]', '[["a","1","zz"]]', '[["a\\n","1",""]]', '[["","1","0"]]', "[" * 100_000],
)
def test_a_report_that_is_none_is_refused(report):
    with pytest.raises(ProtocolError):
        read_packages(report.encode())


def test_a_resolution_is_found_again_until_it_is_old(tmp_path):
    now = [1000.0]
    found = Resolutions(tmp_path / "resolved", lambda: now[0])
    assert found.find("k", "image", ("six",), is_pinned=False) == ()
    found.keep("k", "image", ("six",), (SIX,), now[0])
    assert found.find("k", "image", ("six",), is_pinned=False) == (SIX,)
    assert found.find("other", "image", ("six",), is_pinned=False) == ()
    now[0] += 7 * 24 * 3600
    assert found.find("k", "image", ("six",), is_pinned=False) == ()
    assert found.find("k", "image", ("six",), is_pinned=True) == (SIX,)


def test_a_damaged_resolution_is_none(tmp_path):
    found = Resolutions(tmp_path)
    found.keep("k", "image", ("six",), (SIX,), 1000.0)
    (file,) = tmp_path.iterdir()
    file.write_text("[[")
    assert found.find("k", "image", ("six",), is_pinned=True) == ()


def test_the_oldest_resolutions_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr("sandbox.layers.resolutions.MOST", 2)
    now = [1000.0]
    found = Resolutions(tmp_path, lambda: now[0])
    for name in ("a", "b", "c"):
        now[0] += 1
        found.keep("k", "image", (name,), (SIX,), now[0])
    assert found.collect() == 1
    assert found.find("k", "image", ("a",), is_pinned=True) == ()
    assert found.find("k", "image", ("c",), is_pinned=True) == (SIX,)


def test_a_registry_of_the_settings_wins_over_the_configuration_of_the_tools(tmp_path):
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip/pip.conf").write_text("[global]\nindex-url = https://wheels.test/simple\n")
    (tmp_path / ".npmrc").write_text("registry=https://npm.test/\n//npm.test/:_authToken=x\n")
    (tmp_path / ".cargo").mkdir()
    (tmp_path / ".cargo/config.toml").write_text(
        '[source.crates-io]\nreplace-with = "mirror"\n[source.mirror]\nregistry = "sparse+https://crates.test/"\n'
    )
    found = registries_of_host(Registries(npm="https://own.test/"), tmp_path)
    assert found.pip == "https://wheels.test/simple"
    assert found.npm == "https://own.test/"
    assert found.cargo == "sparse+https://crates.test/"


@pytest.mark.parametrize("text", ["[global]\nindex-url", "\x00", "[global]\n[global]\n"])
def test_a_configuration_that_cannot_be_read_names_no_registry(tmp_path, text):
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip/pip.conf").write_text(text)
    (tmp_path / ".cargo").mkdir()
    (tmp_path / ".cargo/config.toml").write_text(text)
    assert registries_of_host(Registries(), tmp_path).cargo == ""


def test_a_builder_reaches_the_registry_and_its_files():
    assert patterns_of("https://wheels.test/simple/", ["files.test"]) == ("wheels.test:443", "files.test")
    assert patterns_of("http://127.0.0.1:3141/x", []) == ("127.0.0.1:3141",)
    assert patterns_of("https://[2001:db8::1]:8443/", []) == ("[2001:db8::1]:8443",)


@pytest.mark.parametrize(
    "index", ["", "ftp://a.test/", "https://", "https://a.test:99999/", "https://a b/", "file:///x"]
)
def test_a_registry_that_no_builder_could_reach_is_refused(index):
    with pytest.raises(RegistryUnusable):
        patterns_of(index, [])


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"index":1,"hosts":[]}', b'{"index":"x","hosts":[1]}'])
def test_hosts_that_no_builder_names_are_refused(text):
    with pytest.raises(RegistryUnusable):
        parse_hosts(text)


@pytest.mark.parametrize("index", ["sparse+https://user:n33dle@crates.test/", "http://user:n33dle@crates.test"])
def test_an_index_of_crates_has_no_password_that_their_code_could_read(index):
    with pytest.raises(RegistryUnusable, match="password") as refused:
        refuse_password(index)
    assert "n33dle" not in str(refused.value)
    refuse_password("sparse+https://crates.test/a@b/")
    refuse_password("")


INDEX = "https://user:n33d%40le@wheels.test/simple/"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (INDEX, "https://***@wheels.test/simple/"),
        ("https://user:n33d@le@wheels.test/x", "https://***@wheels.test/x"),
        ("the password n33d@le is wrong", "the password *** is wrong"),
        ("Basic dXNlcjpuMzNkQGxl", "Basic ***"),
        ("n33d\x1b[1m%40le", "***"),
        (
            "http://other:words@elsewhere.test/ https://token@x.test",
            "http://***@elsewhere.test/ https://***@x.test",
        ),
        ("https://wheels.test/@types/node@18 by a@b.test", "https://wheels.test/@types/node@18 by a@b.test"),
    ],
)
def test_a_line_has_no_credentials_of_a_registry(line, shown):
    lines = []
    output = StepOutput(lines.append, Credentials(INDEX))
    output.take(f"{line}\n".encode())
    assert lines == [shown]
    assert output.tail() == shown


@pytest.mark.parametrize(
    ("index", "secret"),
    [
        ("https://t0k3n.test@x.test/", "t0k3n.test"),
        ("https://a.test,http://u:s3cret@b.test/|https://v:0ther@c.test", "s3cret"),
        ("https://a.test,http://u:s3cret@b.test/|https://v:0ther@c.test", "0ther"),
        ("sparse+https://u:s3cret@b.test/", "s3cret"),
        ("https://:s3cret@b.test/", "s3cret"),
    ],
)
def test_every_credential_of_a_registry_is_masked(index, secret):
    assert Credentials(index).masked(f"<{secret}>") == "<***>"
    assert secret not in Credentials(index).masked(index)


def test_a_short_password_is_masked_in_addresses_alone():
    assert Credentials("https://u:ab@x.test/").masked("about https://u:ab@x.test/") == "about https://***@x.test/"


def test_no_part_of_a_password_is_left_where_a_line_is_cut():
    lines = []
    output = StepOutput(lines.append, Credentials(INDEX))
    for shift in range(20):
        output.take(b"x" * (MAX_LINE_LENGTH - shift) + INDEX.encode() + b"\n")
    assert len(lines) == 20
    assert not any("n3" in line or "user" in line for line in lines)


@pytest.mark.parametrize(
    "index", ["ftp://user:n33dle@a.test/", "https://user:n33dle@a.test:99999/", "user:n33dle@a.test"]
)
def test_a_registry_that_cannot_be_used_is_named_without_its_password(index):
    with pytest.raises(RegistryUnusable) as refused:
        patterns_of(index, [])
    assert "n33dle" not in str(refused.value)
    assert "a.test" in str(refused.value)
