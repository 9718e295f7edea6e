"""The file operations of a session, each run in a child of its own that has the rights of a program.

Paths are bytes, absolute or relative to /work. Only regular files are opened, never waiting for a FIFO's other end.
"""

import errno
import os
import stat

from agent.frames import pack
from agent.session.operations import REPORT, STDIN, STDOUT, Refused, report, write_all

CHUNK = 256 * 1024
LENGTH_BYTES = 4
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
TYPES = {stat.S_IFREG: b"file", stat.S_IFDIR: b"directory", stat.S_IFLNK: b"symlink"}
MODE_BITS = 0o7777


def fields(name, found, target=b""):
    """Return the fields of an entry: name, type, size, mode, uid, gid, mtime in ns, link target."""
    numbers = (found.st_size, found.st_mode & MODE_BITS, found.st_uid, found.st_gid, found.st_mtime_ns)
    return [name, TYPES.get(stat.S_IFMT(found.st_mode), b"other"), *(b"%d" % number for number in numbers), target]


def entry(path):
    """Return the fields of what is at a path; a link is not followed."""
    found = os.lstat(path)
    return fields(path, found, os.readlink(path) if stat.S_ISLNK(found.st_mode) else b"")


def stat_entry(path, follow=b""):
    """Report the entry of a path; with `follow` that of what a link leads to."""
    report(fields(path, os.stat(path)) if follow else entry(path))


# -- content -----------------------------------------------------------------------------------------


def read(path, offset, length):
    """Report the entry of a regular file, then send `length` bytes from `offset`; an empty length is the rest."""
    fd = os.open(path, _READ)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise Refused(b"not_a_file", "this is not a regular file")
    report(fields(path, found))
    os.close(REPORT)
    left = int(length) if length else found.st_size - int(offset)
    os.lseek(fd, int(offset), os.SEEK_SET)
    while left > 0:
        data = os.read(fd, min(CHUNK, left))
        if not data:
            break
        left -= len(data)
        write_all(STDOUT, data)


def write(path, mode, size):
    """Replace a file by what comes on stdin, all of it or nothing; parents are created. Reports the new entry.

    `size` is how many bytes are to come, empty if that is not known: fewer mean that the sender has gone.
    """
    path = os.path.realpath(path)
    found = _existing(path)
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise Refused(b"not_a_file", "there is something else than a regular file at this path")
    bits = int(mode, 8) if mode else (found.st_mode & MODE_BITS if found is not None else 0o644)
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    # Beside the file, so that it can take its place in one step: of two writers one wins, whole.
    beside = b"%s/.%s.part" % (os.path.dirname(path), os.urandom(12).hex().encode())
    fd = os.open(beside, _CREATE, 0o600)
    try:
        _receive(fd, size)
        os.fchmod(fd, bits)
        os.rename(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
    report(entry(path))


def _existing(path):
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _receive(fd, size):
    got = 0
    while data := os.read(STDIN, CHUNK):
        write_all(fd, data)
        got += len(data)
    if size and got != int(size):
        raise Refused(b"incomplete_body", "the content ended before its size")


# -- directories -------------------------------------------------------------------------------------


def list_entries(path, depth, glob, limit):
    """Send the entries beneath a directory, by name: each preceded by its length in four bytes.

    Beforehand the directory itself is reported. Of more than `limit` entries one more is sent, and no further one.
    """
    names = os.listdir(path)  # before the report, as it may be refused
    report(entry(path))
    os.close(REPORT)
    from fnmatch import fnmatchcase

    left = int(limit) + 1
    held = bytearray()
    for name, found, target in _walk(path, names, b"", int(depth)):
        if glob and not fnmatchcase(name, glob) and not fnmatchcase(os.path.basename(name), glob):
            continue
        packed = pack(fields(name, found, target))
        held += len(packed).to_bytes(LENGTH_BYTES, "big") + packed
        if len(held) >= CHUNK:
            write_all(STDOUT, held)
            held.clear()
        left -= 1
        if not left:
            break
    write_all(STDOUT, held)


def _walk(path, names, prefix, depth):
    """Yield (relative name, lstat, link target) of all beneath a directory that can be looked at."""
    for name in sorted(names):
        inner = path + b"/" + name
        try:
            found = os.lstat(inner)
            target = os.readlink(inner) if stat.S_ISLNK(found.st_mode) else b""
        except OSError:
            continue
        yield prefix + name, found, target
        if stat.S_ISDIR(found.st_mode) and depth > 1:
            try:
                inside = os.listdir(inner)
            except OSError:
                continue
            yield from _walk(inner, inside, prefix + name + b"/", depth - 1)


def mkdir(path, parents):
    """Make a directory, with `parents` also those that are missing above it. Reports its entry."""
    if parents == b"1":
        os.makedirs(path, 0o755, exist_ok=True)
    else:
        os.mkdir(path, 0o755)
    report(entry(path))


# -- changes -----------------------------------------------------------------------------------------


def remove(path, recursive):
    """Remove a file or a link; a directory too, with all that is in it if `recursive`."""
    found = os.lstat(path)
    gone = fields(path, found)
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(path)
    elif recursive == b"1":
        _remove_tree(path)
    else:
        os.rmdir(path)
    report(gone)


def clear(path):
    """Remove all that is in a directory."""
    for name in os.listdir(path):
        inner = path + b"/" + name
        if stat.S_ISDIR(os.lstat(inner).st_mode):
            _remove_tree(inner)
        else:
            os.unlink(inner)
    report(entry(path))


def _remove_tree(path):
    """Remove a directory and all beneath it. No link is followed: each step is relative to an open directory."""
    for _, names, files, fd in os.fwalk(path, topdown=False, follow_symlinks=False):
        for name in files:
            os.unlink(name, dir_fd=fd)
        for name in names:
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                os.rmdir(name, dir_fd=fd)
            else:
                os.unlink(name, dir_fd=fd)
    os.rmdir(path)


def move(source, target, overwrite):
    """Move a file or directory, also to another file system. Reports the entry in its new place."""
    os.lstat(source)
    _check_target(target, overwrite)
    os.makedirs(os.path.dirname(target) or b".", 0o755, exist_ok=True)
    try:
        os.rename(source, target)
    except OSError as e:
        if e.errno != errno.EXDEV:
            raise
        _copy(source, target)
        if stat.S_ISDIR(os.lstat(source).st_mode):
            _remove_tree(source)
        else:
            os.unlink(source)
    report(entry(target))


def copy(source, target, overwrite):
    """Copy a file or a directory with all that is in it. Reports the entry of the copy."""
    os.lstat(source)
    _check_target(target, overwrite)
    inside = os.path.realpath(source) + b"/"
    if (os.path.realpath(target) + b"/").startswith(inside):
        raise Refused(b"invalid_path", "a directory cannot be copied into itself")
    os.makedirs(os.path.dirname(target) or b".", 0o755, exist_ok=True)
    _copy(source, target)
    report(entry(target))


def _check_target(target, overwrite):
    found = _existing(target)
    if found is None:
        return
    if overwrite != b"1":
        raise Refused(b"file_exists", "there is something at the target already")
    if stat.S_ISDIR(found.st_mode):
        raise Refused(b"file_exists", "a directory is not overwritten")


def _copy(source, target):
    found = os.lstat(source)
    if stat.S_ISDIR(found.st_mode):
        os.mkdir(target, 0o755)
        for name in os.listdir(source):
            _copy(source + b"/" + name, target + b"/" + name)
        os.chmod(target, found.st_mode & MODE_BITS)
    elif stat.S_ISLNK(found.st_mode):
        _unlink_existing(target)
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(found.st_mode):
        _copy_file(source, target)
    else:
        raise Refused(b"not_a_file", "neither a regular file, nor a directory, nor a link")


def _copy_file(source, target):
    fd = os.open(source, _READ | os.O_NOFOLLOW)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise Refused(b"not_a_file", "this is not a regular file any more")
    _unlink_existing(target)
    out = os.open(target, _CREATE, 0o600)
    while data := os.read(fd, CHUNK):
        write_all(out, data)
    os.fchmod(out, found.st_mode & MODE_BITS)
    os.close(fd)
    os.close(out)


def _unlink_existing(path):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def chmod(path, mode):
    """Set the permission bits, in octal. Reports the entry."""
    os.chmod(path, int(mode, 8))
    report(entry(path))


OPERATIONS = {
    b"stat": stat_entry,
    b"read": read,
    b"write": write,
    b"list": list_entries,
    b"mkdir": mkdir,
    b"remove": remove,
    b"clear": clear,
    b"move": move,
    b"copy": copy,
    b"chmod": chmod,
}
