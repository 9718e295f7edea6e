"""The few calls for which the standard library has no name, made through the C half of ctypes.

`import ctypes` costs milliseconds that every sandbox would pay; `_ctypes` alone costs a tenth of one.
"""

import os

PR_SET_DUMPABLE = 4


def set_dumpable(value):
    """Open (1) or close (0) this process's memory and descriptors to others of its uid. See prctl(2)."""
    import _ctypes

    prctl = _ctypes.dlsym(_ctypes.dlopen(None, 2), "prctl")
    if _ctypes.call_function(prctl, (PR_SET_DUMPABLE, value, 0, 0, 0)) != 0:
        raise OSError("prctl(PR_SET_DUMPABLE) failed")


def first_for_the_oom_killer():
    """Make this process and its children the kernel's first choice when memory runs out."""
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(fd, b"1000")
    os.close(fd)
