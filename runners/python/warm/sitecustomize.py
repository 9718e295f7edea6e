"""Let the interpreter that is PID 1 of a sandbox wait for its program; no other takes notice of this.

A file that `site` imports by itself costs every start less than a line in a `.pth` file would.
"""

import os
import sys

if os.getpid() == 1 and sys.orig_argv[1:] == ["main.py"]:
    sys.path.insert(0, "/opt/runyard/python")
    __import__("runyard_warm")
    del sys.modules["runyard_warm"]
