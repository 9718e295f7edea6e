"""Functions of the C library that the standard library has no name for, as every sandbox needs them.

`import ctypes` costs milliseconds that every sandbox would pay; its C half alone costs a tenth of one.
"""

_addresses = {}


def call(name, *arguments):
    """Call a function with integers, bytes (as pointers) or None: its result, an int."""
    import _ctypes

    return _ctypes.call_function(find(name), arguments)


def find(name):
    """Find the address of a function; looked up once, also for processes forked from here."""
    if name not in _addresses:
        import _ctypes

        _addresses[name] = _ctypes.dlsym(_ctypes.dlopen(None, 2), name)
    return _addresses[name]
