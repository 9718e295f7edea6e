"""The access to this host's npm registry, for the npm inside a build.

npm runs in the image that is being built, so that no host needs one. The source of packages is taken
from the host's npm configuration; the lock file decides, by hash, which may be installed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

LOCK = "package-lock.json"
#: Settings of an npmrc, or of the environment as npm_config_…, for the access to a registry.
_REACHING = re.compile(
    r"@[^:]+:registry|registry|//.*|(?:https?-)?proxy|noproxy|strict-ssl|ca|cert|key|local-address|maxsockets|fetch-.*"
)
_GLOBAL = Path("/etc/npmrc")


def configuration(folder: Path, inside: str) -> dict[str, str]:
    """Write an npmrc to `folder` (`inside` the build: that path); the environment by which npm finds it."""
    user = Path(os.environ.get("NPM_CONFIG_USERCONFIG") or Path.home() / ".npmrc")
    lines = [line for path in (_GLOBAL, user) for line in _lines(path) if _reaches(line.partition("=")[0])]
    target = folder / "npmrc"
    target.touch(mode=0o600)
    target.write_text("".join(f"{line}\n" for line in lines))
    given = {name: value for name, value in os.environ.items() if name.upper().startswith("NPM_")}
    kept = {
        name: value
        for name, value in given.items()
        # Others hold what an npmrc names as ${NPM_…}.
        if not name.lower().startswith("npm_config_") or _reaches(name[len("npm_config_") :].replace("_", "-"))
    }
    return {**kept, "NPM_CONFIG_USERCONFIG": f"{inside}/npmrc", "NPM_CONFIG_CACHE": "/tmp/npm"}  # noqa: S108


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def _reaches(name: str) -> bool:
    return _REACHING.fullmatch(name.strip().removesuffix("[]").lower()) is not None
