"""Pack a directory into a tar, and unpack one beneath a directory, as file operations of a session.

Unpacking follows no link: each step is relative to an open directory. A symbolic link may only lead to what lies
beneath the directory, and a hard link only to a regular file of it, so that nothing of an archive leads out.
"""

import os
import stat
from fnmatch import fnmatchcase

from agent.session import tar
from agent.session.files import CHUNK, MODE_BITS, entry
from agent.session.operations import CODES, REPORT, STDIN, STDOUT, Refused, report, write_all

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
#: Directories below each other that are packed; each is open while what is in it is packed.
PACK_DEPTH = 128


def _is_excluded(name, patterns):
    """Return whether a path, or the last part of it, matches a pattern."""
    last = name.rpartition(b"/")[2]
    return any(fnmatchcase(name, pattern) or fnmatchcase(last, pattern) for pattern in patterns)


# -- out ---------------------------------------------------------------------------------------------


def pack_archive(path, *patterns):
    """Report the entry of a path, then send it as a tar: a directory's content, or one file.

    An entry that cannot be read, or is neither file, directory nor link, is left out. Links are not followed.
    """
    found = os.stat(path)
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        raise Refused(b"not_a_directory", "this is neither a directory nor a regular file")
    fd = os.open(path, _READ & ~os.O_NOFOLLOW)
    report(entry(path))
    os.close(REPORT)
    packer = _Packer(patterns)
    if stat.S_ISDIR(found.st_mode):
        packer.directory(fd, b"", 1)
    else:
        packer.file(fd, os.path.basename(path.rstrip(b"/")))
    packer.end()


class _Packer:
    def __init__(self, patterns):
        self.patterns = patterns
        self.held = bytearray()

    def directory(self, fd, prefix, depth):
        """Pack what is in the directory `fd`, which is closed here."""
        try:
            for name in sorted(os.fsencode(name) for name in os.listdir(fd)):
                path = prefix + name
                if not _is_excluded(path, self.patterns):
                    self.entry(fd, name, path, depth)
        finally:
            os.close(fd)

    def entry(self, parent, name, path, depth):
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                self.head(path, tar.SYMLINK, 0, found, os.readlink(name, dir_fd=parent))
                return
            if not stat.S_ISREG(found.st_mode) and not (stat.S_ISDIR(found.st_mode) and depth < PACK_DEPTH):
                return
            fd = os.open(name, _READ, dir_fd=parent)
        except OSError:
            return
        if stat.S_ISREG(found.st_mode):
            self.file(fd, path)
        else:
            self.head(path + b"/", tar.DIRECTORY, 0, found)
            self.directory(fd, path + b"/", depth + 1)

    def file(self, fd, path):
        """Pack the regular file `fd`, which is closed here. One that becomes shorter is filled up with zeros."""
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                return
            self.head(path, tar.FILE, found.st_size, found)
            left = found.st_size
            while left:
                data = os.read(fd, min(CHUNK, left)) or bytes(min(CHUNK, left))
                left -= len(data)
                self.add(data)
            self.add(bytes(-found.st_size % tar.BLOCK))
        finally:
            os.close(fd)

    def head(self, path, kind, size, found, target=b""):
        mode = found.st_mode & MODE_BITS
        self.add(tar.header(path, kind, size, mode, found.st_mtime_ns // 10**9, target))

    def add(self, data):
        self.held += data
        if len(self.held) >= CHUNK:
            write_all(STDOUT, self.held)
            self.held.clear()

    def end(self):
        self.add(tar.ZEROS * 2)
        write_all(STDOUT, self.held)


# -- in ----------------------------------------------------------------------------------------------


def unpack_archive(path, *patterns):
    """Unpack the tar that comes on stdin beneath a directory, which is created. Reports its entry.

    Stops at the first bad entry; what came before it stays.
    """
    os.makedirs(path, 0o755, exist_ok=True)
    reader = tar.Reader(lambda size: os.read(STDIN, size))
    with _Unpacker(os.open(path, _DIRECTORY)) as unpacker:
        try:
            for item in reader:
                if not _is_within_excluded(item.parts, patterns):
                    unpacker.take(item, reader.content())
            reader.finish()
            unpacker.set_modes()
        except tar.BadArchive as e:
            raise Refused(b"invalid_archive", str(e)) from e
    report(entry(path))


def _is_within_excluded(parts, patterns):
    return bool(patterns) and any(
        _is_excluded(b"/".join(parts[:count]), patterns) for count in range(1, len(parts) + 1)
    )


class _Unpacker:
    """Makes entries beneath the directory `root`. The directories above the last entry stay open."""

    def __init__(self, root):
        self.root = root
        self.above = []
        #: The bits of directories, set at the end: one may forbid what is to be made in it.
        self.modes = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave(0)
        os.close(self.root)

    def take(self, item, content):
        """Make one entry. Raises BadArchive or Refused, which name it."""
        if not item.parts:
            return
        try:
            *above, name = item.parts
            parent = self.enter(above, item)
            if item.kind == tar.DIRECTORY:
                self.modes[b"/".join(item.parts)] = item.mode
                self.enter(item.parts, item)
            elif item.kind == tar.FILE:
                self.file(parent, name, item, content)
            elif item.kind == tar.SYMLINK:
                tar.check_target(item)
                self.replace(parent, name, item, lambda new: os.symlink(item.target, new, dir_fd=parent))
            else:
                self.hard_link(item)
        except OSError as e:
            code = CODES.get(e.errno, b"io_error")
            raise Refused(code, f"{tar.shown(item.name)}: {os.strerror(e.errno)}") from e

    def enter(self, parts, item):
        """Return the open directory of these parts, made where it is missing. Raises BadArchive for a link."""
        same = 0
        while same < min(len(parts), len(self.above)) and self.above[same][0] == parts[same]:
            same += 1
        self.leave(same)
        fd = self.above[-1][1] if self.above else self.root
        for part in parts[same:]:
            try:
                os.mkdir(part, 0o755, dir_fd=fd)
            except FileExistsError:
                pass
            try:
                fd = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            except NotADirectoryError as e:
                raise tar.bad(item.name, "a link or a file is where a directory must be") from e
            self.above.append((part, fd))
        return fd

    def leave(self, count):
        """Close all but the first `count` directories."""
        while len(self.above) > count:
            os.close(self.above.pop()[1])

    def file(self, parent, name, item, content):
        def make(new):
            fd = os.open(new, _CREATE, 0o600, dir_fd=parent)
            try:
                for piece in content:
                    write_all(fd, piece)
                os.fchmod(fd, item.mode)
                os.utime(fd, (item.mtime, item.mtime))
            except BaseException:
                os.unlink(new, dir_fd=parent)
                raise
            finally:
                os.close(fd)

        self.replace(parent, name, item, make)

    def hard_link(self, item):
        """Link to a regular file beneath the directory. A link to a symbolic link would move where that leads."""
        *above, source = tar.checked_parts(item.target) or [b""]
        beneath = os.dup(self.enter(above, item))
        try:
            if not source or not stat.S_ISREG(os.stat(source, dir_fd=beneath, follow_symlinks=False).st_mode):
                raise tar.bad(item.name, "a hard link to something else than a regular file")
            *above, name = item.parts
            parent = self.enter(above, item)
            self.replace(
                parent,
                name,
                item,
                lambda new: os.link(source, new, src_dir_fd=beneath, dst_dir_fd=parent, follow_symlinks=False),
            )
        except FileNotFoundError as e:
            raise tar.bad(item.name, "a hard link to what is not there") from e
        finally:
            os.close(beneath)

    def replace(self, parent, name, item, make):
        """Make something at a name; what is there already is replaced in one step, but no directory."""
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            make(name)
            return
        if stat.S_ISDIR(found.st_mode):
            raise tar.bad(item.name, "a directory is in its place")
        beside = b".%s.part" % os.urandom(12).hex().encode()
        make(beside)
        try:
            os.rename(beside, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            os.unlink(beside, dir_fd=parent)
            raise

    def set_modes(self):
        """Give the directories the bits that the archive has for them, the deepest first."""
        for path in sorted(self.modes, reverse=True):
            self.leave(0)
            fd = self.root
            try:
                for part in path.split(b"/"):
                    fd = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                    self.above.append((part, fd))
                os.fchmod(fd, self.modes[path] | 0o700)
            except OSError:
                continue  # a program has removed it meanwhile


OPERATIONS = {b"pack": pack_archive, b"unpack": unpack_archive}
