"""IPython's shell, with its results and tracebacks sent as replies."""

import os
import subprocess
import sys
import warnings

from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.formatters import DisplayFormatter
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Any, Type
from traitlets.config import Config

from runyard_kernel import boxes
from runyard_kernel.formats import add_formatters, parts_of
from runyard_kernel.tracebacks import describe

INLINE = "module://matplotlib_inline.backend_inline"
MAX_RESULTS = 100
MAX_RESULTS_BYTES = 10 * 1024 * 1024


class Results:
    """Sends the results of the cell under way, within its bounds."""

    def __init__(self, pipes):
        self.pipes = pipes
        self.begin()

    def begin(self):
        """Begin to count, for a new cell."""
        self.sent = self.size = self.dropped = 0

    def send(self, bundle, *, is_main=False, display_id=None, update=False):
        """Send one result, or count it as dropped."""
        parts = parts_of(bundle)
        size = sum(map(len, parts.values()))
        if not parts:
            return
        if self.sent >= MAX_RESULTS or self.size + size > MAX_RESULTS_BYTES:
            self.dropped += 1
            return
        self.sent += 1
        self.size += size
        header = {"type": "display", "is_main_result": is_main, "display_id": display_id, "update": update}
        self.pipes.send(header, parts)


class KernelDisplayHook(DisplayHook):
    """Sends the value of a cell's last expression."""

    def write_output_prompt(self):
        """Write nothing: the number of the cell is in the reply."""

    def write_format_data(self, format_dict, md_dict=None):  # noqa: ARG002
        self.shell.results.send(format_dict, is_main=True)


class KernelDisplayPublisher(DisplayPublisher):
    """Sends what is displayed."""

    def publish(self, data, metadata=None, *, transient=None, update=False, **_kwargs):  # noqa: ARG002
        display_id = (transient or {}).get("display_id")
        self.shell.results.send(data, display_id=None if display_id is None else str(display_id), update=update)

    def clear_output(self, wait=False):  # noqa: FBT002
        self.shell.results.pipes.send({"type": "clear", "wait": bool(wait)})


class KernelDisplayFormatter(DisplayFormatter):
    """Formats as IPython does, and closes a figure that has been shown: the end of the cell would show it again."""

    def format(self, obj, include=None, exclude=None):
        found = super().format(obj, include=include, exclude=exclude)
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None and isinstance(obj, pyplot.Figure):
            pyplot.close(obj)
        return found


class CellCompiler(CachingCompiler):
    """Remembers which file names are those of cells."""

    def __init__(self):
        super().__init__()
        self.cells = {}
        self.count = 0

    def cache(self, transformed_code, number=0, raw_code=None):
        name = super().cache(transformed_code, number, raw_code)
        self.cells[name] = f"cell {self.count}"
        return name


class KernelShell(InteractiveShell):
    """The shell of a context."""

    displayhook_class = Type(KernelDisplayHook)
    display_pub_class = Type(KernelDisplayPublisher)
    compiler_class = Type(CellCompiler)
    results = Any()

    def init_display_formatter(self):
        self.display_formatter = KernelDisplayFormatter(parent=self)
        self.configurables.append(self.display_formatter)
        add_formatters(self.display_formatter)

    def init_io(self):
        """Leave the standard streams as they are."""

    def init_history(self):
        super().init_history()
        self.history_manager.enabled = False

    def showtraceback(self, exc_tuple=None, *_args, **_kwargs):
        """Show only what a representation has raised: the exception that ends a cell is a reply of its own."""
        if exc_tuple is not None:
            print(describe(exc_tuple[1], self.compile.cells)["traceback"].decode(), file=sys.stderr)

    def showsyntaxerror(self, *_args, **_kwargs):
        """Show nothing, as above."""

    def system_raw(self, cmd):
        """Run a shell line on the streams of the cell."""
        command = self.var_expand(cmd, depth=1)
        self.user_ns["_exit_code"] = subprocess.call(["/bin/bash", "-c", command])

    system = system_raw

    def ask_exit(self):
        """End the cell, as `exit()` does."""
        sys.exit(0)


def make_shell(results):
    """Return the shell."""
    os.environ.setdefault("IPYTHONDIR", "/tmp/.ipython")  # noqa: S108  # the sandbox's own
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    config.Completer.use_jedi = False
    shell = KernelShell.instance(config=config, results=results)
    shell.colors = "nocolor"
    _show_figures(shell)
    shell.user_ns["exit"] = shell.user_ns["quit"] = shell.user_ns_hidden["exit"] = _exit
    shell.user_ns_hidden["quit"] = _exit
    warnings.filterwarnings("ignore", message="To exit: use", category=UserWarning)
    return shell


def _show_figures(shell):
    """Have the figures of matplotlib be results, unless another backend is asked for than the image's own."""
    if os.environ.get("MPLBACKEND", "agg").lower() != "agg":
        return
    os.environ["MPLBACKEND"] = INLINE
    boxes.remember()
    if "matplotlib" in sys.modules:
        from IPython.core.pylabtools import activate_matplotlib
        from matplotlib_inline.backend_inline import configure_inline_support

        activate_matplotlib(INLINE)
        configure_inline_support(shell, "inline")


def forget_cells(shell):
    """Have no cell been executed yet."""
    shell.execution_count = 1
    shell.history_manager.reset()
    shell.compile.cells.clear()
    for name in [name for name in shell.user_ns if name.startswith("_") and name.strip("_i").isdigit()]:
        del shell.user_ns[name]
    shell.user_ns.update(dict.fromkeys(("_", "__", "___", "_i", "_ii", "_iii"), ""))
    shell.user_ns["Out"].clear()


def _exit(code=None):
    """End the cell with an exit code; the variables are kept."""
    raise SystemExit(code)
