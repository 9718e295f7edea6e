"""Requests that are wrong, each in one way, and what they are answered: status, and the parameter that is named."""

from __future__ import annotations

from typing import Any

RUN = {"language": "bash", "code": "echo hi"}


def run(**fields: Any) -> dict[str, Any]:
    return {**RUN, **fields}


def files(*paths: str) -> dict[str, Any]:
    return run(files=[{"path": path, "content": ""} for path in paths])


TOKENS: dict[str, str | None] = {
    "missing": None,
    "empty": "",
    "no scheme": "dev_123",
    "another scheme": "Basic ZGV2XzEyMzo=",
    "no token": "Bearer",
    "spaces": "Bearer  ",
    "wrong": "Bearer dev_124",
    "a piece": "Bearer dev_12",
    "more": "Bearer dev_123x",
    "two": "Bearer dev_123 dev_123",
    "huge": "Bearer " + "x" * 6000,
    "not ASCII": "Bearer d\xe9v_123",
    "control characters": "Bearer dev_123\x7f",
    "a NUL in words": "Bearer dev_123%00",
    "like a key": "Bearer ry_" + "a" * 38,
    "SQL": "Bearer ' OR 1=1 --",
}

#: (body, param that the answer names; None where it is not looked at)
BODIES: dict[str, tuple[Any, str | None]] = {
    **{
        f"language {name!r}": (run(language=name), "language")
        for name in ("../sh", "Python\n", "__proto__", "", " ", "python ", "PYTHON\x00", "bash;id", "x" * 5000, "pythön", "%00", "/bin/sh")
    },
    **{f"language {value!r}": (run(language=value), "language") for value in (None, 1, [], {}, True)},
    **{
        f"limit {value!r}": (run(limits={"timeout_ms": value}), "limits.timeout_ms")
        for value in ("1", "", 0, -1, 1.5, True, 10**9, 2**63, 2**64, -(2**63), [], {}, "Infinity", "1e3")
    },
    **{
        f"limits.{name}": (run(limits={name: value}), f"limits.{name}")
        for name, value in {
            "memory_mb": 15, "cpu_ms": 0, "cpus": 0, "pids": 513, "max_output_bytes": 0, "max_artifact_bytes": -1,
            "max_artifact_files": 101, "nproc": 1, "__class__": 1,
        }.items()
    },
    **{
        f"path {path[:20]!r}": (files(path), None)
        for path in ("../x", "/etc/passwd", "a/../../x", "", ".", "..", "a//b", "a/", "a\x00b", "x" * 300, "a/" * 600 + "b", "./a", "a/./b")
    },
    **{
        f"a pattern {text[:20]!r}": (run(network={"allow": [text]}), "network.allow.0")
        for text in ("", "API.example", "a b", "a\n", "a\x00", "http:" + "//a.example", "a.example/", "a.example.", "0x7f.1",
                     "2130706433", "127.1", "127.0.0.01", "::1%lo", "[::1", "a..b", "*.*.example", "a*", "a.example:0",
                     "a.example:99999", "a.example:http", "ａ.example", "x" * 300, "../sh", "*.1")
    },
    "a network that is no object": (run(network=["a.example"]), "network"),
    "a network with another field": (run(network={"allow": [], "proxy": "x"}), "network.proxy"),
    "patterns that are no list": (run(network={"allow": "a.example"}), "network.allow"),
    "a pattern that is no text": (run(network={"allow": [1]}), "network.allow.0"),
    "too many patterns": (run(network={"allow": ["a.example"] * 65}), "network.allow"),
    **{
        f"a package {text[:20]!r}": (run(language="python", packages=[text]), "packages.0")
        for text in ("", " ", "-r /etc/passwd", "--index-url=http:" + "//a.example", "--extra-index-url http:" + "//a x",
                     "x --pre", "x;id", "$(id)", "`id`", "x\n--pre", "x\x00", "../x", "/etc/passwd", "file:///etc/passwd",
                     "git+https:" + "//a.example/x", "x @ https:" + "//a.example/x.whl", "x; os_name=='posix'", "x===1", "x[",
                     "ｘ", "x" * 201, "x" * 100_000)
    },
    **{
        f"an npm package {text[:20]!r}": (run(language="node", packages=[text]), "packages.0")
        for text in ("a/b", "x@npm:y@1", "x@file:..", "x@git+ssh:" + "//a/x", "x@https:" + "//a.example/x.tgz", "x.tgz", "node_modules",
                     "@/x", "@a/", "@a/../x", "--prefix=/", "x@>1 && id", "x@" + "1 || " * 40 + "1")
    },
    **{
        f"a module {text[:20]!r}": (run(language="go", packages=[text]), "packages.0")
        for text in ("x", "a.example/../x", "a.example/x@main", "a.example/x@v1.2.3;id", "-mod=mod", "a.example/x@none", "./x.y")
    },
    **{
        f"a crate {text[:20]!r}": (run(language="rust", packages=[text]), "packages.0")
        for text in ("x@git", "--git=https:" + "//a.example", "x/y", "x@", "x@1\n[patch]", 'x"@1', "x@path",
                     "x[../y]", 'x["]', "x[a]b@1", "x[dep:y]", "x[a\n]", "x[[a]]")
    },
    "packages that are no list": (run(language="python", packages="x"), "packages"),
    "a package that is no text": (run(language="python", packages=["x", {}]), "packages.1"),
    "33 packages": (run(language="python", packages=[f"p{n}" for n in range(33)]), "packages"),
    "a package twice": (run(language="python", packages=["a-b", "A_B==1"]), "packages.1"),
    "packages of bash": (run(packages=["x"]), "packages"),
    "the same path twice": (files("a", "a"), None),
    "a file where a directory is": (files("a", "a/b"), None),
    "the entry file's path beside code": (files("main.sh"), None),
    "a file beneath inputs with an id that is none": (run(files=[{"path": "a", "id": "file_x"}]), None),
    "a file with id and content": (run(files=[{"path": "a", "id": "file_x", "content": ""}]), None),
    "an encoding that is none": (run(files=[{"path": "a", "content": "", "encoding": "rot13"}]), None),
    "base64 that is none": (run(files=[{"path": "a", "content": "!", "encoding": "base64"}]), None),
    "65 files": (files(*(f"f{n}" for n in range(65))), None),
    "code and entrypoint": (run(entrypoint="a", files=[{"path": "a", "content": ""}]), None),
    "neither": ({"language": "bash"}, None),
    "an entrypoint that is not there": ({"language": "bash", "entrypoint": "a", "files": []}, None),
    "an unknown field": (run(volume="/"), "volume"),
    "a field of another service": (run(timeout=3), "timeout"),
    **{
        f"a field named {name[:12]!r}": (run(**{name: 1}), "?")
        for name in ("a\r\nX-Evil: 1", "<script>", "\x1b[2J", "\u202e", "x" * 100_000, "\U0001f600" * 10_000, "")
    },
    "code that is no text": (run(code=1), "code"),
    "code too long": (run(code="x" * (1 << 20) + "y"), "code"),
    "stdin too long": (run(stdin="x" * ((8 << 20) + 1)), "stdin"),
    "args that are no list": (run(args="--x"), "args"),
    "an argument with a NUL": (run(args=["a\x00b"]), None),
    "65 args": (run(args=["x"] * 65), "args"),
    "env with an equals sign": (run(env={"A=B": "x"}), None),
    "env with a NUL": (run(env={"A": "x\x00"}), None),
    "env without a name": (run(env={"": "x"}), None),
    "env that is no text": (run(env={"A": 1}), None),
    "an isolation that is none": (run(isolation="vm"), "isolation"),
    "stream and background": (run(stream=True, background=True), None),
    "metadata too deep": (run(metadata={"a": {"b": 1}}), None),
}  # fmt: skip

#: What is not even JSON as it should be.
RAW: dict[str, bytes] = {
    "nothing": b"",
    "a brace": b"{",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "NaN": b'{"language": "bash", "code": "", "limits": {"timeout_ms": NaN}}',
    "Infinity": b'{"language": "bash", "code": "", "limits": {"cpus": Infinity}}',
    "a number without end": b'{"language": "bash", "code": "", "limits": {"cpus": 1e999}}',
    "a lone surrogate": b'{"language": "bash", "code": "\\ud800"}',
    "bytes that are no UTF-8": b'{"language": "bash", "code": "\xff"}',
    "UTF-16": '{"language": "bash", "code": ""}'.encode("utf-16"),
    "2 000 lists": b"[" * 2000,
    "100 000 objects": b'{"a":' * 100_000,
    "depth inside": b'{"language": "bash", "code": "", "metadata": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "the same name twice": b'{"language": "bash", "code": "", "code": 1}',
    "more after the end": b'{"language": "bash", "code": ""} x',
    "a number of many digits": b'{"language": "bash", "code": "", "limits": {"timeout_ms": '
    + b"9" * 10_000
    + b"}}",
}


def piston(*files: Any, **fields: Any) -> dict[str, Any]:
    return {"language": "bash", "version": "*", "files": list(files) or [{"content": "echo hi"}], **fields}


#: Bodies for Piston's `execute`: all of them are answered with 400 and a message alone.
PISTON: dict[str, Any] = {
    **{
        f"name {name[:20]!r}": piston({"name": name, "content": ""})
        for name in (
            "../x",
            "/etc/passwd",
            "a/../../x",
            "..",
            ".",
            "/",
            "a\x00b",
            "x" * 300,
            "a/" * 600 + "b",
            "inputs",
            "outputs",
            "./../x",
        )
    },
    **{f"name {value!r}": piston({"name": value, "content": ""}) for value in (1, True, [], {"a": 1})},
    **{f"file {value!r}": piston(value) for value in (None, 1, "a", [], {}, {"content": None}, {"content": ["a"]})},
    "the same name twice": piston({"name": "a", "content": ""}, {"name": "./a", "content": ""}),
    "a file where a directory is": piston({"name": "a", "content": ""}, {"name": "a/b", "content": ""}),
    "too many files": piston(*({"content": ""} for _ in range(65))),
    "base64 that is none": piston({"content": ""}, {"content": "%%", "encoding": "base64"}),
    "hex that is none": piston({"content": ""}, {"content": "f", "encoding": "hex"}),
    "an encoding that is a list": piston({"content": ""}, {"content": "", "encoding": []}),
    **{
        f"language {name[:20]!r}": piston(language=name)
        for name in (
            "../sh",
            "__proto__",
            "constructor",
            "bash\x00",
            "bash;id",
            "x" * 100_000,
            "<script>",
            "%s",
            "{}",
        )
    },
    **{f"language {value!r}": piston(language=value) for value in (None, 1, [], {}, True, "")},
    **{
        f"version {name[:20]!r}": piston(version=name)
        for name in (
            "latest",
            "*" * 300,
            "^" * 200,
            "9" * 250,
            "1 || " * 60,
            ">=" + "x." * 100,
            "(a+)+$",
            "5.2.37'--",
            "-1",
            "\x00",
            "1." * 120,
        )
    },
    **{f"version {value!r}": piston(version=value) for value in (None, 5, [], {}, True, "")},
    **{
        f"{name} {value!r}": piston(**{name: value})
        for name in ("run_timeout", "run_memory_limit", "compile_cpu_time")
        for value in ("1", True, [], {}, -2, 10**30, 2**63, 1e300, -1e300)
    },
    **{f"args {value!r}": piston(args=value) for value in ("a", 1, {}, [1], [None], [["a"]], ["a\x00b"])},
    "an argument that is too long": piston(args=["x" * 5000]),
    "too many arguments": piston(args=["x"] * 65),
    **{f"stdin {value!r}": piston(stdin=value) for value in (1, [], {}, True)},
    "an array": [],
    "a text": "bash",
    "a number": 1,
}
