"""The texts that cargo's step of a build reads: what cargo says, and the arguments that it gives rustc."""

import json

import pytest


@pytest.fixture
def cargo(fresh_agent):
    import agent.packages.cargo

    return agent.packages.cargo


NEEDED = "location searched: crates index\nrequired by package `{} v0.0.0 (/work/project)`\n"


@pytest.mark.parametrize(
    ("said", "needed_by", "missing"),
    [
        ("error: no matching package named `alpha` found\n", "runyard-program", "alpha[one]@*"),
        ("error: no matching package found\nsearched package name: `beta-x`\n", "runyard-program", "beta-x@^1"),
        (
            'error: failed to select a version for the requirement `alpha = "^9"`\n'
            "candidate versions found which didn't match: 2.0.0\n",
            "runyard-program",
            "alpha[one]@*",
        ),
        ("error: no matching package named `alpha` found\n", "beta-x", None),
        ("error: no matching package named `gamma` found\n", "runyard-program", None),
        ("error: failed to select a version for `alpha`.\n", "runyard-program", None),
        ("error: checksum for `alpha v1.0.0` changed between lock files\n", "runyard-program", None),
    ],
)
def test_the_missing_entry_is_found_in_what_cargo_says(cargo, said, needed_by, missing):
    assert cargo._missing(said + NEEDED.format(needed_by), ["alpha[one]@*", "beta-x@^1"]) == missing


def test_an_entry_is_a_dependency_with_its_features(cargo):
    assert cargo._dependency("serde[derive,rc]@=1.0.219") == (
        'serde = { version = "=1.0.219", features = ["derive", "rc"] }\n'
    )
    assert cargo._dependency("rand@>=0.8, <0.9") == 'rand = { version = ">=0.8, <0.9", features = [] }\n'


def test_the_arguments_name_what_lies_in_the_layer(cargo, tmp_path, monkeypatch):
    target, place = tmp_path / "target", tmp_path / "place"
    made = target / "x/debug/build/beta-1/out"
    made.mkdir(parents=True)
    for name in ("libb.a", "notes.txt"):
        (made / name).write_text(name)
    (place / "deps").mkdir(parents=True)
    (place / "deps/libalpha-1.rlib").write_text("")
    monkeypatch.setattr(cargo, "TARGET", str(target))
    recorded = [
        "--crate-name", "runyard_program", "-C", "metadata=1",
        "-L", f"dependency={target}/x/debug/deps", "-L", f"native={made}", "-L", "native=/usr/lib", "-L", "/usr/lib",
        "-L", f"native={target}/gone",
        "--extern", f"alpha={target}/x/debug/deps/libalpha-1.rlib",
        "--extern", f"gone={target}/x/debug/deps/libgone-1.so", "-l", "z",
    ]  # fmt: skip
    assert list(cargo._arguments(recorded, str(place))) == [
        "-L", "dependency=/opt/packages/rust/deps",
        "-L", "native=/opt/packages/rust/native/x_debug_build_beta-1_out", "-L", "native=/usr/lib", "-L", "/usr/lib",
        "-L", f"native={target}/gone",
        "--extern", "alpha=/opt/packages/rust/deps/libalpha-1.rlib", "-l", "z",
    ]  # fmt: skip
    assert [path.name for path in (place / "native").rglob("*.*")] == ["libb.a"]


@pytest.mark.parametrize(
    ("given", "index"),
    [
        ("sparse+https://crates.test/index/", "https://crates.test/index/"),
        ("https://crates.test/index", "https://crates.test/index/"),
    ],
)
def test_a_given_index_is_an_address_of_http(cargo, given, index):
    assert cargo.hosts({"index": given}) == {"index": index, "hosts": []}


@pytest.mark.parametrize(
    ("dl", "hosts"),
    [
        ("https://files.test/crates", ["files.test:443"]),
        ("http://[::1]:8080/{crate}/{version}", ["[::1]:8080"]),
        ("ftp://files.test/", None),
        ("https://{crate}.test:x/", None),
        (7, None),
        (None, None),
    ],
)
def test_the_host_of_downloads_is_in_the_indexs_configuration(cargo, monkeypatch, dl, hosts):

    content = json.dumps({"dl": dl} if dl is not None else {}).encode()
    monkeypatch.setattr(cargo.sources, "get", lambda url, _most: (content, url))
    if hosts is None:
        with pytest.raises(OSError, match=r"config\.json"):
            cargo.downloads({"index": "https://crates.test/"})
    else:
        assert cargo.downloads({"index": "https://crates.test/"}) == {
            "index": "https://crates.test/",
            "hosts": hosts,
        }
