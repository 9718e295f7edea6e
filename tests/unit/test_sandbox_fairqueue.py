"""The policy of admission: held against a model, and what it promises to keys that hold little."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandbox.admission.fair_queue import BeyondShare, FairQueue, KeyLimitReached, Overloaded
from sandbox.admission.reservation import Reservation, reserve_of

NEVER = float("inf")


class Model:
    """The policy without ageing, as simply as it can be said: lists, and totals that are added up each time."""

    def __init__(self, places, memory_mb, queue):
        self.places, self.memory_mb, self.queue = places, memory_mb, queue
        self.held, self.waiting, self.turns = [], [], []

    def keys(self):
        return {place.key for place in self.held + self.waiting}

    def of(self, places, key):
        return [place for place in places if place.key == key]

    def holds_little(self, key, keys):
        held, sharers = self.of(self.held, key), max(2, len(keys | {key}))
        used = sum(place.memory_mb for place in held)
        return len(held) < self.places / sharers and used < self.memory_mb / sharers

    def may_run(self, place, keys):
        running, used = len(self.held), sum(other.memory_mb for other in self.held)
        if place.most_running is not None and len(self.of(self.held, place.key)) >= place.most_running:
            return False
        little = self.holds_little(place.key, keys)
        places = self.places - (0 if little else reserve_of(self.places, 2))
        memory_mb = self.memory_mb - (0 if little else reserve_of(self.memory_mb, 512))
        return running < places and (not running or used + place.memory_mb <= memory_mb)

    def enter(self, place, most_waiting):
        """`held`, `waits`, or the error; and who was evicted."""
        keys = self.keys() | {place.key}
        if self.may_run(place, keys):
            self.held.append(place)
            return "held", None
        own = len(self.of(self.waiting, place.key))
        if most_waiting is not None and own >= most_waiting:
            return KeyLimitReached, None
        little = own < self.queue / max(2, len(keys))
        general = self.queue - reserve_of(self.queue, 2)
        evicted = None
        if len(self.waiting) >= (self.queue if little else general):
            longest = max(self.turns, key=lambda key: len(self.of(self.waiting, key)), default=None)
            if little and longest is not None and len(self.of(self.waiting, longest)) - 1 > own:
                evicted = self.of(self.waiting, longest)[-1]
                self.dequeue(evicted)
            elif general < self.queue and (own or self.of(self.held, place.key)):
                beyond = not (little and self.holds_little(place.key, keys))
                return (BeyondShare if beyond else Overloaded), None
            else:
                return Overloaded, None
        self.waiting.append(place)
        if place.key not in self.turns:
            self.turns.append(place.key)
        return "waits", evicted

    def dequeue(self, place):
        self.waiting.remove(place)
        if not self.of(self.waiting, place.key):
            self.turns.remove(place.key)

    def leave(self, place):
        """Who is admitted, in order."""
        if place in self.held:
            self.held.remove(place)
        else:
            self.dequeue(place)
        admitted = []
        while (found := self.next()) is not None:
            self.dequeue(found)
            if found.key in self.turns:
                self.turns.remove(found.key)
                self.turns.append(found.key)
            self.held.append(found)
            admitted.append(found)
        return admitted

    def next(self):
        in_turn = [place for key in self.turns for place in self.of(self.waiting, key)]
        return next((place for place in in_turn if self.may_run(place, self.keys())), None)


class Policy(RuleBasedStateMachine):
    """Any sequence of arrivals and departures: the policy does what the model does."""

    patience_s = NEVER

    def __init__(self):
        super().__init__()
        self.places, self.now = [], 0.0
        self.sizes = (8, 4096, 12)
        self.policy = FairQueue(places=8, memory_mb=4096, queue=12, patience_s=self.patience_s)
        self.model = Model(*self.sizes)

    @rule(
        key=st.sampled_from("aaaaabbcdef"),
        memory_mb=st.sampled_from([16, 256, 256, 512, 2048, 3000, 5000]),
        most=st.sampled_from([None, None, None, (2, 3)]),
    )
    def enter(self, key, memory_mb, most):
        running, waiting = most or (None, None)
        place = Reservation(key, memory_mb, most_running=running)
        expected, evicted = self.model.enter(place, waiting)
        if isinstance(expected, type):
            with pytest.raises(expected) as raised:
                self.policy.enter(place, self.now, waiting)
            assert raised.type is expected
            return
        assert self.policy.enter(place, self.now, waiting) is evicted
        assert ("held" if place.held else "waits") == expected
        self.places.append(place)
        if evicted is not None:
            assert evicted.evicted
            assert self.policy.leave(evicted, self.now) == []
            self.places.remove(evicted)

    @precondition(lambda self: self.places)
    @rule(data=st.data())
    def leave(self, data):
        place = self.places.pop(data.draw(st.integers(0, len(self.places) - 1)))
        assert self.policy.leave(place, self.now) == self.model.leave(place)

    @invariant()
    def the_totals_are_right(self):
        held = [place for place in self.places if place.held]
        policy = self.policy
        assert (policy.running, policy.used_mb) == (len(held), sum(place.memory_mb for place in held))
        assert policy.waiting == len(self.places) - len(held) <= policy.queue
        assert policy.running <= policy.most
        assert policy.used_mb <= policy.memory_mb or policy.running == 1
        for pool in (policy.general, policy.reserve):
            assert 0 <= pool.running <= pool.most
            assert pool.used_mb >= 0
        assert set(policy._keys) == {place.key for place in self.places}
        assert policy.reserve.used_mb <= policy.reserve.memory_mb or policy.running == 1


class Ageing(Policy):
    """The same with time: no model of the order, but the totals hold and everybody gets a place."""

    patience_s = 5.0

    @rule(key=st.sampled_from("aaaabc"), memory_mb=st.sampled_from([16, 256, 512, 2048, 3000, 5000]))
    def enter(self, key, memory_mb):
        place = Reservation(key, memory_mb)
        try:
            evicted = self.policy.enter(place, self.now)
        except (KeyLimitReached, Overloaded):
            return
        self.places.append(place)
        if evicted is not None:
            self.places.remove(evicted)

    @precondition(lambda self: self.places)
    @rule(data=st.data())
    def leave(self, data):
        self.policy.leave(self.places.pop(data.draw(st.integers(0, len(self.places) - 1))), self.now)

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0]))
    def time_passes(self, seconds):
        self.now += seconds

    def teardown(self):
        """Whatever came before: when those that run end, all others get their places."""
        while self.places:
            held = [place for place in self.places if place.held]
            assert held, "some wait and none runs"
            self.places.remove(held[0])
            self.now += 0.5
            self.policy.leave(held[0], self.now)
        assert self.policy._keys == {}
        assert not self.policy._borrowed


Policy.TestCase.settings = Ageing.TestCase.settings = settings(
    max_examples=80, stateful_step_count=50, deadline=None
)
TestPolicy = Policy.TestCase
TestAgeing = Ageing.TestCase


def queue(**changes):
    return FairQueue(**({"places": 32, "memory_mb": 18_000, "queue": 64, "patience_s": 5.0} | changes))


def flood(policy, key, memory_mb=256, now=0.0):
    """Take all that one key may have."""
    places = []
    while True:
        place = Reservation(key, memory_mb)
        try:
            policy.enter(place, now)
        except BeyondShare:
            return places
        places.append(place)


def test_runs_that_do_not_fit_hold_nobody_up():
    """Nine sleepers of 2 GiB: there are places and memory left, for the same key and for others."""
    policy = queue()
    large = [Reservation("a", 2048) for _ in range(9)]
    for place in large:
        policy.enter(place, 0.0)
    assert sum(place.held for place in large) == 7
    for key in "ab":
        hello = Reservation(key, 256)
        policy.enter(hello, 0.0)
        assert hello.held


def test_what_is_passed_over_gets_its_turn_within_a_bound():
    """Small runs go on arriving for ever; the large one waits for its patience and for those that run then."""
    policy = queue(memory_mb=8192)
    runs = [Reservation(key, 1024) for key in "aabbccdd"]
    for place in runs:
        policy.enter(place, 0.0)
    large, now, ends = Reservation("l", 4096), 0.0, []
    policy.enter(large, now)
    running = [place for place in runs if place.held]
    while not large.held:
        now += 0.5
        oldest = running.pop(0)
        policy.leave(oldest, now)
        small = Reservation("abcd"[len(ends) % 4], 1024)
        policy.enter(small, now)
        runs.append(small)
        running += [place for place in runs if place.held and place not in running and place not in ends]
        ends.append(oldest)
        assert now < 5.0 + 8 * 0.5, "its patience, and the runs that were in its way"
    assert now > 5.0, "it was passed over before"


def test_the_reserve_stays_open_while_a_large_run_is_waited_for():
    policy = queue()
    large = [Reservation("a", 2048) for _ in range(12)]
    for place in large:
        policy.enter(place, 0.0)
    small = Reservation("a", 256)
    policy.enter(small, 0.0)
    assert small.held
    hellos = [Reservation(key, 256) for key in "abc"]
    for place in hellos:
        policy.enter(place, 6.0)
    assert [place.held for place in hellos] == [False, True, True]
    assert policy.leave(large[0], 6.0) == [large[7], hellos[0]]


@pytest.mark.parametrize("keys", [2, 10, 50])
@pytest.mark.parametrize("memory_mb", [256, 2048])
def test_a_key_that_takes_all_it_can_does_not_have_others_refused(keys, memory_mb):
    policy = queue()
    greedy = flood(policy, "greedy", memory_mb)
    assert policy.waiting == 56
    others = [f"key_{number}" for number in range(keys - 1)]
    hellos, evicted = [], []
    for _ in range(max(1, 8 // len(others))):
        for key in others:
            hello = Reservation(key, 256)
            gone = policy.enter(hello, 1.0)  # nobody of them is refused
            evicted += [gone] if gone is not None else []
            hellos.append(hello)
    assert {place.key for place in evicted} <= {"greedy"}
    assert sum(place.held for place in hellos) >= min(4, len(hellos))
    with pytest.raises(BeyondShare):
        policy.enter(Reservation("greedy", memory_mb), 1.0)
    # Each of them that ends makes room for the next: all have run before the greedy one's runs end.
    waiting = [place for place in hellos if not place.held]
    while waiting:
        done = next(place for place in hellos if place.held)
        hellos.remove(done)
        policy.leave(done, 1.1)
        waiting = [place for place in waiting if not place.held]
    assert all(
        place.held == (place in greedy[: sum(p.held for p in greedy)]) for place in greedy if not place.evicted
    )


def test_one_key_alone_leaves_an_eighth():
    policy = queue()
    places = flood(policy, "a")
    assert (sum(place.held for place in places), len(places)) == (28, 28 + 56)


def test_two_keys_have_half_each_and_nothing_lies_idle():
    policy = queue()
    a, b = flood(policy, "a"), []
    for _ in range(32):
        b.append(Reservation("b", 256))
        policy.enter(b[-1], 0.0)
    for place in a[:28]:
        policy.leave(place, 1.0)
    held = {key: sum(place.held and place not in a[:28] for place in a + b if place.key == key) for key in "ab"}
    assert held == {"a": 16, "b": 16}


def test_a_small_service_reserves_nothing():
    policy = FairQueue(places=2, memory_mb=600, queue=1, patience_s=5.0)
    places = [Reservation("a", 256) for _ in range(3)]
    for place in places:
        policy.enter(place, 0.0)
    assert [place.held for place in places] == [True, True, False]
    with pytest.raises(Overloaded):
        policy.enter(Reservation("a", 256), 0.0)
