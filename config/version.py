"""The version of the service, as it tells clients that ask for it."""

from __future__ import annotations

#: That of pyproject.toml, which a test compares.
VERSION = "0.1.0"
