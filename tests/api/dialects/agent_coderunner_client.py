"""A client of agent-coderunner, written from its pages: it knows their paths, fields and headers alone."""

from __future__ import annotations

import http.client
import json
from urllib.parse import quote, urlencode


class CoderunnerError(Exception):
    """An answer that is an error, with its status and its fields."""

    def __init__(self, status, body):
        super().__init__(f"{status} {body}")
        self.status, self.body = status, body


class Coderunner:
    """The service at an address; without a key calls are counted by address."""

    def __init__(self, host, port, key=None, *, base="", headers=None):
        self._host, self._port, self._base = host, port, base
        self._headers = dict(headers or {}) | ({"Authorization": f"Bearer {key}"} if key else {})

    def create_key(self):
        """Create a key without sign-up, as the page says."""
        return self._json("POST", "/api/keys")["apiKey"]

    def execute(self, code, language=None, **fields):
        return self._json(
            "POST", "/api/execute", {"code": code, **({"language": language} if language else {}), **fields}
        )

    def run(self, language, code, **query):
        return self._json("GET", f"/api/run/{language}?{urlencode({'code': code, **query})}")

    def languages(self):
        return self._json("GET", "/api/languages")["languages"]

    def session(self, language):
        return Session(self, self._json("POST", "/api/sessions", {"language": language}))

    def executions(self):
        """Return the whole history, read page by page."""
        found, cursor = [], ""
        while cursor is not None:
            page = self._json("GET", f"/api/executions?limit=100{cursor and '&cursor=' + cursor}")
            found += page["executions"]
            cursor = page["nextCursor"]
        return found

    def execution(self, name):
        return self._json("GET", f"/api/executions/{name}")

    def _json(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        return json.loads(self.ask(method, path, data, {"Content-Type": "application/json"}))

    def ask(self, method, path, data=None, headers=None):
        connection = http.client.HTTPConnection(self._host, self._port, timeout=90)
        try:
            connection.request(method, self._base + path, data, self._headers | (headers or {}))
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise CoderunnerError(answer.status, json.loads(raw))
        return raw


class Session:
    """A session: variables and files stay in it."""

    def __init__(self, service, made):
        self._service = service
        self.id, self.language = made["sessionId"], made["language"]
        self._path = f"/api/sessions/{self.id}"

    def execute(self, code, **fields):
        return self._service._json("POST", f"{self._path}/execute", {"code": code, **fields})

    def put(self, path, data):
        return json.loads(self._service.ask("PUT", f"{self._path}/files/{quote(path)}", data))

    def get(self, path):
        return self._service.ask("GET", f"{self._path}/files/{quote(path)}")

    def remove(self, path):
        return json.loads(self._service.ask("DELETE", f"{self._path}/files/{quote(path)}"))

    def files(self):
        return {row["path"]: row["size"] for row in self._service._json("GET", f"{self._path}/files")["files"]}

    def end(self):
        return self._service._json("DELETE", self._path)
