"""The loop of a kernel: wait for a request, execute its cell, reply."""

import asyncio
import io
import os
import signal
import sys
import tempfile
from contextlib import contextmanager

from runyard_kernel import completion, outputs
from runyard_kernel.event_loop import allow_loops_inside, not_running, running
from runyard_kernel.messages import MessagePipes, flush
from runyard_kernel.shell import Results, make_shell
from runyard_kernel.tracebacks import describe


def main():
    """Be the kernel until the requests end."""
    pipes = MessagePipes()
    _leave_the_agent()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, write_through=False, errors="backslashreplace")
    kernel = CellLoop(pipes)
    pipes.send({"type": "ready"})
    try:
        kernel.serve()
    finally:
        flush()
        os._exit(0)


def _leave_the_agent():
    """Undo what a forked kernel has of the interpreter that it is a fork of."""
    monitoring = getattr(sys, "monitoring", None)
    for tool in range(6) if monitoring is not None else ():
        if monitoring.get_tool(tool) == "runyard":
            monitoring.set_events(tool, 0)
            monitoring.free_tool_id(tool)
    sys.argv[:] = [""]
    sys.path[0] = ""
    # The directory of `%pip install`, which a cell may make.
    major, minor = sys.version_info[:2]
    own = os.path.expanduser(f"~/.local/lib/python{major}.{minor}/site-packages")
    if own not in sys.path:
        sys.path.append(own)


#: The shell that the template has made, of a kernel that is forked from it.
preloaded = None


class CellLoop:
    """The shell, its event loop, and the cell under way."""

    def __init__(self, pipes):
        self.pipes = pipes
        self.loop = asyncio.new_event_loop()
        allow_loops_inside()
        self.shell = preloaded or make_shell(Results(pipes))
        self.shell.loop_runner = self.run_coroutine
        self.results = self.shell.results
        self.results.pipes = pipes
        #: True if an interrupt has come while a reply was written.
        self.is_interrupted = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def serve(self):
        """Answer requests until there are no more."""
        while (request := self.next_request()) is not None:
            header, parts = request
            operation = header.get("op")
            if operation == "execute":
                self.execute(header, parts["code"].decode("utf-8", "replace"), parts["stdin"])
            elif operation in ("complete", "inspect"):
                code = parts["code"].decode("utf-8", "replace")
                self.pipes.send(*getattr(completion, operation)(self.shell, code, int(header["cursor"])))

    # -- between cells -----------------------------------------------------------------------------

    def next_request(self):
        """Wait for a request, while the tasks of the event loop go on."""
        if self.loop.is_closed():
            self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        loop, fd = self.loop, self.pipes.requests
        arrived = loop.create_future()
        loop.add_reader(fd, lambda: arrived.done() or arrived.set_result(None))
        try:
            loop.run_until_complete(arrived)
        finally:
            loop.remove_reader(fd)
        return self.pipes.receive()

    # -- cells -------------------------------------------------------------------------------------

    def execute(self, header, code, stdin):
        """Execute one cell, and send its replies."""
        shell = self.shell
        directory = header.get("outputs")
        before = outputs.look(directory) if directory else None
        self.results.begin()
        self.pipes.reopen_outputs()
        count = shell.compile.count = shell.execution_count
        error = None
        signal.signal(signal.SIGINT, self.interrupt)
        try:
            with self.cell_stdin(stdin), _cell_environment(header.get("env") or {}), running(self.loop):
                outcome = shell.run_cell(code, store_history=True)
                error = outcome.error_before_exec or outcome.error_in_exec
        except BaseException as e:  # an interrupt behind the cell's last line
            error = e
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self.is_interrupted:
            self.is_interrupted = False
            if error is None or isinstance(error, asyncio.CancelledError):
                error = KeyboardInterrupt().with_traceback(getattr(error, "__traceback__", None))
        self.report(error, count, outputs.changed(before, outputs.look(directory)) if directory else None)

    def report(self, error, count, changed):
        """Send how a cell has ended; `changed` are the outputs that it created or changed, if they are known."""
        exit_code = 0
        if isinstance(error, SystemExit):
            exit_code = _exit_code(error)
        elif error is not None:
            exit_code = 1
            names = self.shell.compile.cells
            self.pipes.send({"type": "exception"}, describe(error, names))
        done = {"type": "done", "exit_code": exit_code, "execution_count": count, "dropped": self.results.dropped}
        self.pipes.send(done, {} if changed is None else {"changed": changed}, waits=False)

    def interrupt(self, _number, _frame):
        """Interrupt the cell; a reply that is being written is written to its end."""
        if self.pipes.is_sending:
            self.is_interrupted = True
        else:
            raise KeyboardInterrupt

    def run_coroutine(self, coroutine):
        """Run the coroutine of a cell on the event loop; an interrupt cancels it."""
        task = self.loop.create_task(coroutine)
        with not_running():
            try:
                return self.loop.run_until_complete(task)
            except KeyboardInterrupt:
                self.is_interrupted = True
                task.cancel()
                return self.loop.run_until_complete(task)

    @contextmanager
    def cell_stdin(self, data):
        """Have standard input be `data`, then end-of-file, for the cell and its children."""
        with tempfile.TemporaryFile() if data else open(os.devnull, "rb") as file:
            if data:
                file.write(data)
                file.seek(0)
            os.dup2(file.fileno(), 0)
        sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8", errors="surrogateescape")
        try:
            yield
        finally:
            os.dup2(self.pipes.null, 0)


@contextmanager
def _cell_environment(env):
    """Set variables for one cell, and put back what they were."""
    before = {name: os.environ.get(name) for name in env}
    os.environ.update(env)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _exit_code(error):
    """Return the exit code of a SystemExit, as the interpreter would have it."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1
