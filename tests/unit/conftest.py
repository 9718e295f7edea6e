"""What several unit tests start from."""

import sys
from pathlib import Path

import pytest


@pytest.fixture
def fresh_agent(monkeypatch):
    """The agent's package can be imported, anew: no other test's state is in it."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "runners"))
    for name in [name for name in sys.modules if name == "agent" or name.startswith("agent.")]:
        monkeypatch.delitem(sys.modules, name)
