"""Collecting from several workers: the end of a collection, and the descriptors that it used."""

from __future__ import annotations

import os
import select
import threading
from contextlib import closing

import pytest

from dispatch import ClientGone, FeedItem
from dispatch.amqp_feed import MergedFeed
from dispatch.amqp_workers import RemoteWorker, WorkerDirectory
from dispatch.interrupt import Interrupt
from tests.support.workers import until
from transport.endpoint import Peer


class SlowToLeave:
    """A worker that says what runs it has and then nothing; a collector that leaves is noticed late."""

    def __init__(self):
        self.followers = 0
        self.may_end = threading.Event()

    def collect(self, *, client_fd):
        yield FeedItem("runs", {"live": {}})
        self.followers += 1
        poller = select.poll()
        poller.register(client_fd, 0)
        assert poller.poll(10_000)
        self.may_end.wait(10)
        # The descriptor is the same pipe still: another one may not have taken its number.
        assert poller.poll(0)[0][1] == select.POLLHUP
        self.followers -= 1
        raise ClientGone


def descriptors():
    return set(os.listdir("/proc/self/fd"))


def test_a_collection_leaves_no_descriptor_however_late_its_threads_end():
    directory, worker = WorkerDirectory(), SlowToLeave()
    facts = {"languages": ["bash"], "isolations": ["default"], "places": 1, "load": 0}
    directory.announce(RemoteWorker(Peer("one", "q.one", 0.0), None, worker, None), facts)
    before, threads = descriptors(), threading.active_count()
    for _ in range(3):
        interrupt = Interrupt()
        with closing(interrupt), closing(MergedFeed(directory, lambda: 0.0).items(interrupt.fd)) as items:
            assert next(items).kind == "found"
            until(lambda: worker.followers > 0)
            interrupt.set()
            with pytest.raises(ClientGone):
                next(items)
    until(lambda: worker.followers == 3)
    worker.may_end.set()
    until(lambda: worker.followers == 0)
    until(lambda: threading.active_count() == threads)
    assert descriptors() == before
