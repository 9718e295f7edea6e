"""Starting an OCI runtime's binary, waiting for it within a bound, and reading its output.

A runtime copies itself into a sealed memory file and executes that again, so that a container cannot overwrite
the host's binary (CVE-2019-5736). It is started from such a file here, made once, and skips that.

The configuration is read from a pipe, and not written to it before the runtime's process has been prepared (moved
to a control group, held to limits): so everything that it starts inherits them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import logging
import os
import signal
import time
from collections.abc import Callable

from config.runtime_versions import read_version
from sandbox.engines import EngineError, EngineUnusable
from sandbox.engines.oci.reaper import reaper
from sandbox.engines.runtimes import find_runtime

log = logging.getLogger(__name__)

START_TIMEOUT_S = 10.0
KILL_TIMEOUT_S = 5.0
ALL_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
#: The configuration for a runtime, as a descriptor and as a path.
CONFIG_FD = 9
CONFIG_PATH = f"/dev/fd/{CONFIG_FD}"
#: Waits for any line on the pipe, and executes the runtime: for one that needs a seekable file.
GATE = ["/bin/sh", "-c", f'read -r _ <&{CONFIG_FD}; exec {CONFIG_FD}<&-; exec "$0" "$@"']
#: The kernel has pages of a file that was just written in hand for a moment, and for longer on a busy machine.
SEAL_TIMEOUT_S, SEAL_AGAIN_S = 10.0, 0.05


def seal(memory_file: int) -> None:
    """Seal a memory file against changes, once no writer is left. Raises OSError."""
    deadline = time.monotonic() + SEAL_TIMEOUT_S
    while True:
        try:
            fcntl.fcntl(memory_file, fcntl.F_ADD_SEALS, ALL_SEALS)
        except OSError as e:
            if e.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
            time.sleep(SEAL_AGAIN_S)
        else:
            return


class Launcher:
    """One runtime's binary. Safe to use from several threads."""

    def __init__(self, name: str, *, gated: bool = False) -> None:
        """`gated`: it is not started before it is prepared, and has its configuration from elsewhere.

        Raises EngineUnusable if it is not installed.
        """
        path = find_runtime(name)
        if path is None:
            raise EngineUnusable(f"{name} is not installed: apt-get install {name}")
        self.version = read_version(name, path)
        log.log(
            logging.INFO if self.version.is_tested else logging.WARNING,
            "runtime found",
            extra={"path": path, "version": self.version.text, "tested": self.version.problem or "yes"},
        )
        self._name = name
        self._children = reaper()
        self._binary = os.memfd_create(name, os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        with open(path, "rb") as source:
            size, sent = os.fstat(source.fileno()).st_size, 0
            while sent < size:
                sent += os.sendfile(self._binary, source.fileno(), None, size - sent)
        try:
            seal(self._binary)
        except OSError as e:
            raise EngineUnusable(f"a copy of {name} cannot be sealed: {e.strerror}") from e
        executable = f"/proc/{os.getpid()}/fd/{self._binary}"
        self._executable, self._argv = (GATE[0], [*GATE, executable]) if gated else (executable, [name])

    def run(self, arguments: list[str], stream_fd: int, config: bytes, prepare: Callable[[int], None]) -> None:
        """Run the binary to its end with `stream_fd` as descriptors 0 and 1, which it hands to PID 1.

        `prepare` is called with its pid before it can read `config` at CONFIG_PATH. Raises EngineError with its
        message if it fails or takes longer than START_TIMEOUT_S.
        """
        config_read, config_write = os.pipe2(os.O_CLOEXEC)
        said_read, said_write = os.pipe2(os.O_CLOEXEC)
        given = {0: stream_fd, 1: stream_fd, 2: said_write, CONFIG_FD: config_read}
        try:
            spawn = functools.partial(
                os.posix_spawn,
                self._executable,
                [*self._argv, *arguments],
                ENVIRONMENT,
                file_actions=[(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in given.items()],
                # The worker's own habits must not reach the program: what it blocks, and what Python ignores.
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
            pid = self._children.start(spawn)
            for fd in (config_read, said_write):
                os.close(fd)
            config_read = said_write = -1
            handed, config_write = config_write, -1  # closed there in every case: a second close would hit another
            self._configure(pid, handed, config, prepare)
            status = self._children.wait(pid, START_TIMEOUT_S)
            if status is None:
                status = self._kill(pid)
            if status != 0:
                raise EngineError(f"{self._name} ended with {status}: {_words(said_read)}")
        finally:
            for fd in (config_read, config_write, said_read, said_write):
                if fd >= 0:
                    os.close(fd)

    def _configure(self, pid: int, config_write: int, config: bytes, prepare: Callable[[int], None]) -> None:
        try:
            prepare(pid)
            # Larger than a pipe by default; the runtime reads as this writes, or has died (EPIPE).
            with contextlib.suppress(OSError):
                fcntl.fcntl(config_write, fcntl.F_SETPIPE_SZ, max(65_536, len(config)))
            view = memoryview(config)
            while view:
                view = view[os.write(config_write, view) :]
        except (BrokenPipeError, ProcessLookupError):
            pass  # it has ended already: its exit status and output name the cause
        except BaseException:
            self._kill(pid)
            raise
        finally:
            os.close(config_write)

    def _kill(self, pid: int) -> int:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self._children.wait(pid, KILL_TIMEOUT_S) or -signal.SIGKILL

    def close(self) -> None:
        """Let the binary go."""
        os.close(self._binary)


def _words(fd: int) -> str:
    """Return a runtime's standard error, shortened."""
    os.set_blocking(fd, False)
    with contextlib.suppress(BlockingIOError):
        return os.read(fd, 2000).decode("utf-8", "replace").strip()
    return "(nothing)"
