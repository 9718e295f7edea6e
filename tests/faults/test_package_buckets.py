"""Layers of packages in S3: found by another worker, and never needed for a run."""

from __future__ import annotations

import shutil

import pytest

from tests.faults.conftest import SHARED_UIDS
from tests.support.own_service import OwnService, new_state
from tests.support.package_shop import Shop
from tests.support.registries import package_registry, wheel
from tests.support.s3 import s3_server
from tests.support.workers import until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def s3():
    with s3_server("layers") as server:
        yield server


def stored(s3):
    """Return the names of the layers in the bucket."""
    return [
        one["Key"] for one in s3.admin.list_objects_v2(Bucket="layers", Prefix="there/layers/").get("Contents", [])
    ]


def test_another_worker_takes_a_layer_from_the_bucket_and_does_without(service, s3):
    with package_registry() as registry:
        registry.pip(
            wheel("alpha", "1.0", {"alpha.py": "version = '1.0'\n"}),
            wheel("beta", "1.0", {"beta.py": "version = 2\n"}),
        )

        def start(state):
            own = OwnService(
                service,
                state,
                SHARED_UIDS,
                LANGUAGES="python",
                WARM_POOL="python=1",
                PACKAGES="any",
                PYPI_URL=registry.pypi_url,
                STORAGE_URL="s3://layers/there",
                S3_ENDPOINT_URL=s3.url,
                S3_ADDRESSING="path",
            )
            return own, Shop(own.up(), registry)

        states = new_state(), new_state()
        code = "import alpha; print(alpha.version, alpha.__file__)"
        own, shop = start(states[0])
        try:
            first = shop.ran(code, ["alpha==1.0"])
            assert first["stdout"] == "1.0 /opt/packages/python/alpha.py\n", first
            until(lambda: len(stored(s3)) == 1)
            own.down()

            own, shop = start(states[1])
            asked = len(registry.asked)
            again = shop.ran(code, ["alpha==1.0"], token=shop.service.other_token)
            assert (again["stdout"], again["layer"]) == (first["stdout"], first["layer"]), again
            assert len(registry.asked) == asked
            layer = shop.service.get(f"/v1/layers/{first['layer']}", token=shop.service.other_token).body
            assert [(one["name"], one["version"]) for one in layer["packages"]] == [("alpha", "1.0")]

            s3.stop()
            built = shop.ran("import beta; print(beta.version)", ["beta==1.0"])
            assert built["stdout"] == "2\n", built
        finally:
            own.down()
            for state in states:
                shutil.rmtree(state)
