"""Keep the pages of a template common to it and its children.

A page is shared after a fork until one of the two writes to it; then the kernel makes a copy, at about two
microseconds each. Python writes to far more than a program does: to every object that it refers to, to count that,
and to every object that its collector looks at. So before the first fork all that is there is made immortal, as
None always is (PEP 683), and the collector ignores it.

Not the main module and its variables: they are the program's, which may see them end.
"""

import ctypes
import gc
import sys
from types import CodeType, FrameType, GeneratorType

#: The count of references of what is immortal, in the versions of CPython for which this was written (3.12 and 3.13
#: on 64 bits): in others None shows another, and everything stays as mortal as it was. Negative in 32 bits.
IMMORTAL = 0xFFFF_FFFF
MORTAL_BELOW = 0x8000_0000
OPENSSL_INIT_NO_ATEXIT = 0x0008_0000


def share():
    """Do it; once, when everything is imported and before anything is forked."""
    gc.collect()
    main = sys.modules["__main__"]
    if ctypes.c_uint64.from_address(id(None)).value == IMMORTAL:
        immortalize(gc.get_objects(), spared=(main, main.__dict__))
    gc.freeze()
    for mortal in (main, main.__dict__):
        _collect_again(mortal)


def leave_openssl_as_it_is():
    """Have OpenSSL, if something will load it, not take itself apart when a program ends: that frees, and so
    copies, all that it has made. To be called before it is loaded. See OPENSSL_init_crypto(3).
    """
    try:
        ctypes.CDLL("libcrypto.so.3").OPENSSL_init_crypto(ctypes.c_uint64(OPENSSL_INIT_NO_ATEXIT), None)
    except (OSError, AttributeError):  # there is none, or one that knows nothing of it
        pass


def immortalize(objects, spared):
    """Make immortal these objects and all that is reached from them, but for `spared` and what is running."""
    seen = {id(thing) for thing in (*spared, spared, objects)}
    while objects:
        found = []
        for thing in objects:
            if id(thing) not in seen and type(thing) is not FrameType and type(thing) is not GeneratorType:
                seen.add(id(thing))
                count = ctypes.c_uint32.from_address(id(thing))
                if count.value < MORTAL_BELOW:
                    count.value = IMMORTAL
                found.append(thing)
        objects = gc.get_referents(*found)
        for code in found:  # the collector does not know the referents of these
            if type(code) is CodeType:
                objects += (code.co_consts, code.co_names, code.co_name, code.co_qualname, code.co_filename)
                objects += (code.co_linetable, code.co_exceptiontable)


def _collect_again(thing):
    """Put an object that `gc.freeze` has set aside among the youngest that the collector looks at."""
    ctypes.pythonapi.PyObject_GC_UnTrack(ctypes.py_object(thing))
    ctypes.pythonapi.PyObject_GC_Track(ctypes.py_object(thing))
