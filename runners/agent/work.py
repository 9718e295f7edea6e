"""The files beneath /work: those that the host sends, and whether a program has left any."""

import os

WORK = b"/work/"
OUTPUTS = "/work/outputs"


class FileReceiver:
    """Files that come in pieces, one after the other."""

    __slots__ = ("fd",)

    def __init__(self):
        self.fd = -1

    def begin(self, path, content):
        """Begin a file; the one before it is complete."""
        self.end()
        if b"/" in path:
            os.makedirs(os.path.dirname(WORK + path), 0o755, exist_ok=True)
        self.fd = os.open(WORK + path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        self.more(content)

    def more(self, content):
        """Append to the file that was begun last."""
        view = memoryview(content)
        while view:
            view = view[os.write(self.fd, view) :]

    def end(self):
        """Close the last file: all files are complete."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def has_outputs():
    """Return whether there is anything to collect: an untouched directory needs no second exchange."""
    try:
        with os.scandir(OUTPUTS) as entries:
            return next(entries, None) is not None or os.path.islink(OUTPUTS)
    except FileNotFoundError:
        return False
    except OSError:
        return True
