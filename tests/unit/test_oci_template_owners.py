"""Of the owners of templates a bounded number is kept; who has not used his for longest goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandbox.engines.oci.templates.lru import OwnerLru


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@given(st.lists(st.sampled_from("abcdef")), st.integers(1, 4))
def test_those_used_last_are_kept(uses, most):
    owners, kept = OwnerLru(most, unused_s=1000, clock=Clock()), []
    for owner in uses:
        leaving = owners.use(owner)
        kept = [name for name in kept if name != owner] + [owner]
        assert leaving == kept[:-most]
        kept = kept[-most:]


def test_what_has_long_not_been_used_is_given_up():
    clock = Clock()
    owners = OwnerLru(8, unused_s=60, clock=clock)
    owners.use("a")
    clock.now = 50
    assert owners.use("b") == []
    clock.now = 61
    assert owners.use("b") == ["a"]
