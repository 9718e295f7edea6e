"""The commands that `make up` prints: each works as it stands, wherever the service is. Standard library only."""

from __future__ import annotations

import os
import shlex

from config.roles import Role
from ops.state import DEFAULT_STATE_DIR, StatePlace

FIRST_LANGUAGE = "python"
_HELLO = {
    "python": "print(1+1)",
    "node": "console.log(1+1)",
    "bash": "echo $((1+1))",
    "go": "package main\\nfunc main() { println(1+1) }",
    "rust": 'fn main() { println!(\\"{}\\", 1+1) }',
}
DEVELOPMENT_TOKEN = "dev_123"  # noqa: S105  # of a service for development


def first_language() -> str:
    """Return the language that is built and tried first, of those that LANGUAGES names."""
    wanted = [name.strip() for name in os.environ.get("LANGUAGES", "").split(",") if name.strip()]
    return FIRST_LANGUAGE if not wanted or FIRST_LANGUAGE in wanted else wanted[0]


def make_command(place: StatePlace, what: str) -> str:
    """Return a command of `make` for the service of `place`, with the variable that it needs."""
    is_default = str(place.state_dir) == DEFAULT_STATE_DIR
    return f"make {what}" if is_default else f"STATE_DIR={shlex.quote(str(place.state_dir))} make {what}"


def first_token() -> str | None:
    """Return the first static token of this process's settings; None if there is none."""
    token = os.environ.get("API_KEYS", "").split(",")[0].split(":")[0].strip()
    if token:
        return token
    return DEVELOPMENT_TOKEN if os.environ.get("RUNYARD_ENV") == "development" else None


def token_line(place: StatePlace) -> str:
    """Describe the token to use, with the command that shows a secret one."""
    token = first_token()
    if token is None:
        return f"Token: none is set; create a key: {make_command(place, _CREATE_KEY)}"
    if token == DEVELOPMENT_TOKEN:
        return f"Token: {token} (the development token)"
    return f"Token: *** (the first of API_KEYS). Show it with: {make_command(place, '-s token')}"


def greeting(place: StatePlace, url: str, role: Role, after_s: float, *, in_foreground: bool = False) -> str:
    """Return the text that ends a good start."""
    end = f"Log: {place.log}. Stop with: {make_command(place, 'down')}"
    if in_foreground:
        end = "Stop with: Ctrl-C"
    if not role.has_api:
        return f"Runyard's worker is up after {after_s:.1f} s; it takes runs from the broker.\n{end}"
    name = "Runyard" if role.has_worker else "Runyard's api"
    return f"{name} is up after {after_s:.1f} s: {url}\n{token_line(place)}\n{end}\n\n{example(place, url)}"


def example(place: StatePlace, url: str) -> str:
    """Return shell commands that run a first program; they hold no secret."""
    token, first = first_token(), ""
    if token != DEVELOPMENT_TOKEN:
        show = "-s token" if token is not None else f"-s {_CREATE_KEY}"
        first, token = f"TOKEN=$({make_command(place, show)})\n", "$TOKEN"
    language = first_language()
    return (
        f'{first}curl -s {shlex.quote(f"{url}/v1/runs")} -H "Authorization: Bearer {token}" '
        "-H 'Content-Type: application/json' \\\n"
        f"""  -d '{{"language":"{language}","code":"{_HELLO.get(language, "")}"}}'"""
    )


_CREATE_KEY = "keys KEYS='create --plan free'"
