"""Watch a directory by inotify, as a file operation of a session: each change is a packed list on stdout.

A change is its kind, a path, and for a move the new path, relative to the directory. Changes are sent together at
most every BATCH_S: of several modifications of a file in that time one is reported. `overflow` says that changes
were lost: the kernel's queue was full, or there are more directories than are watched.
"""

import os
import select
import stat
import time

from agent.frames import pack
from agent.libc import call
from agent.session.files import LENGTH_BYTES, entry
from agent.session.operations import REPORT, STDIN, STDOUT, Refused, report, write_all

IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE = 0x2, 0x4, 0x8
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x40, 0x80, 0x100, 0x200
IN_Q_OVERFLOW, IN_IGNORED, IN_ISDIR = 0x4000, 0x8000, 0x40000000
IN_ONLYDIR, IN_DONT_FOLLOW, IN_EXCL_UNLINK = 0x01000000, 0x02000000, 0x04000000
IN_NONBLOCK, IN_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
MASK = IN_MODIFY | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_ONLYDIR | IN_EXCL_UNLINK
#: struct inotify_event without its name: descriptor, mask, cookie, length of the name.
HEADER = 16
READ_BYTES = 64 * 1024
BATCH_S = 0.05
#: Directories that one watch covers, and how deep they may lie.
MOST_DIRECTORIES = 4096
DEPTH = 64
CREATED, MODIFIED, REMOVED, MOVED, LOST = b"create", b"modify", b"remove", b"move", b"overflow"


def watch(path, recursive):
    """Report the entry of a directory, then send its changes until stdin ends or the directory is gone."""
    if not stat.S_ISDIR(os.stat(path).st_mode):
        raise Refused(b"not_a_directory", "this is not a directory")
    fd = call("inotify_init1", IN_NONBLOCK | IN_CLOEXEC)
    if fd < 0:
        raise Refused(b"io_error", "no more watches can be started in the session")
    watcher = InotifyTree(fd, os.path.realpath(path), is_recursive=recursive == b"1")
    watcher.begin()
    report(entry(path))
    os.close(REPORT)
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    poller.register(STDIN, 0)  # its end: the host has gone
    while not watcher.is_over:
        if any(ready == STDIN for ready, _ in poller.poll()):
            return
        time.sleep(BATCH_S)
        changes = watcher.changes(read_all(fd))
        if changes:
            packed = [pack(change) for change in changes]
            write_all(STDOUT, b"".join([len(item).to_bytes(LENGTH_BYTES, "big") + item for item in packed]))


def read_all(fd):
    """Return what the kernel has queued."""
    data = bytearray()
    while True:
        try:
            data += os.read(fd, READ_BYTES)
        except BlockingIOError:
            return bytes(data)
        if len(data) > 16 * READ_BYTES:  # a flood: the rest with the next batch
            return bytes(data)


def records(data):
    """Yield (descriptor, mask, cookie, name) of what was read from inotify."""
    at = 0
    while len(data) - at >= HEADER:
        descriptor, mask, cookie, length = (
            int.from_bytes(data[at + place : at + place + 4], "little") for place in (0, 4, 8, 12)
        )
        name = data[at + HEADER : at + HEADER + length].partition(b"\0")[0]
        yield descriptor, mask, cookie, name
        at += HEADER + length


class InotifyTree:
    """The directories beneath `root` that are watched, and what the kernel's records say of them."""

    def __init__(self, fd, root, *, is_recursive):
        self.fd = fd
        self.root = root
        self.is_recursive = is_recursive
        #: Paths relative to the root, with a slash at the end but for the root itself, by watch descriptor.
        self.places = {}
        self.is_over = False
        self.found = []
        #: The (kind, path) that need not be reported again in this batch.
        self.told = set()
        #: True until something was reported: that there are too many directories may be known from the start.
        self.is_new = True

    def begin(self):
        """Watch the root, and with `is_recursive` what lies beneath. Raises OSError or Refused for the root."""
        os.listdir(self.root)
        if not self.add(b""):
            raise Refused(b"io_error", "no more watches can be started in the session")
        if self.is_recursive:
            self.descend(b"", DEPTH, tell=False)

    def add(self, place):
        """Watch one directory. False if that is not possible."""
        if len(self.places) >= MOST_DIRECTORIES:
            self.lose()
            return False
        path = self.root + b"/" + place
        mask = MASK if not place else MASK | IN_DONT_FOLLOW
        descriptor = call("inotify_add_watch", self.fd, path + b"\0", mask)
        if descriptor < 0:
            return False
        self.places[descriptor] = place
        return True

    def descend(self, place, depth, *, tell):
        """Watch the directories beneath a place; with `tell` what is there has come into being with it."""
        try:
            names = sorted(os.listdir(self.root + b"/" + place))
        except OSError:
            return
        for name in names:
            inner = place + name
            if tell:
                self.tell(CREATED, inner)
            if self.is_directory(inner):
                if depth <= 1:
                    self.lose()
                elif self.add(inner + b"/"):
                    self.descend(inner + b"/", depth - 1, tell=tell)

    def is_directory(self, place):
        try:
            return stat.S_ISDIR(os.lstat(self.root + b"/" + place).st_mode)
        except OSError:
            return False

    # -- what happened -----------------------------------------------------------------------------

    def changes(self, data):
        """Return the changes that records of the kernel stand for, in order."""
        self.found, self.told = self.found if self.is_new else [], set()
        self.is_new = False
        moved = {}
        for descriptor, mask, cookie, name in records(data):
            if mask & IN_Q_OVERFLOW:
                self.lose()
            elif mask & IN_IGNORED:
                self.forget(descriptor)
            elif descriptor in self.places and name:
                self.take(self.places[descriptor] + name, mask, cookie, moved)
        for path, _ in moved.values():  # it went out of what is watched
            self.tell(REMOVED, path)
        return self.found

    def take(self, path, mask, cookie, moved):
        is_directory = bool(mask & IN_ISDIR)
        if mask & IN_MOVED_FROM:
            moved[cookie] = path, is_directory
        elif mask & IN_MOVED_TO:
            before, _ = moved.pop(cookie, (None, False))
            self.tell(*((CREATED, path) if before is None else (MOVED, before, path)))
            if is_directory and self.is_recursive:
                self.has_moved(before, path)
        elif mask & IN_CREATE:
            self.tell(CREATED, path)
            if is_directory and self.is_recursive and self.add(path + b"/"):
                self.descend(path + b"/", DEPTH - path.count(b"/"), tell=True)
        elif mask & IN_DELETE:
            self.tell(REMOVED, path)
        else:
            self.tell(MODIFIED, path)

    def has_moved(self, before, path):
        """Know the directories beneath a moved one by their new paths; watch one that came from outside."""
        if before is None:
            if self.add(path + b"/"):
                self.descend(path + b"/", DEPTH - path.count(b"/"), tell=True)
            return
        old = before + b"/"
        for descriptor, place in self.places.items():
            if place.startswith(old):
                self.places[descriptor] = path + b"/" + place[len(old) :]

    def forget(self, descriptor):
        """Note that a directory is gone; without the root there is nothing to watch."""
        if self.places.pop(descriptor, None) == b"":
            self.is_over = True

    def tell(self, kind, path, target=b""):
        """Note a change; of a path that still is, each kind once in a batch."""
        if (kind, path) in self.told:
            return
        if kind in (REMOVED, MOVED):
            self.told -= {(CREATED, path), (MODIFIED, path)}
        else:
            self.told.add((kind, path))
        self.found.append([kind, path, target])

    def lose(self):
        self.tell(LOST, b"")
