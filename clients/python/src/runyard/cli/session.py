"""The client that a command uses: made when it is first needed, closed when the command has ended."""

from __future__ import annotations

from functools import cached_property
from types import TracebackType
from typing import Self

from runyard.client import Client
from runyard.config import Config


class Session:
    """The options that stand before a command."""

    def __init__(self, url: str | None, api_key: str | None) -> None:
        self.url = url
        self.api_key = api_key

    @cached_property
    def client(self) -> Client:
        """Return the client. Raises ConfigError."""
        return Client(self.url, self.api_key)

    @property
    def config(self) -> Config:
        """Return the configuration and the source of each value."""
        return self.client.config

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if "client" in self.__dict__:
            self.client.close()
