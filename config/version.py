"""The version of Runyard: the only place that it is written in for the service."""

from __future__ import annotations

VERSION = "0.1.0"
