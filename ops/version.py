"""`make version`, and `--version` of the commands of `make`: the version in this folder. Standard library only."""

from __future__ import annotations

import sys

from config.version import VERSION


def asked() -> bool:
    """Print the version if `--version` is all that the command line asks for; return whether it is."""
    if sys.argv[1:] != ["--version"]:
        return False
    print(f"runyard {VERSION}")
    return True


if __name__ == "__main__":
    print(f"runyard {VERSION}")
