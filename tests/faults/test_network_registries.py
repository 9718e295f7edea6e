"""One package from each registry that this machine reaches, by its own tool and through the egress process."""

from __future__ import annotations

import socket
import sys

import pytest

from tests.faults.conftest import SERVICE_UIDS
from tests.support.network_world import DNS_PORT, run_by_proxy, start_world

pytestmark = pytest.mark.slow


class MachinesNames(dict):
    """Names for the tests' DNS server, as this machine resolves them."""

    def get(self, name, default=None):
        try:
            return [sorted({found[4][0] for found in socket.getaddrinfo(name, 443, socket.AF_INET)})]
        except OSError:
            return default


@pytest.fixture(scope="module")
def registries(service, tmp_path_factory):
    """Yield a service whose egress process reaches what this machine reaches, whatever its addresses."""
    for found in start_world(
        service,
        SERVICE_UIDS,
        tmp_path_factory.mktemp("registries"),
        EGRESS_ALLOW="*",
        RUNYARD_EGRESS_TEST=f"0.0.0.0/0;127.0.0.1:{DNS_PORT}",
    ):
        found.dns.names = MachinesNames()
        yield found


#: A command that gets one package from its registry, into the working directory.
REGISTRY_TOOLS = {
    "pip": [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-cache-dir",
        "--no-deps",
        "-d",
        "got",
        "six==1.16.0",
    ],
    "npm": ["npm", "pack", "--cache", "cache", "is-odd@3.0.1"],
    "go": ["go", "mod", "download", "-x", "golang.org/x/text@v0.14.0"],
    "cargo": ["cargo", "fetch"],
}


@pytest.mark.parametrize("tool", REGISTRY_TOOLS)
def test_a_package_comes_from_the_registry(registries, tmp_path, tool):
    (tmp_path / "Cargo.toml").write_text(
        '[package]\nname = "own"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\ncfg-if = "1"\n'
    )
    (tmp_path / "src").mkdir()
    (tmp_path / "src/lib.rs").write_text("")
    (tmp_path / "go.mod").write_text("module own\n")
    env = {"GOMODCACHE": str(tmp_path / "modules"), "GOFLAGS": "-modcacherw", "CARGO_HOME": str(tmp_path / "home")}
    run_by_proxy(registries, REGISTRY_TOOLS[tool], tmp_path, env, allow=["*"])
    expected = {"pip": "got/six-1.16.0*", "npm": "is-odd-3.0.1.tgz", "go": "modules/cache/download/golang.org/**/*.zip",
                "cargo": "home/registry/cache/*/cfg-if-1*.crate"}  # fmt: skip
    assert list(tmp_path.glob(expected[tool]))
