"""Make the shell of kernels in the template, so that a kernel that is forked from it begins with its first cell.

Imports and computations that a first cell would do, such as finding the fonts of figures, are done here.
"""

import io
import os
import sys

sys.path.insert(0, os.path.dirname(__file__))

from runyard_kernel import loop, shell, tracebacks

sys.path.pop(0)


class NoPipes:
    """Stands in for the pipes of a kernel: there are none yet."""

    def send(self, _header, _parts=None):
        """Send nothing."""


def _warm():
    made = shell.make_shell(shell.Results(NoPipes()))
    output, sys.stdout = sys.stdout, io.StringIO()
    try:
        made.run_cell("1 + 1", store_history=True)
        failed = made.run_cell("1 / 0", store_history=True)
        tracebacks.describe(failed.error_in_exec, made.compile.cells)
        _draw()
    finally:
        sys.stdout = output
    shell.forget_cells(made)
    loop.preloaded = made


def _draw():
    """Draw one figure to nowhere: it has fonts found and loaded."""
    import matplotlib.pyplot as plt

    plt.figure(figsize=(1, 1))
    plt.plot([0, 1])
    plt.title("0")
    plt.savefig(io.BytesIO(), format="png")
    plt.close("all")


_warm()
