"""Where the tests keep all that is real: under RUNYARD_TEST_STATE, on ports of its own, away from a service in use.

With two processes of pytest-xdist each has a state directory, a port and accounts of its own. The images and the
installed clients are read by both.
"""

from __future__ import annotations

import os
from pathlib import Path

IS_SECOND = os.environ.get("PYTEST_XDIST_WORKER") == "gw1"
#: What `make test-setup` fills.
SHARED = Path(os.environ.get("RUNYARD_TEST_STATE", "/var/lib/runyard-test"))
IMAGES = Path(os.environ.get("IMAGES_DIR") or SHARED / "images")
STATE = Path(f"{SHARED}-2") if IS_SECOND else SHARED
PORT = int(os.environ.get("RUNYARD_TEST_PORT", "18080")) + IS_SECOND
#: Settings of the service under test beside those.
SETTINGS = {"IMAGES_DIR": str(IMAGES), "UID_BASE": str(0x7400_0000)} if IS_SECOND else {}
