"""The state that the children of a Python template share: imported modules, and the reseeding that separates them.

A page that a child writes to is copied, and to look at an object is to write to its count of references. So a child
goes through no list of all modules: what it needs to know of them was noted in the template.
"""

import os
import sys

from agent.kernel import exit_now, keep_for_ever
from runyard_end import End


class Shared:
    """In a template and its children."""

    def __init__(self, modules, settle):
        """Before anything else has an exit handler. `modules` are the names of what Python itself has imported;
        `settle` does what is the same for every program: to be called when all is imported.
        """
        self.pythons = modules
        self.settle = settle
        self.libraries = False
        #: The names of what a child is to forget.
        self.dropped = []
        self.left = 0
        self.end = End(exit_now)
        self.end.watch()

    def imported(self, libraries):
        """Note, in the template, that all is imported; `libraries` if that is something for programs to find."""
        self.settle(libraries)
        # The agent's modules go when the program comes; all else may be a part of the libraries.
        stays = _is_not_ours if libraries else self.pythons.__contains__
        self.libraries = libraries
        # The line that imported the first of them removes that itself.
        self.dropped = [name for name in sys.modules if not stays(name) and name != "runyard_warm"]
        self.left = len(sys.modules)
        kept = {name: module for name, module in sys.modules.items() if stays(name) and name != "__main__"}
        keep_for_ever(kept)
        self.end.keep(kept, [name for name in kept if name not in self.pythons])

    def get_ready(self):
        """Forget the agent, in a child, and become different from every other."""
        loaded = sys.modules
        while len(loaded) > self.left:
            loaded.popitem()
        for name in self.dropped:
            del loaded[name]
        if self.libraries:
            make_different()


def _is_not_ours(name):
    first = name.partition(".")[0]
    return first == "runyard_kernel" or (first != "agent" and not first.startswith("runyard_"))


def make_different():
    """Let nothing that the template's libraries drew at random be the same in two programs.

    `random` reseeds itself in every fork, and the kernel's needs none; numpy's old generator and OpenSSL's do not.
    """
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    ssl = sys.modules.get("_ssl")
    if ssl is not None:
        ssl.RAND_add(os.urandom(32), 32.0)
    if "matplotlib" in sys.modules:
        os.makedirs(os.environ["MPLCONFIGDIR"], exist_ok=True)  # it has made one, elsewhere
