"""Runs inside an environment with Open WebUI: loads a tool with Open WebUI's own loader and calls it as it would.

For each line of JSON on stdin one on stdout, behind `ANSWER`. Standard library and what Open WebUI has; no test runs here.
"""

import asyncio
import inspect
import json
import sys
from typing import get_type_hints

from fastapi import FastAPI, Header, HTTPException, Request, Response
from open_webui.utils.plugin import load_tool_module_by_id
from pydantic import create_model

TOKEN = "the user's token"
ANSWER = "ANSWER "


def host_request(files, token):
    """A request of the user's, in an application that gives files to that user alone, where Open WebUI does."""
    app = FastAPI()

    @app.get("/api/v1/files/{file_id}/content")
    async def content(file_id: str, authorization: str = Header("")):
        if authorization != f"Bearer {TOKEN}":
            raise HTTPException(401)
        if file_id not in files:
            raise HTTPException(404)
        return Response(files[file_id].encode("latin-1"), media_type="application/octet-stream")

    headers = [(b"authorization", f"Bearer {token}".encode())] if token else []
    return Request({"type": "http", "app": app, "headers": headers, "method": "POST", "path": "/"})


def described(tools):
    """Each method as the host describes it to a model: its parameters but those it injects."""
    found = {}
    for name, method in inspect.getmembers(tools, inspect.iscoroutinefunction):
        if name.startswith("_"):
            continue
        hints, parameters = get_type_hints(method), inspect.signature(method).parameters
        create_model(
            name, **{p: (hints[p], ... if q.default is q.empty else q.default) for p, q in parameters.items()}
        )
        required = [p for p, q in parameters.items() if q.default is q.empty]
        found[name] = {
            "required": required,
            "doc": method.__doc__,
            "given": [p for p in parameters if p[:2] != "__"],
        }
    return found


async def call(tools, asked):
    """One call, with everything that is injected; what came of it, and the events on the way."""
    events = []

    async def emit(event):
        events.append(event)

    user = {"id": "user-1", "name": "Ada", "role": "user"}
    if "user_valves" in asked:
        user["valves"] = tools.UserValves(**asked["user_valves"])
    injected = {
        "__user__": user,
        "__event_emitter__": emit,
        "__files__": asked.get("files"),
        "__metadata__": {"chat_id": asked.get("chat", "local:temporary"), "files": asked.get("files")},
        "__request__": host_request(asked.get("contents", {}), asked.get("token", TOKEN)),
    }
    calling = getattr(tools, asked["method"])(**asked["arguments"], **({} if asked.get("bare") else injected))
    if "stop_at" in asked:  # as a user who has seen that in the status line
        task = asyncio.ensure_future(calling)
        while not task.done() and not any(asked["stop_at"] in json.dumps(event) for event in events):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return {"result": "stopped", "events": events}
    return {"result": await calling, "events": events}


async def answer(asked):
    tools, frontmatter, _ = await load_tool_module_by_id("runyard", asked["source"])
    default = tools.valves.model_dump()
    tools.valves = tools.Valves(**asked.get("valves", {}))  # as the host does with what an administrator set
    answers = await asyncio.gather(*(call(tools, one) for one in asked.get("calls", [])))
    return {"frontmatter": frontmatter, "default": default, "methods": described(tools), "answers": answers}


for line in sys.stdin:
    print(ANSWER + json.dumps(asyncio.run(answer(json.loads(line)))), flush=True)
