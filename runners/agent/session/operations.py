"""Start a file operation: a child in the programs' Landlock domain that does one thing and reports on its stderr.

The report is one packed list: `ok` and the fields of an entry, or `error`, a code and words. For `read`, `list`
and `pack` it comes before the content on stdout; for all others it is the only output.
"""

import _signal
import errno
import os

from agent.frames import pack, unpack
from agent.landlock import landlock
from agent.program import Pipes, set_dumpable
from agent.session.children import take_descriptors

STDIN, STDOUT, REPORT = 0, 1, 2
CODES = {
    errno.ENOENT: b"file_not_found",
    errno.EACCES: b"file_not_permitted",
    errno.EPERM: b"file_not_permitted",
    errno.EROFS: b"file_not_permitted",
    errno.ETXTBSY: b"file_not_permitted",
    errno.EBUSY: b"file_not_permitted",
    errno.ENOTDIR: b"not_a_directory",
    errno.EISDIR: b"not_a_file",
    errno.EEXIST: b"file_exists",
    errno.ENOTEMPTY: b"file_exists",
    errno.ENOSPC: b"disk_full",
    errno.EDQUOT: b"disk_full",
    errno.EINVAL: b"invalid_path",
    errno.ELOOP: b"invalid_path",
    errno.ENAMETOOLONG: b"invalid_path",
}


class Refused(Exception):
    """An operation that is not done, with its code."""

    def __init__(self, code, words):
        super().__init__(words)
        self.code = code


def start_operation(fork, parts):
    """Start a file operation with the given name and arguments; `fork` makes the child (see `SessionServer.fork`).

    Returns (child, pipes, -1). Raises OSError.
    """
    pipes = Pipes()
    try:
        pid = fork(b"operation", parts, pipes.theirs, operate_given)
    except OSError:
        pipes.close()
        raise
    pipes.close_theirs()
    return pid, pipes, -1


def operate_given(parts, streams):
    """Be a file operation with the given name and arguments, on the given streams."""
    name, arguments = parts
    take_descriptors(streams)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    _signal.signal(_signal.SIGTERM, _end)
    set_dumpable(0)  # a program of the session has the same uid, and must not trace this
    os.setsid()
    landlock.enter()
    os.chdir("/work")
    os._exit(_run(name, unpack(arguments)))


def _run(name, arguments):
    """Run the operation and report. Returns the exit code: 0 if it was done."""
    try:
        _find(name)(*arguments)
    except Refused as e:
        return _fail(e.code, str(e))
    except OSError as e:
        if e.errno == errno.EPIPE:  # nobody reads the content any more
            return 1
        return _fail(CODES.get(e.errno, b"io_error"), os.strerror(e.errno))
    except ValueError:
        return _fail(b"invalid_path", "the path holds NUL")
    return 0


def _find(name):
    """Return the function of an operation; those that few sessions use are imported when they are."""
    from agent.session import files

    if name in files.OPERATIONS:
        return files.OPERATIONS[name]
    if name == b"watch":
        from agent.session.watch import watch

        return watch
    from agent.session import archive

    return archive.OPERATIONS[name]


def report(parts):
    """Report success with these fields."""
    write_all(REPORT, pack([b"ok", *parts]))


def write_all(fd, data):
    """Write all of the bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _fail(code, words):
    try:
        write_all(REPORT, pack([b"error", code, words.encode()[:400]]))
    except OSError:  # its report was sent before the content: that it ends with 1 says that the content is cut
        pass
    return 1


def _end(_number, _frame):
    """Leave by an exception, so that what was begun is removed."""
    raise SystemExit(1)
