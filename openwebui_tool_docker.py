"""
title: Runyard (from a container)
description: Runs code in locked-down sandboxes of Runyard, one session a chat; shows figures and tables, links files.
version: 0.1.0
license: MIT
required_open_webui_version: 0.5.0
"""

# Made by clients/openwebui.py from openwebui_tool.py: change that, not this.
#
# Paste this into Open WebUI (Workspace > Tools > +), and set its valves: the address of your Runyard service and
# a key. If Open WebUI runs in a container, this file is the one to take.
#
# One instance serves every user at once, so nothing about a call is kept on it. It needs nothing but what
# Open WebUI itself is made of.

import asyncio
import base64
import hashlib
import json
import re
import secrets
import time
import unicodedata
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
from pydantic import BaseModel, Field

#: Shown in the chat; everything else is a link. No type that a browser would execute is among them.
IMAGES = {"image/png", "image/jpeg", "image/gif", "image/webp"}
#: The service sends an event at least every five seconds.
SILENCE_S = 30.0
CONNECT_S = 10.0
RETRIES = 3
LONGEST_PAUSE_S = 15.0
#: Between two looks at what it prints, in the status line.
STATUS_S = 1.0
MAX_LINE_BYTES = 128 * 1024 * 1024
MAX_ATTACHMENTS = 32
#: What comes before a version, extras or anything else.
PACKAGE_NAME = re.compile(r"@?[a-z0-9*][a-z0-9._/-]*")
FENCE = re.compile(r"\A\s*```[\w+#.-]*[ \t]*\n(.*?)\n?```\s*\Z", re.DOTALL)
FILE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
SECRET: Any = {"input": {"type": "password"}}
#: Languages whose code is executed as cells, with results; in a chat they keep their variables.
CELL_LANGUAGES = {
    "python": "python", "py": "python", "python3": "python",
    "node": "node", "js": "node", "javascript": "node", "nodejs": "node",
    "typescript": "typescript", "ts": "typescript",
    "ruby": "ruby", "rb": "ruby",
}  # fmt: skip
MAX_TABLE_ROWS = 20
MAX_TABLE_COLUMNS = 12
MAX_CELL_CHARS = 80
DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,", re.ASCII)


class Tools:
    """The functions that a model may call."""

    class Valves(BaseModel):
        """The administrator's settings."""

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
        keep_minutes: int = Field(
            30,
            ge=0,
            le=1440,
            description="Minutes without a call for which a chat keeps its variables and files, in a session of the "
            "service. 0: each call has a fresh sandbox.",
        )
        packages: str = Field(
            "",
            description="Names of packages that the model may have installed, comma-separated, such as humanize, "
            "@types/node; * for all that the service permits. Default: none.",
        )

    class UserValves(BaseModel):
        """Each user's settings."""

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
        packages: list[str] | None = None,
        __user__: dict[str, Any] | None = None,
        __event_emitter__: Any = None,
        __files__: list[Any] | None = None,
        __metadata__: dict[str, Any] | None = None,
        __request__: Any = None,
    ) -> str:
        """
        Run Python 3 code in a sandbox and return its output and the value of its last expression. numpy, pandas, matplotlib, scipy,
        scikit-learn, statsmodels, seaborn, plotly, sympy, pillow, openpyxl, polars, pyarrow, networkx, opencv,
        beautifulsoup4, lxml, python-docx, pypdf and reportlab are installed; there is no network. Further packages are
        installed only by the parameter packages, if the administrator permits them.
        The user's attachments are in the folder inputs/. Figures (plt.show()) and tables are shown to the user, as are
        images saved to the folder outputs/; other files there become links. Variables, imports and files are kept for
        the next call in the same chat, unless the result says otherwise.

        :param code: The code. Print the results that you need.
        :param packages: Packages to install first, such as ["humanize==4.12.3"]. With any, the call has a fresh sandbox.
        :return: The output and the exit status.
        """
        call = _Call(self.valves, __user__, __event_emitter__, __files__, __metadata__, __request__)
        return await call.run("python", code, packages)

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
        Run a JavaScript program with Node (ES modules or CommonJS), in a sandbox without network, and return its output and last value.
        The user's attachments are in the folder inputs/. Variables and files are kept
        for the next call in the same chat, unless the result says otherwise. Files saved to outputs/ are passed to the user.

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
        Run a TypeScript program, in a sandbox without network, and return its output and last value.
        The user's attachments are in the folder inputs/. Variables and files are kept
        for the next call in the same chat, unless the result says otherwise. Files saved to outputs/ are passed to the user.

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
        Run a Ruby program, in a sandbox without network, and return its output and last value.
        The user's attachments are in the folder inputs/. Variables and files are kept
        for the next call in the same chat, unless the result says otherwise. Files saved to outputs/ are passed to the user.

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
        packages: list[str] | None = None,
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
        :param packages: Packages of the language to install first, such as ["lodash@4.17.21"], if they are permitted.
        :return: The output and the exit status.
        """
        call = _Call(self.valves, __user__, __event_emitter__, __files__, __metadata__, __request__)
        return await call.run(language, code, packages)


class Refused(Exception):
    """The program was not run, or its end is not known; the text instructs the model."""


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

    async def run(self, language: str, code: str, packages: Any = None) -> str:
        """Run a program and return the text for the model, also after any error."""
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
                    wanted = self._permitted(packages)
                    uploaded = await self._stage(http)
                    run = await self._run(http, language, code, uploaded, wanted)
                    text = _told(run, self._valves.max_output_chars, self._notes)
                    await self._show(run)
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

    async def _run(
        self,
        http: httpx.AsyncClient,
        language: str,
        code: str,
        uploaded: list[tuple[str, str]],
        packages: list[str],
    ) -> dict[str, Any]:
        """The run once it has ended: in the chat's session if there is one. Raises Refused."""
        body = self._body(language, code, uploaded)
        if packages:
            # A session has its packages from its beginning: this call has a sandbox of its own.
            body["packages"] = packages
            self._notes.append("With packages a call has a fresh sandbox: nothing of other calls is there.")
        for _ in range(0 if packages else 2):
            session = await self._session(http, CELL_LANGUAGES.get(language))
            if session is None:
                break
            found = await self._stream(http, f"/v1/sessions/{session}/runs", _in_session(body), may_be_gone=True)
            if found is not None:
                if found.get("state") == "lost":
                    self._notes.append("The interpreter was restarted: the variables are gone, the files are kept.")
                return found
        if language in CELL_LANGUAGES:
            body["results"] = True
        run = await self._stream(http, "/v1/runs", body)
        assert run is not None
        return run

    def _permitted(self, packages: Any) -> list[str]:
        """The packages that the model asks for. Raises Refused for one that the valve does not name."""
        if isinstance(packages, str):  # some models send a list as text
            packages = packages.split(",")
        wanted = [str(one).strip() for one in packages or [] if str(one).strip()]
        permitted = [one.strip() for one in str(self._valves.packages).split(",") if one.strip()]
        names = {_package_name(one) for one in permitted}
        for one in wanted:
            if "*" not in names and _package_name(one) not in names:
                known = ", ".join(permitted) or "none"
                raise Refused(f"Not run: the package {one[:60]} is not permitted here; permitted: {known}.")
        return wanted

    def _body(self, language: str, code: str, uploaded: list[tuple[str, str]]) -> dict[str, Any]:
        fenced = FENCE.match(code)
        body: dict[str, Any] = {
            "language": language,
            "code": fenced[1] if fenced else code,
            "stream": True,
            "limits": {"timeout_ms": self._valves.timeout_s * 1000, "memory_mb": self._valves.memory_mb},
            "metadata": self._marks(),
        }
        if uploaded:
            body["files"] = [{"path": path, "id": file_id} for path, file_id in uploaded]
        return body

    def _marks(self) -> dict[str, str]:
        marks = {"client": "open-webui"}
        if isinstance(self._user.get("id"), str):
            marks["user"] = self._user["id"][:100]
        return marks

    async def _stream(
        self, http: httpx.AsyncClient, path: str, body: dict[str, Any], *, may_be_gone: bool = False
    ) -> dict[str, Any] | None:
        """The run once it has ended. If this task is cancelled, the service ends the run. Raises Refused.

        With `may_be_gone` None if there is no such session any more.
        """
        headers = {"Accept": "application/x-ndjson", "Idempotency-Key": f"open-webui-{secrets.token_hex(16)}"}
        for attempt in range(RETRIES + 1):
            async with http.stream("POST", f"{self._url}{path}", json=body, headers=headers) as response:
                if response.status_code == 200:
                    return await self._followed(response)
                answer = await response.aread()
            if may_be_gone and response.status_code in (404, 410):
                return None
            pause_s = _pause_s(response, attempt)
            if pause_s is None:
                raise Refused(_refusal(response.status_code, answer))
            await self._status("Waiting in the queue")
            await asyncio.sleep(pause_s)
        raise AssertionError("the last attempt has no pause after it")

    # -- the session of a chat ---------------------------------------------------------------------

    async def _session(self, http: httpx.AsyncClient, language: str | None) -> str | None:
        """The id of the chat's session of a language, which is created if there is none; None to go without.

        The model is told when variables that it may count on are gone, or are not kept.
        """
        name = self._session_name(language)
        if name is None:
            return None
        asked = {
            "language": language,
            "name": name,
            "limits": {"memory_mb": self._valves.memory_mb},
            "idle_timeout_s": self._valves.keep_minutes * 60,
            "metadata": self._marks(),
        }
        answer = await http.post(f"{self._url}/v1/sessions", json=asked)
        if answer.status_code == 409 and _code(answer.content) == "session_differs":  # the valves were changed
            for one in (await self._earlier(http, name))[:1]:
                await http.delete(f"{self._url}/v1/sessions/{one['id']}")
            answer = await http.post(f"{self._url}/v1/sessions", json=asked)
        if answer.status_code not in (200, 201):
            if answer.status_code not in (400, 401, 403):  # the run will say that itself
                self._notes.append(
                    f"Nothing is kept for the next call: the service gave no session ({_message(answer.content)})."
                )
            return None
        if answer.status_code == 201:
            ended = [one for one in await self._earlier(http, name) if one.get("status") == "ended"]
            if ended:
                why = _plain(str(ended[0].get("end_reason")))
                self._notes.append(
                    f"The chat's earlier session has ended ({why}): variables and files of earlier calls are gone."
                )
        return str(answer.json()["id"])

    async def _earlier(self, http: httpx.AsyncClient, name: str) -> list[dict[str, Any]]:
        """The sessions of that name, the newest first."""
        query = {"name": name, "limit": "2", "order": "desc"}
        answer = await http.get(f"{self._url}/v1/sessions", params=query)
        return list(answer.json()["data"]) if answer.status_code == 200 else []

    def _session_name(self, language: str | None) -> str | None:
        """A name that only this user's chat has; None if nothing is to be kept."""
        chat = self._metadata.get("chat_id")
        # Temporary chats have no id of their own.
        if language is None or not self._valves.keep_minutes or not isinstance(chat, str) or not chat:
            return None
        if chat.startswith("local"):
            return None
        whose = f"{self._user.get('id')}\0{chat}".encode("utf-8", "replace")
        return f"open-webui-{language}-{hashlib.sha256(whose).hexdigest()[:40]}"

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
                    if str(event["data"].get("code")).startswith("package_"):
                        raise Refused(_refusal(400, json.dumps({"error": event["data"]}).encode()))
                    raise Refused(_failed(event["data"].get("message")))
                if event["event"] == "info" and event["data"].get("output"):
                    await self._progress(str(event["data"]["output"]))
                if event["event"] == "stdout" and time.monotonic() - said_at > STATUS_S:
                    said_at = time.monotonic()
                    await self._progress(event["data"])
            looked = len(held)
            if looked > MAX_LINE_BYTES:
                raise Refused(_failed("the response is too long"))
        raise Refused(_failed("the connection ended before the program did"))

    # -- attachments -------------------------------------------------------------------------------

    async def _stage(self, http: httpx.AsyncClient) -> list[tuple[str, str]]:
        """Upload the user's attachments. Returns paths under inputs/ and ids; failures are noted for the model."""
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
        what. The item's paths are not trusted: they come from the browser.
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

    async def _show(self, run: dict[str, Any]) -> None:
        """Show figures as images, and tables as Markdown. Nothing of a program's HTML reaches the page.

        Figures that the program has saved too are shown as what it has saved.
        """
        saved = sum(one.get("content_type") in IMAGES for one in run.get("artifacts") or [])
        most = self._valves.max_image_mb * 1024 * 1024
        images: list[dict[str, str]] = []
        for result in run.get("results") or []:
            for kind in ("png", "jpeg"):
                data = result.get(kind)
                if isinstance(data, str) and 0 < len(data) * 3 // 4 <= most and self._own.get("show_images", True):
                    name = f"figure-{len(images) + 1}.{kind}"
                    images.append({"type": "image", "name": name, "url": f"data:image/{kind};base64,{data}"})
                    break
            if isinstance(result.get("data"), dict) and (table := _table(result["data"])):
                await self._emit({"type": "message", "data": {"content": f"\n\n{table}\n\n"}})
        if len(images) > saved:
            await self._emit({"type": "files", "data": {"files": images}})

    async def _picture(self, http: httpx.AsyncClient, artifact: dict[str, Any]) -> str | None:
        """Return an image as a data URI; None for a file that is shown as a link."""
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
    """Describe the end of the run and its output."""
    parts = [_verdict(run), *notes]
    compiled = run.get("compile") or {}
    raised = run.get("exception") or {}
    printed = False
    for name, text in (
        ("compiler", f"{compiled.get('stdout') or ''}{compiled.get('stderr') or ''}"),
        ("stdout", run.get("stdout") or ""),
        ("stderr", run.get("stderr") or ""),
        ("exception", "\n".join(raised.get("traceback") or [])),
        ("results", "\n".join(_described(result) for result in run.get("results") or [])),
    ):
        if text.strip():
            printed = True
            cut = " (truncated by the service)" if run.get(f"{name}_truncated") else ""
            parts.append(f"{name}{cut}:\n{_shortened(text.rstrip(), most)}")
    if run.get("results_dropped"):
        parts.append(f"{run['results_dropped']} more results were left out: show fewer.")
    if not printed and not run.get("artifacts"):
        parts.append("The program printed nothing: print what you want to know.")
    if hint := _hint(run):
        parts.append(hint)
    return "\n\n".join(parts)


def _described(result: dict[str, Any]) -> str:
    """Describe one result for a model: its text, and what the user sees of it."""
    kinds = [kind for kind in ("png", "jpeg") if kind in result]
    seen = (
        "[an image, shown to the user] " if kinds else "[a table, shown to the user]\n" if "data" in result else ""
    )
    if kinds and not result.get("is_main_result"):
        return seen.strip()
    text = next(
        (str(result[kind]) for kind in ("text", "markdown", "latex", "json", "html") if result.get(kind)), ""
    )
    return f"{seen}{text}" or f"[a result of the formats {', '.join(sorted(result))}]"


def _table(data: dict[str, Any]) -> str:
    """Return the beginning of a table, given as lists by column, as Markdown; empty if it is none."""
    columns = [(str(name), column) for name, column in data.items() if isinstance(column, list)]
    if not columns or len(columns) != len(data):
        return ""
    count = max(len(column) for _, column in columns)
    shown = columns[:MAX_TABLE_COLUMNS]
    rows = [[name for name, _ in shown], ["---"] * len(shown)]
    rows += [
        [column[at] if at < len(column) else "" for _, column in shown] for at in range(min(count, MAX_TABLE_ROWS))
    ]
    lines = [
        "| " + " | ".join(cell if number == 1 else _field(cell) for cell in row) + " |"
        for number, row in enumerate(rows)
    ]
    if count > MAX_TABLE_ROWS or len(columns) > MAX_TABLE_COLUMNS:
        lines.append(f"\n{count} rows and {len(columns)} columns in all")
    return "\n".join(lines)


def _field(value: Any) -> str:
    """A value in a cell of a Markdown table, as text without markup."""
    text = "" if value is None else _plain(str(value))
    return _label(text if len(text) <= MAX_CELL_CHARS else f"{text[:MAX_CELL_CHARS]}…")


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
    """Return what the service says about the cause of a failure."""
    hints = [one for one in run.get("hints") or [] if isinstance(one, dict)]
    said = [str(one.get("message")) for one in hints]
    if any(one.get("code") == "module_not_found" for one in hints):
        said.append(
            "There is no network, so nothing can be installed: use an installed package or the standard library."
        )
    if any(one.get("code") == "network_disabled" for one in hints):
        said.append("The sandbox has no network: use the attached files, or put the data into the code.")
    return " ".join(said) or None


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


def _package_name(text: str) -> str:
    """The name in an entry of packages, as registries compare names."""
    name = PACKAGE_NAME.match(text.lower())
    return re.sub(r"[-_.]+", "-", name[0]) if name else text


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
    """Return the API's own sentence, or the beginning of any other answer."""
    try:
        return str(json.loads(answer)["error"]["message"]).rstrip(".")
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"unexpected response, not Runyard's: {answer[:80]!r}"


def _code(answer: bytes) -> str:
    """Return the code of the API's error; empty for any other answer."""
    try:
        return str(json.loads(answer)["error"]["code"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _in_session(body: dict[str, Any]) -> dict[str, Any]:
    """The same request for a session, which has its own memory."""
    return body | {"limits": {"timeout_ms": body["limits"]["timeout_ms"]}}


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    head, tail = text[: most * 2 // 3], text[-(most // 3) :]
    return f"{head}\n[... {len(text) - len(head) - len(tail)} characters left out; print less ...]\n{tail}"


# -- untrusted names -------------------------------------------------------------------------------


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
    """Return the pause before the next attempt; None if there must be none."""
    if response.status_code not in (429, 503) or attempt >= RETRIES:
        return None
    text = response.headers.get("retry-after", "")
    pause_s = float(text) if text.isdecimal() else 0.5 * 2**attempt
    return pause_s if pause_s <= LONGEST_PAUSE_S else None
