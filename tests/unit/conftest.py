"""What several unit tests start from."""

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_environment():
    """Undo what a test changes in the environment: programs take settings into it, and the next test reads them."""
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def fresh_agent(monkeypatch):
    """The agent's package can be imported, anew: no other test's state is in it."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "runners"))
    for name in [name for name in sys.modules if name == "agent" or name.startswith("agent.")]:
        monkeypatch.delitem(sys.modules, name)
