"""Call the handler of a function: the input comes from a file, the output goes to one; stdout is the handler's own.

Started as `main.py HANDLER call|check`. Nothing is imported that a usual program would not have: a call is to take
no longer than a run.
"""

import _json
import sys

OUTPUT = "/work/outputs/\x01output"
MOST = 1 << 20


def load(path):
    """Return the module in that file, as an import would make it, under its own name where that is free."""
    name = path.rpartition("/")[2].removesuffix(".py")
    if not name.isidentifier() or name in sys.modules:
        name = "handler"
    folder = path.rpartition("/")[0]
    if folder:
        sys.path.insert(0, f"/work/{folder}")
    module = type(sys)(name)
    module.__file__ = f"/work/{path}"
    sys.modules[name] = module
    with open(module.__file__, "rb") as file:
        exec(compile(file.read(), module.__file__, "exec"), module.__dict__)
    return module


def check(run, path):
    """End with a message unless `run` can be called with one argument."""
    problem = "" if callable(run) else "it has no function `run`"
    if not problem:
        import inspect

        try:
            inspect.signature(run).bind(None)
        except TypeError as e:
            problem = f"`run` cannot be called with one argument: {e}"
        except ValueError:
            pass  # a callable without a signature, as C functions are
    if problem:
        sys.exit(f"{path}: {problem}")


def read():
    """Return the input, which the service has written without spaces."""
    with open("/work/.runyard/input", encoding="utf-8") as file:
        return _json.make_scanner(Scanner)(file.read(), 0)[0]


class Scanner:
    """The settings of the interpreter's own JSON parser, as `json` has them."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def write(value):
    """Write the output. Ends with a message if it is not JSON, or too large."""
    encode = _json.make_encoder({}, refuse, _json.encode_basestring, None, ":", ",", False, False, False)
    try:
        data = "".join(encode(value, 0)).encode()
    except (TypeError, ValueError, RecursionError) as e:
        sys.exit(f"the output of the handler is not JSON: {e}")
    if len(data) > MOST:
        sys.exit(f"the output of the handler has {len(data)} bytes, the maximum is {MOST}")
    with open(OUTPUT, "wb") as file:
        file.write(data)


def refuse(value):
    """Refuse what has no form in JSON."""
    raise TypeError(f"an object of type {type(value).__name__} has none of its types")


def main():
    """Load the handler, and check or call it."""
    path, what = sys.argv[1:3]
    sys.argv[:] = [path]
    run = getattr(load(path), "run", None)
    if what == "check":
        check(run, path)
        return
    value = run(read())
    if hasattr(value, "__await__"):
        import asyncio

        async def result():
            return await value

        value = asyncio.run(result())
    write(value)


main()
