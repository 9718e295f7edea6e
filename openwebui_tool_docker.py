"""
title: Runyard (from a container)
description: Runs code in single-use, locked-down sandboxes of Runyard; shows images, links other files.
version: 0.1.0
license: MIT
required_open_webui_version: 0.5.0
"""

# Made by clients/openwebui.py from openwebui_tool.py: change that, not this.
#
# Paste this into Open WebUI (Workspace > Tools > +), and set its valves: the address of your Runyard service and
# a key. Where Open WebUI runs in a container, this file is the one to take.
#
# One instance serves every user at once, so nothing about a call is kept on it. It needs nothing but what
# Open WebUI itself is made of.

import asyncio
import base64
import json
import re
import secrets
import time
import unicodedata
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
from pydantic import BaseModel, Field

#: Shown in the chat; everything else is a link. What a browser would run is not among them.
IMAGES = {"image/png", "image/jpeg", "image/gif", "image/webp"}
#: The service says something every five seconds.
SILENCE_S = 30.0
CONNECT_S = 10.0
RETRIES = 3
LONGEST_PAUSE_S = 15.0
#: Between two looks at what it prints, in the status line.
STATUS_S = 1.0
MAX_LINE_BYTES = 128 * 1024 * 1024
MAX_ATTACHMENTS = 32
FENCE = re.compile(r"\A\s*```[\w+#.-]*[ \t]*\n(.*?)\n?```\s*\Z", re.DOTALL)
FILE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
SECRET: Any = {"input": {"type": "password"}}
DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,", re.ASCII)


class Tools:
    """What a model may call."""

    class Valves(BaseModel):
        """What an administrator sets."""

        api_url: str = Field("http://host.docker.internal:8080", description="URL of the Runyard service.")
        api_key: str = Field("dev_123", description="API key of the service.", json_schema_extra=SECRET)
        public_url: str = Field(
            "",
            description="URL of the service as browsers reach it, for links to files. Default: api_url, with "
            "host.docker.internal replaced by localhost.",
        )
        timeout_s: int = Field(30, ge=1, le=3600, description="Time limit of a program, in seconds.")
        memory_mb: int = Field(512, ge=16, description="Memory limit of a program, in MiB.")
        max_output_chars: int = Field(
            16000, ge=200, description="Maximum number of output characters passed to the model."
        )
        max_image_mb: int = Field(
            4, ge=0, description="Maximum size of an image shown in the chat, in MiB; larger images become links."
        )
        max_attachment_mb: int = Field(
            20,
            ge=0,
            description="Maximum size of an attachment, in MiB; larger ones are left out. 0: no attachments.",
        )

    class UserValves(BaseModel):
        """What each user may set."""

        api_key: str = Field(
            "",
            description="Your own API key. Default: the administrator's.",
            json_schema_extra=SECRET,
        )
        show_images: bool = Field(True, description="Show images in the chat.")
        show_progress: bool = Field(True, description="Show the program's output while it runs.")

    def __init__(self) -> None:
        self.valves = self.Valves()
        self.citation = False

    async def run_python(
        self,
        code: str,
        __user__: dict[str, Any] | None = None,
        __event_emitter__: Any = None,
        __files__: list[Any] | None = None,
        __metadata__: dict[str, Any] | None = None,
        __request__: Any = None,
    ) -> str:
        """
        Run a Python 3 program in a fresh sandbox and return its output. numpy, pandas, matplotlib, scipy,
        scikit-learn, statsmodels, seaborn, plotly, sympy, pillow, openpyxl, polars, pyarrow, networkx, opencv,
        beautifulsoup4, lxml, python-docx, pypdf and reportlab are installed; there is no network and no further
        package can be installed.
        The user's attachments are in the folder inputs/. Save plots and other results to the folder
        outputs/: images are shown to the user, other files become links. Nothing is kept between calls.

        :param code: The complete program. Print the results that you need.
        :return: The output and the exit status.
        """
        call = _Call(self.valves, __user__, __event_emitter__, __files__, __metadata__, __request__)
        return await call.run("python", code)

    async def run_javascript(
        self,
        code: str,
        __user__: dict[str, Any] | None = None,
        __event_emitter__: Any = None,
        __files__: list[Any] | None = None,
        __metadata__: dict[str, Any] | None = None,
        __request__: Any = None,
    ) -> str:
        """
        Run a JavaScript program with Node (ES modules or CommonJS), in a fresh sandbox without network, and return its output.
        The user's attachments are in the folder inputs/. Files saved to outputs/ are passed to the user.

        :param code: The complete program. Print the results that you need.
        :return: The output and the exit status.
        """
        call = _Call(self.valves, __user__, __event_emitter__, __files__, __metadata__, __request__)
        return await call.run("node", code)

    async def run_typescript(
        self,
        code: str,
        __user__: dict[str, Any] | None = None,
        __event_emitter__: Any = None,
        __files__: list[Any] | None = None,
        __metadata__: dict[str, Any] | None = None,
        __request__: Any = None,
    ) -> str:
        """
        Run a TypeScript program, in a fresh sandbox without network, and return its output.
        The user's attachments are in the folder inputs/. Files saved to outputs/ are passed to the user.

        :param code: The complete program. Print the results that you need.
        :return: The output and the exit status.
        """
        call = _Call(self.valves, __user__, __event_emitter__, __files__, __metadata__, __request__)
        return await call.run("typescript", code)

    async def run_ruby(
        self,
        code: str,
        __user__: dict[str, Any] | None = None,
        __event_emitter__: Any = None,
        __files__: list[Any] | None = None,
        __metadata__: dict[str, Any] | None = None,
        __request__: Any = None,
    ) -> str:
        """
        Run a Ruby program, in a fresh sandbox without network, and return its output.
        The user's attachments are in the folder inputs/. Files saved to outputs/ are passed to the user.

        :param code: The complete program. Print the results that you need.
        :return: The output and the exit status.
        """
        call = _Call(self.valves, __user__, __event_emitter__, __files__, __metadata__, __request__)
        return await call.run("ruby", code)

    async def run_php(
        self,
        code: str,
        __user__: dict[str, Any] | None = None,
        __event_emitter__: Any = None,
        __files__: list[Any] | None = None,
        __metadata__: dict[str, Any] | None = None,
        __request__: Any = None,
    ) -> str:
        """
        Run a PHP program; it begins with <?php, in a fresh sandbox without network, and return its output.
        The user's attachments are in the folder inputs/. Files saved to outputs/ are passed to the user.

        :param code: The complete program. Print the results that you need.
        :return: The output and the exit status.
        """
        call = _Call(self.valves, __user__, __event_emitter__, __files__, __metadata__, __request__)
        return await call.run("php", code)

    async def run_go(
        self,
        code: str,
        __user__: dict[str, Any] | None = None,
        __event_emitter__: Any = None,
        __files__: list[Any] | None = None,
        __metadata__: dict[str, Any] | None = None,
        __request__: Any = None,
    ) -> str:
        """
        Run a Go program: package main with func main, in a fresh sandbox without network, and return its output.
        The user's attachments are in the folder inputs/. Files saved to outputs/ are passed to the user.

        :param code: The complete program. Print the results that you need.
        :return: The output and the exit status.
        """
        call = _Call(self.valves, __user__, __event_emitter__, __files__, __metadata__, __request__)
        return await call.run("go", code)

    async def run_rust(
        self,
        code: str,
        __user__: dict[str, Any] | None = None,
        __event_emitter__: Any = None,
        __files__: list[Any] | None = None,
        __metadata__: dict[str, Any] | None = None,
        __request__: Any = None,
    ) -> str:
        """
        Run a Rust program with fn main; there are no crates but std, in a fresh sandbox without network, and return its output.
        The user's attachments are in the folder inputs/. Files saved to outputs/ are passed to the user.

        :param code: The complete program. Print the results that you need.
        :return: The output and the exit status.
        """
        call = _Call(self.valves, __user__, __event_emitter__, __files__, __metadata__, __request__)
        return await call.run("rust", code)

    async def run_bash(
        self,
        code: str,
        __user__: dict[str, Any] | None = None,
        __event_emitter__: Any = None,
        __files__: list[Any] | None = None,
        __metadata__: dict[str, Any] | None = None,
        __request__: Any = None,
    ) -> str:
        """
        Run a Bash script; coreutils, jq, bc, awk, sed and zip are there, in a fresh sandbox without network, and return its output.
        The user's attachments are in the folder inputs/. Files saved to outputs/ are passed to the user.

        :param code: The complete program. Print the results that you need.
        :return: The output and the exit status.
        """
        call = _Call(self.valves, __user__, __event_emitter__, __files__, __metadata__, __request__)
        return await call.run("bash", code)

    async def execute_code(
        self,
        code: str,
        language: str,
        __user__: dict[str, Any] | None = None,
        __event_emitter__: Any = None,
        __files__: list[Any] | None = None,
        __metadata__: dict[str, Any] | None = None,
        __request__: Any = None,
    ) -> str:
        """
        Run a program in any language of the service in a fresh sandbox and return its output. There is no network.
        The user's attachments are in the folder inputs/. Files saved to outputs/ are passed to the user.

        :param code: The complete program. Print the results that you need.
        :param language: python, node, typescript, deno, bun, ruby, php, go, rust or bash.
        :return: The output and the exit status.
        """
        call = _Call(self.valves, __user__, __event_emitter__, __files__, __metadata__, __request__)
        return await call.run(language, code)


class Refused(Exception):
    """The program was not run, or its end is not known; the text tells a model what to do about it."""


class _Call:
    """One call of a tool, for one user."""

    def __init__(  # what Open WebUI hands in, any of it may be missing
        self, valves: Any, user: Any, emitter: Any, files: Any, metadata: Any, request: Any
    ) -> None:
        self._valves = valves
        self._user = user if isinstance(user, dict) else {}
        self._emitter = emitter
        self._files = files if isinstance(files, list) else []
        self._metadata = metadata if isinstance(metadata, dict) else {}
        self._request = request
        self._own = _own_valves(self._user)
        self._url = str(valves.api_url).rstrip("/")
        self._notes: list[str] = []

    async def run(self, language: str, code: str) -> str:
        """Run a program; the text for the model, whatever happens."""
        language = str(language).strip().lower()
        await self._status(f"Running {language[:40]}")
        key = self._own.get("api_key") or self._valves.api_key
        timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
        uploaded: list[tuple[str, str]] = []
        try:
            # The key goes to the service alone: not to where it might redirect, and not by way of a proxy's settings.
            async with httpx.AsyncClient(
                headers={"Authorization": f"Bearer {key}"}, timeout=timeout, trust_env=False
            ) as http:
                try:
                    uploaded = await self._stage(http)
                    run = await self._stream(http, self._body(language, code, uploaded))
                    text = _told(run, self._valves.max_output_chars, self._notes)
                    shown = await self._artifacts(http, run)
                finally:
                    await self._forget(http, uploaded)
        except Refused as e:
            await self._status("Not run", done=True)
            return str(e)
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            await self._status("The service is unreachable", done=True)
            return _unreachable(self._url, e)
        except Exception as e:
            await self._status("Failed", done=True)
            return f"Error: the tool failed ({type(e).__name__}). Tell the user; one retry may help."
        await self._status(_ended(run), done=True)
        return "\n\n".join(part for part in (text, *shown) if part)

    # -- the run -----------------------------------------------------------------------------------

    def _body(self, language: str, code: str, uploaded: list[tuple[str, str]]) -> dict[str, Any]:
        fenced = FENCE.match(code)
        body: dict[str, Any] = {
            "language": language,
            "code": fenced[1] if fenced else code,
            "stream": True,
            "limits": {"timeout_ms": self._valves.timeout_s * 1000, "memory_mb": self._valves.memory_mb},
            "metadata": {"client": "open-webui"},
        }
        if isinstance(self._user.get("id"), str):
            body["metadata"]["user"] = self._user["id"][:100]
        if uploaded:
            body["files"] = [{"path": path, "id": file_id} for path, file_id in uploaded]
        return body

    async def _stream(self, http: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
        """The run once it has ended. If this task is cancelled, the service ends the run. Raises Refused."""
        headers = {"Accept": "application/x-ndjson", "Idempotency-Key": f"open-webui-{secrets.token_hex(16)}"}
        for attempt in range(RETRIES + 1):
            async with http.stream("POST", f"{self._url}/v1/runs", json=body, headers=headers) as response:
                if response.status_code == 200:
                    return await self._followed(response)
                answer = await response.aread()
            pause_s = _pause_s(response, attempt)
            if pause_s is None:
                raise Refused(_refusal(response.status_code, answer))
            await self._status("Waiting in the queue")
            await asyncio.sleep(pause_s)
        raise AssertionError("the last attempt has no pause after it")

    async def _followed(self, response: httpx.Response) -> dict[str, Any]:
        """Read events to the last; what it prints is shown, a line a second."""
        held, looked, said_at = bytearray(), 0, time.monotonic()
        async for data in response.aiter_bytes():
            held += data
            while (end := held.find(b"\n", looked)) >= 0:
                event = json.loads(bytes(held[:end]))
                del held[: end + 1]
                looked = 0
                if event["event"] == "result":
                    return dict(event["data"])
                if event["event"] == "error":
                    raise Refused(_failed(event["data"].get("message")))
                if event["event"] == "stdout" and time.monotonic() - said_at > STATUS_S:
                    said_at = time.monotonic()
                    await self._progress(event["data"])
            looked = len(held)
            if looked > MAX_LINE_BYTES:
                raise Refused(_failed("the response is too long"))
        raise Refused(_failed("the connection ended before the program did"))

    # -- attachments -------------------------------------------------------------------------------

    async def _stage(self, http: httpx.AsyncClient) -> list[tuple[str, str]]:
        """Bring what the user attached: paths under inputs/, and ids. What cannot be brought is noted."""
        most = self._valves.max_attachment_mb * 1024 * 1024
        staged: list[tuple[str, str]] = []
        taken: set[str] = set()
        for item in self._files[:MAX_ATTACHMENTS] if most else []:
            if not isinstance(item, dict) or item.get("type", "file") not in ("file", "image"):
                continue  # knowledge, notes, web pages: texts that the model has already
            name = _unused(_name(item), taken)
            content = await self._content(item)
            if content is None or len(content) > most:
                why = (
                    "cannot be read" if content is None else f"is larger than {self._valves.max_attachment_mb} MiB"
                )
                self._notes.append(f"The attachment {name} {why}; it is not in inputs/.")
                continue
            answer = await http.post(f"{self._url}/v1/files", files={"file": (name, content)})
            if answer.status_code != 200:
                self._notes.append(f"The attachment {name} was refused: {_message(answer.content)}")
                continue
            staged.append((name, str(answer.json()["id"])))
        return staged

    async def _content(self, item: dict[str, Any]) -> bytes | None:
        """An attachment's bytes.

        They are asked of Open WebUI's own API, within this process and as the user, so that it decides who may read
        what. Nothing that the item says of paths is believed: it comes from the browser.
        """
        url = str(item.get("url") or "")
        if found := DATA_URI.match(url):
            return base64.b64decode(url[found.end() :])
        inner = _inner(item)
        file_id = str(item.get("id") or inner.get("id") or url)
        token = _token(self._request)
        if self._request is not None and token and FILE_ID.fullmatch(file_id):
            own = httpx.ASGITransport(app=self._request.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=own, base_url="http://localhost") as inside:
                answer = await inside.get(
                    f"/api/v1/files/{file_id}/content", headers={"Authorization": f"Bearer {token}"}
                )
            if answer.status_code == 200:
                return answer.content
        data = inner.get("data")
        text = data.get("content") if isinstance(data, dict) else None
        return text.encode(errors="replace") if isinstance(text, str) and text else None

    async def _forget(self, http: httpx.AsyncClient, uploaded: list[tuple[str, str]]) -> None:
        for _, file_id in uploaded:
            try:
                await http.delete(f"{self._url}/v1/files/{file_id}")
            except httpx.HTTPError:
                return  # they expire by themselves

    # -- what it left ------------------------------------------------------------------------------

    async def _artifacts(self, http: httpx.AsyncClient, run: dict[str, Any]) -> list[str]:
        """Show images in the chat; a line about each file for the model."""
        shown, lines = [], []
        for artifact in run.get("artifacts") or []:
            name = _plain(str(artifact.get("path") or artifact.get("name")))
            picture = await self._picture(http, artifact)
            if picture is not None:
                shown.append({"type": "image", "name": name, "url": picture})
                lines.append(f"- {name}: an image, shown to the user in the chat")
            else:
                link = self._link(artifact.get("url"))
                said = f"[{_label(name)}]({link})" if link else name
                lines.append(
                    f"- {said}: {artifact.get('size')} bytes, the link is valid until {artifact.get('expires_at')}"
                )
        if shown:
            await self._emit({"type": "files", "data": {"files": shown}})
        skipped = [
            f"{_plain(str(one.get('path')))} ({one.get('reason')})"
            for one in (run.get("skipped_artifacts") or [])[:10]
        ]
        parts = []
        if lines:
            parts.append("Files in outputs/ (give the user these links unchanged):\n" + "\n".join(lines))
        if skipped:
            parts.append(f"Not collected: {', '.join(skipped)}")
        return parts

    async def _picture(self, http: httpx.AsyncClient, artifact: dict[str, Any]) -> str | None:
        """An image as a data URI; None for what is to be a link."""
        kind, size = artifact.get("content_type"), artifact.get("size")
        fits = isinstance(size, int) and 0 < size <= self._valves.max_image_mb * 1024 * 1024
        if self._emitter is None or kind not in IMAGES or not fits or not self._own.get("show_images", True):
            return None
        answer = await http.get(f"{self._url}/v1/files/{artifact['id']}/content")
        if answer.status_code != 200:
            return None
        return f"data:{kind};base64,{base64.b64encode(answer.content).decode()}"

    def _link(self, url: Any) -> str | None:
        """A signed link as the user's browser can follow it."""
        parts = urlsplit(str(url or ""))
        if parts.scheme not in ("http", "https") or not parts.netloc:
            return None
        if self._valves.public_url:
            base = urlsplit(str(self._valves.public_url).rstrip("/"))
            return urlunsplit((base.scheme, base.netloc, base.path + parts.path, parts.query, ""))
        netloc = parts.netloc.replace("host.docker.internal", "localhost", 1)
        return urlunsplit((parts.scheme, netloc, parts.path, parts.query, ""))

    # -- what the user sees meanwhile --------------------------------------------------------------

    async def _progress(self, text: Any) -> None:
        line = next((line for line in reversed(str(text).splitlines()) if line.strip()), "")
        if line and self._own.get("show_progress", True):
            await self._status(f"Running: {_plain(line)[:80]}")

    async def _status(self, description: str, *, done: bool = False) -> None:
        await self._emit({"type": "status", "data": {"description": description, "done": done}})

    async def _emit(self, event: dict[str, Any]) -> None:
        if self._emitter is not None:
            try:
                await self._emitter(event)
            except Exception:
                self._emitter = None  # a browser that went away does not end the program


# -- texts for a model -----------------------------------------------------------------------------


def _told(run: dict[str, Any], most: int, notes: list[str]) -> str:
    """How it ended and what it printed."""
    parts = [_verdict(run), *notes]
    compiled = run.get("compile") or {}
    printed = False
    for name, text in (
        ("compiler", f"{compiled.get('stdout') or ''}{compiled.get('stderr') or ''}"),
        ("stdout", run.get("stdout") or ""),
        ("stderr", run.get("stderr") or ""),
    ):
        if text.strip():
            printed = True
            cut = " (truncated by the service)" if run.get(f"{name}_truncated") else ""
            parts.append(f"{name}{cut}:\n{_shortened(text.rstrip(), most)}")
    if not printed and not run.get("artifacts"):
        parts.append("The program printed nothing: print what you want to know.")
    if hint := _hint(run):
        parts.append(hint)
    return "\n\n".join(parts)


def _verdict(run: dict[str, Any]) -> str:
    limits = run.get("limits") or {}
    match run.get("status"):
        case "succeeded":
            return "The program succeeded."
        case "timeout":
            return (
                f"The program was stopped: it ran longer than {limits.get('timeout_ms')} ms. Make it faster, or process "
                "less data per call."
            )
        case "oom":
            return f"The program was stopped: it used more than {limits.get('memory_mb')} MiB of memory. Use less memory."
        case "failed" if run.get("exit_code") is not None:
            return f"The program failed with exit code {run['exit_code']}. Read the error, fix the code and run it again."
        case "failed" if run.get("signal"):
            return f"The program was killed by {run['signal']}."
        case "failed":
            return "Compilation failed. Read the compiler's messages, fix the code and run it again."
        case status:
            return f"The program was stopped by the service ({status})."


def _hint(run: dict[str, Any]) -> str | None:
    text = str(run.get("stderr") or "")
    if re.search(
        r"ModuleNotFoundError|Cannot find (module|package)|cannot load such file|no required module", text
    ):
        return "There is no network, so nothing can be installed: use an installed package or the standard library."
    if re.search(r"Temporary failure in name resolution|Network is unreachable|ENETUNREACH|EAI_AGAIN", text):
        return "The sandbox has no network: use the attached files, or put the data into the code."
    return None


def _refusal(status: int, answer: bytes) -> str:
    said = _message(answer)
    if status in (401, 403):
        return (
            f"Not run: the service refused the key ({said}). Tell the user that the tool's api_key valve is wrong."
        )
    if status in (429, 503):
        return f"Not run: the service is busy or not ready ({said}). Tell the user, or try again later."
    if status >= 500:
        return _failed(said)
    return f"Not run: {said}. Change that and call the tool again."


def _failed(said: Any) -> str:
    return f"The service failed, not the program: {said}. Try once more; if it fails again, tell the user."


def _unreachable(url: str, error: Exception) -> str:
    what = "does not answer in time" if isinstance(error, httpx.TimeoutException) else "cannot be reached"
    return (
        f"The program was not run, or its result is unknown: the Runyard service at {url} {what}. Do not retry repeatedly: tell the "
        "user that the service is down, or that the tool's api_url valve is wrong (from inside a container, localhost "
        "is the container itself)."
    )


def _ended(run: dict[str, Any]) -> str:
    took = (run.get("usage") or {}).get("wall_ms")
    words = {"succeeded": "Ran", "failed": "Failed", "timeout": "Timed out", "oom": "Out of memory"}
    return f"{words.get(str(run.get('status')), 'Ended')} in {took} ms"


def _message(answer: bytes) -> str:
    """The API's own sentence, or the beginning of whatever else answered."""
    try:
        return str(json.loads(answer)["error"]["message"]).rstrip(".")
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"unexpected response, not Runyard's: {answer[:80]!r}"


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    head, tail = text[: most * 2 // 3], text[-(most // 3) :]
    return f"{head}\n[... {len(text) - len(head) - len(tail)} characters left out; print less ...]\n{tail}"


# -- what strangers call things --------------------------------------------------------------------


def _name(item: dict[str, Any]) -> str:
    """An attachment's name, fit to be a file's."""
    inner = _inner(item)
    given = str(item.get("name") or inner.get("filename") or "attachment")
    last = given.replace("\\", "/").rstrip("/").rpartition("/")[2]
    name = _plain(last).strip().strip(".")[:120]
    return name or "attachment"


def _inner(item: dict[str, Any]) -> dict[str, Any]:
    found = item.get("file")
    return found if isinstance(found, dict) else {}


def _unused(name: str, taken: set[str]) -> str:
    stem, dot, ending = name.rpartition(".")
    if not stem:
        stem, dot, ending = name, "", ""
    chosen, number = name, 1
    while chosen in taken:
        number += 1
        chosen = f"{stem} ({number}){dot}{ending}"
    taken.add(chosen)
    return chosen


def _plain(text: str) -> str:
    """Without what cannot be seen."""
    return "".join(char if unicodedata.category(char)[0] not in "CZ" or char == " " else "_" for char in text)


def _label(name: str) -> str:
    """For the text of a link in Markdown: nothing in it is markup."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&])", r"\\\1", name)


def _own_valves(user: dict[str, Any]) -> dict[str, Any]:
    """The user's valves: a model, a dict, or missing."""
    found = user.get("valves")
    if isinstance(found, BaseModel):
        return found.model_dump()
    return dict(found) if isinstance(found, dict) else {}


def _token(request: Any) -> str | None:
    """The user's own token of Open WebUI, as this request brought it."""
    if request is None:
        return None
    held = getattr(getattr(getattr(request, "state", None), "token", None), "credentials", None)
    header = str(request.headers.get("authorization") or "")
    bearer = header[7:] if header[:7].lower() == "bearer " else None
    return held or bearer or request.cookies.get("token")


def _pause_s(response: httpx.Response, attempt: int) -> float | None:
    """Before the next attempt; None where there is to be none."""
    if response.status_code not in (429, 503) or attempt >= RETRIES:
        return None
    text = response.headers.get("retry-after", "")
    pause_s = float(text) if text.isdecimal() else 0.5 * 2**attempt
    return pause_s if pause_s <= LONGEST_PAUSE_S else None
