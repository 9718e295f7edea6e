"""The part of the caller's environment that programs started by `make` get. Standard library only."""

from __future__ import annotations

import os
import re

#: The caller chooses the sources of packages and the way to reach them; all other behaviour of pip is fixed.
PIP_HONOURED = re.compile(
    "PIP_(CACHE_DIR|CERT|CLIENT_CERT|CONFIG_FILE|DEFAULT_TIMEOUT|EXTRA_INDEX_URL|FIND_LINKS|INDEX_URL"
    "|KEYRING_PROVIDER|NO_CACHE_DIR|NO_INDEX|PROXY|RETRIES|TIMEOUT|TRUSTED_HOST)"
)
#: Of PYTHON*, only what does not change which code is run.
PYTHON_HONOURED = frozenset({"PYTHONUNBUFFERED", "PYTHONWARNINGS"})
DROPPED = frozenset({"VIRTUAL_ENV", "CONDA_PREFIX", "LD_PRELOAD", "LD_LIBRARY_PATH", "__PYVENV_LAUNCHER__"})
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def clean(given: dict[str, str] | None = None) -> dict[str, str]:
    """Copy the caller's environment without the variables that configure Python or pip.

    PATH becomes the system's: a version manager's python3 or pip in front of it must not be found.
    """
    source = dict(os.environ) if given is None else given
    kept = {name: value for name, value in source.items() if _keep(name)}
    return {**kept, "PATH": PATH, "LC_ALL": "C.UTF-8", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _keep(name: str) -> bool:
    if name.startswith("PYTHON"):
        return name in PYTHON_HONOURED
    if name.startswith("PIP_"):
        return PIP_HONOURED.fullmatch(name) is not None
    return name not in DROPPED
