"""The program's files in its outputs directory, sent as frames. Runs in PID 1 after every other process has exited.

No path is followed out of the tree: every step is relative to a directory descriptor, without following
links, and only regular files are read.
"""

import os
import stat

from agent import frames
from agent.work import identity

MAX_DEPTH = 32
MAX_LISTED = 100
CHUNK = 64 * 1024
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Collector:
    """Walks the tree in name order and sends what the limits allow through `send`.

    `given` are the files that were there before the program, by path: unchanged ones are no artifacts.
    """

    def __init__(self, job, send, given):
        self.send = send
        self.outputs = job.outputs
        self.given = given
        self.max_bytes = job.max_artifact_bytes
        self.files_left = job.max_artifact_files
        self.bytes_left = job.max_artifacts_bytes
        self.skipped = 0

    def collect(self):
        """Send everything, then the count of what was left out."""
        fd = os.open("/work", _OPEN_DIRECTORY)
        for part in self.outputs.split(b"/"):
            parent = fd
            try:
                fd = os.open(part, _OPEN_DIRECTORY, dir_fd=parent)
            except OSError as e:
                self.skip(self.outputs, _reason(e, part, parent))
                fd = -1
            os.close(parent)
            if fd < 0:
                break
        else:
            self.directory(fd, b"", 1)
        self.send(frames.END, b"%d" % self.skipped)

    def skip(self, path, reason):
        self.skipped += 1
        if self.skipped <= MAX_LISTED:
            self.send(frames.SKIPPED, frames.pack([path[:4096], reason]))

    def directory(self, fd, prefix, depth):
        """Send what is in the directory `fd` (closed here); `prefix` is its path with a slash."""
        try:
            names = sorted(os.fsencode(name) for name in os.listdir(fd))
            for name in names:
                if not self.is_left_out(name, prefix):
                    self.entry(fd, name, prefix + name, depth)
        except OSError:
            self.skip(prefix[:-1] or self.outputs, b"unreadable")
        finally:
            os.close(fd)

    def is_left_out(self, name, prefix):
        """Return whether a name of /work itself is never an artifact: what was put in, and hidden files."""
        return self.outputs == b"." and (name.startswith(b".") or (not prefix and name == b"inputs"))

    def entry(self, parent, name, path, depth):
        """Send one file, walk one directory, or report why it was skipped."""
        try:
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                self.skip(path, b"symlink")
            elif stat.S_ISDIR(mode):
                if depth >= MAX_DEPTH:
                    self.skip(path, b"too_deep")
                else:
                    self.directory(os.open(name, _OPEN_DIRECTORY, dir_fd=parent), path + b"/", depth + 1)
            elif stat.S_ISREG(mode):
                self.file(os.open(name, _OPEN_FILE, dir_fd=parent), path)
            else:
                self.skip(path, b"special_file")
        except OSError:
            self.skip(path, b"unreadable")

    def file(self, fd, path):
        """Send the regular file `fd` (closed here) if the limits allow it."""
        try:
            found = os.fstat(fd)
            size = found.st_size
            if path in self.given and self.given[path] == identity(found):
                return
            if size > self.max_bytes:
                self.skip(path, b"too_large")
            elif self.files_left <= 0 or size > self.bytes_left:
                self.skip(path, b"too_many" if self.files_left <= 0 else b"too_large")
            else:
                self.files_left -= 1
                self.bytes_left -= size
                self.send(frames.ARTIFACT, frames.pack([path, b"%d" % size]))
                self.bytes_of(fd, size)
        finally:
            os.close(fd)

    def bytes_of(self, fd, size):
        left = size
        while left:
            chunk = os.read(fd, min(CHUNK, left))
            if not chunk:
                break
            left -= len(chunk)
            self.send(frames.DATA, chunk)


def _reason(error, name, parent):
    try:
        is_link = stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        is_link = False
    if is_link:
        return b"symlink"
    return b"special_file" if isinstance(error, NotADirectoryError) else b"unreadable"
