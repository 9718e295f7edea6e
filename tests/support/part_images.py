"""Images of parts that official compose files take from a registry, built of Debian's packages on the tests' base."""

from __future__ import annotations

from pathlib import Path

from tests.support.dockerd import Dockerd

RECIPES = Path(__file__).parent / "parts"
#: The first build installs packages.
BUILT_WITHIN_S = 600


def part_image(daemon: Dockerd, base: str, part: str) -> str:
    """Build what `parts/Dockerfile` has for a part, and return its name. The daemon keeps the layers."""
    name = f"runyard-test/{part}"
    lines = daemon.client.build(
        path=str(RECIPES), target=part, tag=name, buildargs={"BASE": base}, network_mode="host", rm=True, decode=True,
        timeout=BUILT_WITHIN_S,
    )  # fmt: skip
    said = list(lines)
    assert not [line for line in said if "error" in line], said[-10:]
    return name
