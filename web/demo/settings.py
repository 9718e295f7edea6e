"""The settings of the demo: the variables DEMO_… of its environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from config.parsers import Network, parse_base_url, parse_networks
from config.static_keys import is_token

_SOURCE = re.compile(r"\*|https?://(\*\.)?[A-Za-z0-9.-]+(:\d{1,5}|:\*)?")


class DemoSettingsError(ValueError):
    """A variable has a value that cannot be used, or is missing."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """The settings of one demo."""

    #: Without a slash at the end; `/code/run` is added to it.
    url: str
    key: str
    bind: str = "127.0.0.1"
    port: int = 3000
    #: The value of the directive of the Content Security Policy: the pages that may embed the demo.
    frame_ancestors: str = "'self'"
    #: Runs at a time, of all browsers together.
    runs: int = 8
    #: Runs a minute of one address.
    rate_per_minute: int = 20
    #: Seconds that a program may take.
    timeout_s: int = 30
    trusted_proxies: tuple[Network, ...] = ()

    def __repr__(self) -> str:
        return f"DemoSettings(url={self.url!r})"


def read_settings(environ: Mapping[str, str]) -> DemoSettings:
    """Return the settings of an environment; an empty variable is unset.

    Raises DemoSettingsError naming the variable, with a key in no message.
    """
    given = {name: value.strip() for name, value in environ.items() if name.startswith("DEMO_") and value.strip()}
    for name in ("DEMO_TINIRUN_URL", "DEMO_TINIRUN_API_KEY"):
        if name not in given:
            raise DemoSettingsError(f"{name}: must be set; see docs/dialects-tinirun-demo.md")
    if not is_token(given["DEMO_TINIRUN_API_KEY"]):
        raise DemoSettingsError(
            "DEMO_TINIRUN_API_KEY: must be 1 to 256 visible ASCII characters without `,` and `:`"
        )
    try:
        url = parse_base_url("DEMO_TINIRUN_URL", given["DEMO_TINIRUN_URL"])
        proxies = parse_networks(given.get("DEMO_TRUSTED_PROXIES", ""), "DEMO_TRUSTED_PROXIES")
    except ValueError as e:
        raise DemoSettingsError(str(e)) from e
    return DemoSettings(
        url=url,
        key=given["DEMO_TINIRUN_API_KEY"],
        bind=given.get("DEMO_BIND", "127.0.0.1"),
        port=_number(given, "DEMO_PORT", 3000, 0, 65_535),
        frame_ancestors=_sources(given.get("DEMO_FRAME_ANCESTORS", "'self'")),
        runs=_number(given, "DEMO_RUNS", 8, 1, 256),
        rate_per_minute=_number(given, "DEMO_RATE_PER_MINUTE", 20, 1, 6000),
        timeout_s=_number(given, "DEMO_TIMEOUT_S", 30, 5, 300),
        trusted_proxies=proxies,
    )


def _number(given: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = given.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise DemoSettingsError(f"{name}: must be an integer from {least} to {most}")
    return int(text)


def _sources(text: str) -> str:
    """Check a list of sources: nothing in it may begin another directive or header."""
    words = text.split()
    if words in (["'none'"], ["'self'"]) or all(word == "'self'" or _SOURCE.fullmatch(word) for word in words):
        return " ".join(words)
    raise DemoSettingsError(
        "DEMO_FRAME_ANCESTORS: must be 'none', or origins such as https://docs.example.org, 'self' and *, "
        "separated by spaces"
    )
