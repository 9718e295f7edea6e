"""Starting a sandbox with crun, at the least cost.

* crun copies itself into a sealed memory file and executes that again, so that a container cannot overwrite
  the host's binary (CVE-2019-5736). It is started from such a file here, made once, and skips that.
* Compiling the seccomp profile takes crun a few milliseconds; it leaves the compiled filter beside its state.
  The first sandbox's is handed to the later ones (annotation `run.oci.seccomp_bpf_data`, see crun(1)).
* The configuration is read from a pipe, and not written to it before crun is in the sandbox's cgroup: so
  everything that crun starts is born there.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from sandbox.engines import EngineError, EngineUnusable
from sandbox.engines.oci.children import Children

START_TIMEOUT_S = 10.0
KILL_TIMEOUT_S = 5.0
CONFIG_FD = 9
ALL_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Crun:
    """The runtime binary and its state directory (which must be on a file system of the worker's own)."""

    name = "crun"

    def __init__(self, root: Path) -> None:
        path = shutil.which("crun", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        if path is None:
            raise EngineUnusable("crun is not installed: apt-get install crun")
        self._root = root
        self._children = Children()
        root.mkdir(mode=0o700, exist_ok=True)
        self._binary = os.memfd_create("crun", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        with open(path, "rb") as source:
            os.sendfile(self._binary, source.fileno(), 0, os.fstat(source.fileno()).st_size)
        fcntl.fcntl(self._binary, fcntl.F_ADD_SEALS, ALL_SEALS)
        self._executable = f"/proc/{os.getpid()}/fd/{self._binary}"

    def start(self, name: str, bundle: str, config: bytes, stream_fd: int, enter: Callable[[int], None]) -> int:
        """Start a sandbox whose PID 1 has `stream_fd` as descriptors 0 and 1; the host's pid of it.

        `enter` is called with crun's pid before crun does anything. Raises EngineError with crun's words.
        """
        pid_file = f"{bundle}/pid"
        config_read, config_write = os.pipe2(os.O_CLOEXEC)
        said_read, said_write = os.pipe2(os.O_CLOEXEC)
        argv = ["crun", f"--root={self._root}", "--cgroup-manager=disabled", "run", "--detach"]
        argv += [f"--bundle={bundle}", f"--config=/dev/fd/{CONFIG_FD}", f"--pid-file={pid_file}", name]
        try:
            spawn = functools.partial(
                os.posix_spawn,
                self._executable,
                argv,
                {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, stream_fd, 0),
                    (os.POSIX_SPAWN_DUP2, stream_fd, 1),
                    (os.POSIX_SPAWN_DUP2, said_write, 2),
                    (os.POSIX_SPAWN_DUP2, config_read, CONFIG_FD),
                ],
                # The worker's own habits must not reach the program: what it blocks, and what Python ignores.
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
            pid = self._children.start(spawn)
            for fd in (config_read, said_write):
                os.close(fd)
            config_read = said_write = -1
            self._configure(pid, config_write, config, enter)
            config_write = -1
            status = self._wait(pid)
            if status != 0:
                raise EngineError(f"crun ended with {status}: {_words(said_read)}")
            with open(pid_file) as file:
                return int(file.read())
        finally:
            for fd in (config_read, config_write, said_read, said_write):
                if fd >= 0:
                    os.close(fd)

    def _configure(self, pid: int, config_write: int, config: bytes, enter: Callable[[int], None]) -> None:
        """Move crun to its cgroup, then let it read its configuration."""
        try:
            enter(pid)
            # Larger than a pipe by default; crun reads as this writes, or has died (EPIPE).
            with contextlib.suppress(OSError):
                fcntl.fcntl(config_write, fcntl.F_SETPIPE_SZ, max(65_536, len(config)))
            view = memoryview(config)
            while view:
                view = view[os.write(config_write, view) :]
        except BrokenPipeError:
            pass  # crun's exit status and words say why
        except BaseException:
            self._kill(pid)
            raise
        finally:
            os.close(config_write)

    def _wait(self, pid: int) -> int:
        """The exit status of crun, killed if it takes longer than START_TIMEOUT_S."""
        status = self._children.wait(pid, START_TIMEOUT_S)
        return self._kill(pid) if status is None else status

    def _kill(self, pid: int) -> int:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return self._children.wait(pid, KILL_TIMEOUT_S) or -signal.SIGKILL

    def compiled_filter(self, name: str) -> bytes | None:
        """The seccomp filter that crun compiled for a sandbox, as the kernel takes it."""
        with contextlib.suppress(OSError):
            return (self._root / name / "seccomp.bpf").read_bytes() or None
        return None

    def forget(self, name: str) -> None:
        """Remove the state of a sandbox that is dead; `crun delete` would do this and no more here."""
        place = f"{self._root}/{name}"
        with contextlib.suppress(FileNotFoundError):
            for entry in os.listdir(place):
                os.unlink(f"{place}/{entry}")
            os.rmdir(place)

    def close(self) -> None:
        """Let the binary go."""
        os.close(self._binary)


def _words(fd: int) -> str:
    """What crun said on its standard error, shortened."""
    os.set_blocking(fd, False)
    with contextlib.suppress(BlockingIOError):
        return os.read(fd, 2000).decode("utf-8", "replace").strip()
    return "(nothing)"
