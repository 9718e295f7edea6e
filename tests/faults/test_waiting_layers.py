"""A sandbox that waits with a layer of packages, and a build that needs the layer's room on the disk."""

from __future__ import annotations

import os

import pytest

from dispatch.unix import UnixDispatcher
from tests.support.package_shop import Shop
from tests.support.registries import package_registry, wheel
from tests.support.workers import until

#: One key may have a quarter of 16 MiB: two of these do not fit.
DATA = {f"{{name}}/part{number}.py": "x = 1\n" + "#" * 1_000_000 for number in range(3)}


def large(name):
    files = {path.format(name=name): text for path, text in DATA.items()}
    return wheel(name, "1.0", files | {f"{name}/__init__.py": f"name = {name!r}\n"})


@pytest.mark.timeout(180)
def test_a_layer_that_only_waits_makes_room_for_another(start_service):
    with package_registry() as registry:
        registry.pip(large("one"), large("two"))
        service = start_service(
            LANGUAGES="python", WARM_POOL="python=1", PACKAGES="any", PYPI_URL=registry.pypi_url, LAYERS_MAX_MB="16"
        )
        shop, dispatcher = Shop(service, registry), UnixDispatcher(service.worker_socket)

        def waiting():
            return dispatcher.status()["pool"].get("python/packages", {"ready": 0})["ready"]

        try:
            found = []
            for name in ("one", "two", "one"):
                run = shop.ran(f"import {name}; print({name}.name)", [f"{name}==1.0"])
                assert run["stdout"] == f"{name}\n", run
                until(lambda: waiting() == 1)
                found.append(run["layer"])
                assert os.listdir(service.state / "layers/store") == [run["layer"]]
            assert len(set(found)) == 3
        finally:
            dispatcher.close()
