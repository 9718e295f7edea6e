"""Call the handler of a function: `main.py HANDLER call|check`. It is short, since every call compiles it."""

import sys
from _json import encode_basestring, make_encoder, make_scanner  # `json` itself would take longer than the call

path, what = sys.argv[1:]
sys.argv[:] = [path]
folder, _, name = path.removesuffix(".py").rpartition("/")
if folder:
    sys.path.insert(0, f"/work/{folder}")
if not name.isidentifier() or name in sys.modules:
    name = "handler"
module = sys.modules[name] = type(sys)(name)
module.__file__ = f"/work/{path}"


def execute(path, names):
    with open(path, "rb") as source:
        exec(compile(source.read(), path, "exec"), names)
    return names


execute(module.__file__, module.__dict__)
if what == "check":
    execute("/work/.runyard/rare.py", {})["check"](module, path)
else:
    settings = type(sys.implementation)(
        strict=True,
        object_hook=None,
        object_pairs_hook=None,
        parse_float=float,
        parse_int=int,
        parse_constant=float,
    )
    with open("/work/.runyard/input", encoding="utf-8") as source:
        value = module.run(make_scanner(settings)(source.read(), 0)[0])
    if hasattr(value, "__await__"):
        value = execute("/work/.runyard/rare.py", {})["awaited"](value)
    try:
        encode = make_encoder({}, None, encode_basestring, None, ":", ",", False, False, False)
        data = "".join(encode(value, 0)).encode()
    except (TypeError, ValueError, RecursionError):
        execute("/work/.runyard/rare.py", {})["refuse"](value)
    if len(data) > 1 << 20:
        sys.exit(f"the output of the handler has {len(data)} bytes, the maximum is {1 << 20}")
    with open("/work/outputs/\x01output", "wb") as output:
        output.write(data)
