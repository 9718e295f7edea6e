"""Drives Piston's clients of PyPI in their own environment: a call as JSON on stdin, what it returned on stdout."""

import asyncio
import json
import os
import sys


async def aiopyston(url, key, calls):
    import pyston

    client = pyston.PystonClient(key, url)
    try:
        for name, options in calls:
            if name == "runtimes":
                yield [
                    [item.language, item.version, item.aliases, item.runtime] for item in await client.runtimes()
                ]
            elif name == "languages":
                yield sorted(await client.languages())
            else:
                files = [pyston.File(**file) for file in options.pop("files")]
                try:
                    yield (await client.execute(files=files, **options)).raw_json
                except pyston.exceptions.ExecutionError as e:
                    yield [type(e).__name__, str(e)]
    finally:
        await client.close_session()


async def piston_rspy(url, key, calls):
    import piston_rspy

    client = piston_rspy.Client.with_url_and_key(url, key) if key else piston_rspy.Client.with_url(url)
    for name, options in calls:
        if name == "runtimes":
            yield [[item.language, item.version, item.aliases] for item in await client.fetch_runtimes()]
        else:
            files = [piston_rspy.File(**file) for file in options.pop("files")]
            ended = await client.execute(piston_rspy.Executor(files=files, **options))
            run, compiled = ended.run, ended.compile
            yield {
                "language": ended.language, "version": ended.version, "status": ended.status, "ok": ended.is_ok(),
                "run": [run.stdout, run.stderr, run.output, run.code, run.signal, run.is_ok()],
                "compile": None if compiled is None else [compiled.output, compiled.code],
            }  # fmt: skip


async def main():
    asked = json.loads(sys.stdin.read())
    client = {"aiopyston": aiopyston, "piston_rspy": piston_rspy}[asked["client"]]
    print(json.dumps([said async for said in client(asked["url"], asked["key"], asked["calls"])]))


asyncio.run(main())
sys.stdout.flush()
# piston_rspy's threads use the interpreter until the process ends: if it were finalized, one of them might crash.
os._exit(0)
