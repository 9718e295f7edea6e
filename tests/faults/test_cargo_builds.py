"""Crates of runs, from a registry of the tests: honest ones, missing ones, and those that do as they like in a build."""

from __future__ import annotations

import json
import shutil
from functools import partial

import pytest

from tests.faults.conftest import SHARED_UIDS
from tests.support.own_service import OwnService, new_state
from tests.support.package_shop import Shop
from tests.support.registries import crate, package_registry

#: The first build waits for the image to be measured.
pytestmark = pytest.mark.timeout(120)

PROC_MACRO = """
extern crate proc_macro;
#[proc_macro]
pub fn answer(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
    format!("{}u32", counted::COUNT).parse().unwrap()
}
"""

#: A build script that tries all that it must not, and has its crate tell the outcome.
LOOK = r"""
use std::{env, fs, io::{Read, Write}, net::TcpStream, path::Path};

fn ask(address: &str, url: &str) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {url} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split(' ').nth(1).unwrap_or("none").to_string())
}

fn main() {
    let found = [
        ("registry", ask("127.0.0.1:PORT", "/crates/config.json")),
        ("proxy", ask("127.0.0.1:3128", "http://127.0.0.1:PORT/crates/config.json")),
        ("shadow", fs::read_to_string("/etc/shadow")),
        ("root", fs::read_to_string("/proc/1/environ")),
        ("image", fs::write("/opt/packages/rust/arguments", "").map(|_| "written".into())),
        ("secrets", Ok(env::vars().filter(|(name, _)| name.contains("TOKEN") || name.contains("SECRET")).count().to_string())),
    ];
    let said: Vec<String> = found.into_iter()
        .map(|(name, what)| format!("{name}={}", what.unwrap_or_else(|e| format!("{:?}", e.kind()))))
        .collect();
    let place = Path::new(&env::var("OUT_DIR").unwrap()).join("found.rs");
    fs::write(place, format!("pub const FOUND: &str = {:?};", said.join(" "))).unwrap();
}
"""

#: Makes a file in the layer beside the place of crates, where the layer would cover the image's own.
COVER = """
fn main() {
    std::fs::create_dir_all("/work/layer/opt/runyard/agent").unwrap();
    std::fs::write("/work/layer/opt/runyard/agent/main.py", "").unwrap();
}
"""

#: Puts a link to the root in place of the directory of packages, which another engine mounts from the host.
LINK = """
use std::{fs, os::unix::fs::symlink};
fn main() {
    fs::create_dir_all("/work/layer/opt").unwrap();
    symlink("/work/elsewhere", "/work/layer/opt/packages").unwrap();
    fs::create_dir_all("/work/elsewhere").unwrap();
}
"""

CHOSEN = 'pub const IS_MORE: bool = cfg!(feature = "more");'
KILL = 'fn main() { std::process::Command::new("sh").args(["-c", "kill -9 -1"]).status().unwrap(); }'


@pytest.fixture(scope="module")
def shop(service):
    with package_registry() as registry:
        port = registry.url.rpartition(":")[2]
        registry.cargo(
            crate("counted", "1.0.0", {"src/lib.rs": "pub const COUNT: u32 = 1;"}),
            crate("counted", "2.1.0", {"src/lib.rs": "pub const COUNT: u32 = 42;"}),
            crate("top-level", "1.0.0", {"src/lib.rs": "pub use counted::COUNT;"}, ["counted"]),
            crate("macros", "1.0.0", {"src/lib.rs": PROC_MACRO}, ["counted"], "[lib]\nproc-macro = true\n"),
            crate(
                "looker",
                "1.0.0",
                {
                    "build.rs": LOOK.replace("PORT", port),
                    "src/lib.rs": 'include!(concat!(env!("OUT_DIR"), "/found.rs"));',
                },
            ),
            crate("chosen", "1.0.0", {"src/lib.rs": CHOSEN}, features=["more"]),
            crate("needy", "1.0.0", {"src/lib.rs": ""}, ["not-there"]),
            crate("broken", "1.0.0", {"src/lib.rs": 'pub fn f() -> u32 { "text" }'}),
            crate("coverer", "1.0.0", {"build.rs": COVER, "src/lib.rs": ""}),
            crate("killer", "1.0.0", {"build.rs": KILL, "src/lib.rs": ""}),
            crate("linked", "1.0.0", {"build.rs": LINK, "src/lib.rs": ""}),
        )
        state = new_state()
        own = OwnService(
            service,
            state,
            SHARED_UIDS,
            LANGUAGES="rust,bash",
            WARM_POOL="rust=1,bash=1",
            PACKAGES="any",
            CARGO_INDEX=registry.cargo_index,
            PACKAGES_TIMEOUT_S="60",
        )
        try:
            yield Shop(own.up(), registry, "rust")
        finally:
            own.down()
            shutil.rmtree(state)


def main(expression, uses=""):
    return f'{uses}\nfn main() {{ println!("{{}}", {expression}); }}'


def test_a_crate_and_what_it_needs_are_there(shop):
    run = shop.ran(main("top_level::COUNT"), ["top-level"])
    assert run["stdout"] == "42\n", run
    layer = shop.service.get(f"/v1/layers/{run['layer']}").body
    found = [(one["name"], one["version"]) for one in layer["packages"]]
    assert found == [("counted", "2.1.0"), ("top-level", "1.0.0")]
    assert all(len(one["sha256"]) == 64 for one in layer["packages"])


def test_a_layer_serves_its_own_key_again_and_no_other(shop):
    run = shop.ran(main("counted::COUNT"), ["counted@=1.0.0"])
    assert run["stdout"] == "1\n", run
    asked = len(shop.registry.asked)
    again = shop.ran(main("counted::COUNT + 1"), ["counted@=1.0.0"])
    assert (again["stdout"], again["layer"], len(shop.registry.asked)) == ("2\n", run["layer"], asked)
    other = shop.ran(main("counted::COUNT"), ["counted@=1.0.0"], token=shop.service.other_token)
    assert other["layer"] != run["layer"], "crates are executed when they are compiled"


def test_a_procedural_macro_is_executed_by_the_compiler(shop):
    run = shop.ran(main("macros::answer!()"), ["macros"])
    assert run["stdout"] == "42\n", run


def test_a_function_is_linked_with_its_crates(shop):
    code = 'pub fn run(input: String) -> Result<String, String> { Ok(format!("{input} {}", top_level::COUNT)) }'
    body = {"language": "rust", "code": code, "packages": ["top-level"]}
    headers = {"Content-Type": "application/json"}
    put = partial(shop.service.request, "PUT", "/v1/functions/linked", headers=headers, timeout=120)
    deployed = put(json.dumps(body).encode())
    assert (deployed.status, deployed.body["state"]) == (201, "ready"), deployed.body
    run = shop.service.post("/v1/functions/linked/runs", json={"input": "got"}).body
    assert (run["output"], run["isolation"]["network"]) == ("got 42", "none"), run
    refused = put(json.dumps(body | {"packages": ["no-such-thing"]}).encode())
    assert (refused.status, refused.body["error"]["code"]) == (400, "package_not_found"), refused.body


def test_a_crate_has_the_features_that_are_asked_for(shop):
    run = shop.ran(main("chosen::IS_MORE"), ["chosen[more]"])
    assert run["stdout"] == "true\n", run
    error = shop.refused(["chosen[less]"])
    assert (error["code"], "less" in error["message"]) == ("package_build_failed", True), error


def test_a_program_without_packages_has_none(shop):
    run = shop.service.run("rust", main("counted::COUNT"))
    assert run["status"] == "failed", run
    assert "counted" in run["compile"]["stderr"], run


def test_a_build_script_reaches_nothing(shop):
    run = shop.ran(main("looker::FOUND"), ["looker"])
    found = dict(one.split("=") for one in run["stdout"].split())
    assert found == {
        "registry": "ConnectionRefused", "proxy": "403", "shadow": "PermissionDenied", "root": "PermissionDenied",
        "image": "ReadOnlyFilesystem", "secrets": "0",
    }, found  # fmt: skip


@pytest.mark.parametrize(
    ("packages", "index"),
    [(["counted", "no-such-thing"], 1), (["counted@9"], 0), (["countet", "top-level"], 0)],
)
def test_a_crate_that_is_not_in_the_registry_is_named(shop, packages, index):
    error = shop.refused(packages)
    assert (error["code"], error["param"]) == ("package_not_found", f"packages.{index}"), error


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("needy", "not-there"),
        ("broken", "mismatched types"),
        ("coverer", "no place"),
        ("linked", "no place"),
        ("killer", "build"),
    ],
)
def test_a_build_that_fails_or_misbehaves_fails_alone(shop, name, said):
    error = shop.refused([name])
    assert error["code"] == "package_build_failed", error
    assert said in error["message"], error
    assert shop.service.run("bash", "echo alive")["stdout"] == "alive\n"


def test_a_later_build_takes_the_versions_of_the_first_and_refuses_another_file(shop):
    shop.registry.cargo(crate("steady", "1.0.0", {"src/lib.rs": "pub const A: u8 = 1;"}))
    layer = shop.ran(main("steady::A"), ["steady"])["layer"]
    store = shop.service.state / "layers/store"
    shutil.rmtree(store / layer)
    same = crate("steady", "1.0.0", {"src/lib.rs": "pub const A: u8 = 1;"})
    shop.registry.cargo(same, crate("steady", "1.1.0", {"src/lib.rs": "pub const A: u8 = 2;"}))
    again = shop.ran(main("steady::A"), ["steady"])
    assert again["stdout"] == "1\n", again
    shutil.rmtree(store / again["layer"])
    shop.registry.cargo(crate("steady", "1.0.0", {"src/lib.rs": "pub const A: u8 = 3;"}))
    error = shop.refused(["steady"])
    assert error["code"] == "package_build_failed", error
    assert "changed" in error["message"], error
