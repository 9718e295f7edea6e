"""The bash that keeps its state between cells.

It is an interactive shell without a terminal, because only such a shell survives SIGINT and failed expansions. Its
standard input is one end of a socket pair: commands of the kernel come in, and reports go out through the same
descriptor. A cell runs as the PROMPT_COMMAND: there bash behaves as in a script (no job messages, no `exit` on
standard error), BASH_SOURCE is empty, and descriptors 0 to 2 are redirected, so no child inherits the socket.
"""

import os
import re
import secrets
import select
import signal
import socket
import subprocess

#: Copies of the cell's standard output and standard error; closed before the cell begins.
OUT, ERR = 248, 249
LEAVE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "leave.sh")
SECTIONS = 6
END_S = 1
QUIET = "2>/dev/null"
SETUP = "PS1= PS2= PS0= PROMPT_COMMAND=; builtin unset -v MAILCHECK HISTFILE; builtin set +H +o history"
#: After an interrupt, bash goes on with the next prompt, for which REPORT is already set.
CELL = (
    "{{ PROMPT_COMMAND={report}; builtin printf '{mark}+'; }} >&0 2>/dev/null; "
    '{{ {env} eval -- "$RUNYARD_CODE" >&{out} 2>&{err} {out}>&- {err}>&-; RUNYARD_STATUS=$?; '
    "}} <{stdin} {out}>&1 {err}>&2 >/dev/null 2>/dev/null"
)
REPORT = (
    "{{ builtin printf '%s\\0' \"{mark}-${{RUNYARD_STATUS:-$?}}\"; builtin set +v; "
    "builtin unset -v RUNYARD_CODE RUNYARD_STATUS PROMPT_COMMAND; PS1= PS2= PS0=; }} >&0 2>/dev/null"
)

#: Variables that no shell can be given, and those of this module.
NOT_KEPT = re.compile(
    rb"^declare -\S+ (?:BASHOPTS|BASH_VERSINFO|EUID|PPID|SHELLOPTS|UID|PS[012]|PROMPT_COMMAND|RUNYARD_\w+)"
    rb"(?:=.*)?$",
    re.MULTILINE,
)


class ShellEnded(Exception):
    """The shell has exited; `status` is that of a shell that reports it: 128 + N after signal N."""

    def __init__(self, status):
        super().__init__(status)
        self.status = status


def quote(text):
    """Return `text` as one word of bash. It cannot hold NUL characters: they are left out."""
    return "'" + text.replace("\0", "").replace("'", "'\\''") + "'"


class Shell:
    """One bash process at a time, and the state of the last one that exited."""

    def __init__(self):
        self._state = os.memfd_create("state", os.MFD_CLOEXEC)
        self._interrupts, wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        # A command of the user's EXIT trap precedes this one, on lines of its own.
        self._leave = f"{{ builtin . {quote(LEAVE)}; }} >/proc/{os.getpid()}/fd/{self._state} {QUIET}"
        os.dup2(2, ERR, inheritable=False)
        self._start()

    def _start(self):
        os.ftruncate(self._state, 0)
        self._control, other = socket.socketpair()
        with other, open(os.devnull, "wb") as null:
            self._process = subprocess.Popen(
                ["bash", "--norc", "--noprofile", "--noediting", "-i"],
                executable="/bin/bash",
                stdin=other,
                stderr=null,  # it complains that it has no terminal
                env=_environment(),
                process_group=0,
                pass_fds=(ERR,),
            )
        self.ask(SETUP, first=f"exec 2>&{ERR} {ERR}>&-; ")
        self.ask(f"builtin trap -- {quote(self._leave)} EXIT")

    def execute(self, code, stdin, env):
        """Run a cell; return its status and whether it was interrupted. Raises ShellEnded."""
        self._forget_interrupts()
        given = os.memfd_create("stdin", os.MFD_CLOEXEC) if stdin else None
        try:
            source = os.devnull
            if given is not None:
                _write_all(given, stdin)
                source = f"/proc/{os.getpid()}/fd/{given}"
            assignments = " ".join(f"{name}={quote(value)}" for name, value in env.items())
            mark = secrets.token_hex(8)
            report = quote(REPORT.format(mark=mark))
            cell = CELL.format(mark=mark, report=report, env=assignments, out=OUT, err=ERR, stdin=source)
            start = f"RUNYARD_STATUS= RUNYARD_CODE={quote(code)} PROMPT_COMMAND=({quote(cell)} {report})"
            self._send(f"{{ {start}; }} {QUIET}\n")
            status, interrupted = self._finish(mark.encode())
            self._protect()
            return status, interrupted
        finally:
            if given is not None:
                os.close(given)

    def _finish(self, mark):
        """Wait for the report of a cell; pass interrupts on to it, once it has begun."""
        received = b""
        began = interrupted = False
        sources = [self._control]
        while (end := re.search(mark + rb"-(\d+)\0", received)) is None:
            if not began and mark + b"+" in received:
                began = True
                sources.append(self._interrupts)
            ready, _, _ = select.select(sources, [], [])
            if self._control in ready:
                part = self._receive()
                if not part:
                    raise ShellEnded(_status(self._process.wait()))
                received += part
            elif self._interrupts in ready:
                self._forget_interrupts()
                interrupted = True
                self._signal(signal.SIGINT)
        return int(end.group(1)), interrupted

    def _protect(self):
        """Have the state saved when the shell exits, also where the cell has set a trap."""
        text = self.ask("builtin trap -p EXIT").strip()
        if self._leave.replace("'", "'\\''") not in text:
            old = text.removeprefix("trap -- ").removesuffix(" EXIT") if text else "''"
            self.ask(f"builtin trap -- {old}$'\\n'{quote(self._leave)} EXIT")

    def restart(self):
        """Start a shell with the state of the one that has exited. Return False if that was not saved."""
        size = os.fstat(self._state).st_size
        sections = os.pread(self._state, size, 0).split(b"\0")
        if len(sections) != SECTIONS + 1:
            return False
        options, variables, functions, shopt, aliases, rest = sections[:SECTIONS]
        self._control.close()
        self._start()
        state = b"\n".join((shopt, functions, NOT_KEPT.sub(b"", variables), rest, aliases, options))
        source = os.memfd_create("restore", os.MFD_CLOEXEC)
        try:
            _write_all(source, state)
            self._send(f"builtin . /proc/{os.getpid()}/fd/{source} >/dev/null {QUIET}\n")
            self.ask(":")
        finally:
            os.close(source)
        return True

    def ask(self, command, first=""):
        """Run a command of the kernel's own between cells; return its output. Raises ShellEnded.

        `first` comes before it, with the shell's own descriptors.
        """
        mark = secrets.token_hex(8)
        self._send(f"{first}{{ {command}; builtin printf '\\000{mark}'; }} >&0 {QUIET}\n")
        ending = b"\0" + mark.encode()
        received = b""
        while not received.endswith(ending):
            part = self._receive()
            if not part:
                raise ShellEnded(_status(self._process.wait()))
            received += part
        return received[: -len(ending)].rpartition(b"\0")[2].decode("utf-8", "replace")

    def end(self):
        """Let the shell exit, so that its EXIT trap runs; kill it if it does not."""
        try:
            self._send(f"{{ builtin exit; }} {QUIET}\n")
            self._process.wait(END_S)
        except (OSError, subprocess.TimeoutExpired):
            self._signal(signal.SIGKILL)

    def _send(self, text):
        try:
            self._control.sendall(text.encode("utf-8", "surrogateescape"))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the next read finds the end

    def _receive(self):
        try:
            return self._control.recv(1 << 16)
        except ConnectionResetError:
            return b""

    def _signal(self, number):
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def _forget_interrupts(self):
        try:
            os.read(self._interrupts, 4096)
        except BlockingIOError:
            pass


def _environment():
    """Return the environment that this process was started with: Python may have changed LC_CTYPE."""
    with open("/proc/self/environ", "rb") as file:
        pairs = file.read().split(b"\0")
    return dict(pair.split(b"=", 1) for pair in pairs if b"=" in pair)


def _status(returncode):
    return returncode if returncode >= 0 else 128 - returncode


def _write_all(fd, data):
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.lseek(fd, 0, os.SEEK_SET)
