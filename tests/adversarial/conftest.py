"""The service itself (oci/crun/template), and what must hold of it after every case of this folder."""

from __future__ import annotations

import pytest

from tests.adversarial.invariants import Invariants


@pytest.fixture(scope="session")
def _invariants(service):
    made = Invariants(service)
    yield made
    made.finish()


@pytest.fixture
def invariants(_invariants):
    """Checked when the case is over, whatever became of it."""
    yield _invariants
    _invariants.check()
