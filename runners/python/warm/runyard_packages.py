"""Put the packages of a run (docs/packages.md) in front of the interpreter's path, with their `.pth` files.

They are for the program and its processes alone: the agent, which is PID 1, never looks there.
"""

import os
import sys

PLACE = "/opt/packages/python"


def add(known=None):
    """Add the packages, if the sandbox has any. `known` are the directories of the path, if they are known."""
    if not os.path.isdir(PLACE):
        return
    from site import addsitedir

    before = list(sys.path)
    addsitedir(PLACE, known)
    # It appends: but a package of the run goes before the image's of that name.
    sys.path.sort(key=before.__contains__)
