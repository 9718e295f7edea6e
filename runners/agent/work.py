"""The files beneath /work: those that the host sends, and whether a program has left any."""

import os

WORK = b"/work/"
OUTPUTS = "/work/outputs"
DEFAULT_OUTPUTS = b"outputs"


class FileReceiver:
    """Files that come in pieces, one after the other."""

    __slots__ = ("fd", "paths")

    def __init__(self):
        self.fd = -1
        self.paths = []

    def begin(self, path, content, mode=b""):
        """Begin a file; the one before it is complete. `mode` is EXECUTABLE for a program."""
        self.end()
        self.paths.append(path)
        if b"/" in path:
            os.makedirs(os.path.dirname(WORK + path), 0o755, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open(WORK + path, flags, 0o755 if mode else 0o644)
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

    def make(self, directory):
        """Make the directory that a run wants its artifacts in."""
        try:
            os.makedirs(WORK + directory, 0o755, exist_ok=True)
        except OSError:  # a file of its own is in that place: it has no artifacts
            pass

    def given(self, outputs):
        """Return what the files beneath `outputs` are before the program starts, by path in there."""
        prefix = b"" if outputs == b"." else outputs + b"/"
        return {
            path[len(prefix) :]: identity(os.lstat(WORK + path)) for path in self.paths if path.startswith(prefix)
        }


def identity(found):
    """Return what is different of a file once it has been changed."""
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def has_outputs(outputs):
    """Return whether there is anything to collect: an untouched directory needs no second exchange."""
    path = os.fsdecode(WORK + outputs)
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is not None or os.path.islink(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True
