"""Send a directory as entries: four bytes of length, the packed fields, then the content of a file.

The fields are type, path, mode (octal), size (decimal) and link target. Four zero bytes end the whole. A directory
comes before what is in it. Only directories, regular files and symbolic links are sent; links are not followed.
"""

import os
import stat

from agent.frames import pack as pack_fields

CHUNK = 256 * 1024
END = bytes(4)


def pack(root, out):
    """Write everything beneath a directory, sorted by name, to a binary stream."""
    _pack_directory(os.fsencode(root), b"", out)
    out.write(END)
    out.flush()


def _pack_directory(place, path, out):
    for name in sorted(os.listdir(place)):
        at, within = place + b"/" + name, path + b"/" + name if path else name
        found = os.lstat(at)
        mode = b"%o" % stat.S_IMODE(found.st_mode)
        if stat.S_ISDIR(found.st_mode):
            _head(out, b"directory", within, mode)
            _pack_directory(at, within, out)
        elif stat.S_ISLNK(found.st_mode):
            _head(out, b"link", within, mode, target=os.readlink(at))
        elif stat.S_ISREG(found.st_mode):
            _head(out, b"file", within, mode, found.st_size)
            _content(at, found.st_size, out)


def _head(out, kind, path, mode, size=0, target=b""):
    fields = pack_fields([kind, path, mode, b"%d" % size, target])
    out.write(len(fields).to_bytes(4, "big") + fields)


def _content(at, size, out):
    with open(at, "rb") as file:
        while size:
            data = file.read(min(size, CHUNK))
            if not data:
                raise OSError(f"a file became shorter: {at!r}")
            out.write(data)
            size -= len(data)
