"""The parts of `main.py` that few calls need."""

import sys


def check(module, path):
    """End with a message unless the module has a `run` that can be called with one argument."""
    import inspect

    run = getattr(module, "run", None)
    if not callable(run):
        sys.exit(f"{path}: it has no function `run`")
    try:
        inspect.signature(run).bind(None)
    except TypeError as e:
        sys.exit(f"{path}: `run` cannot be called with one argument: {e}")
    except ValueError:
        pass  # a callable without a signature, as C functions are


def awaited(value):
    """Return the result of a handler that is asynchronous."""
    import asyncio

    async def result():
        return await value

    return asyncio.run(result())


def refuse(value):
    """End with the reason why a value is no JSON."""
    import json

    try:
        json.dumps(value, allow_nan=False).encode()
        problem = "it has half a character"
    except (TypeError, ValueError, RecursionError) as e:
        problem = str(e)
    sys.exit(f"the output of the handler is not JSON: {problem}")
